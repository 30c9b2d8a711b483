"""Objects whose truth is known."""
