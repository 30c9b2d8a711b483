"""What each tracer does in a head, healthy and diseased; `simulate.uptake` is their front."""
