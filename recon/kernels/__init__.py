"""Kernels of the projector: `reference` (plain numpy, float64) and `cpu` (numba)."""
