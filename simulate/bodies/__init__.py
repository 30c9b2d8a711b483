"""Bodies of real people: heads from CTs, with the parts that a CT lacks from the typical head."""

ENDING = ".body.npz"
"""End of the name of a body's file."""
