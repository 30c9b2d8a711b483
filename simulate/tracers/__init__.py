"""The uptake of each tracer, healthy and diseased; `simulate.tracer` is their front."""
