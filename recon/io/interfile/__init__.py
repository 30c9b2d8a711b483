"""Interfile 3.3 in the dialects of STIR and SIMIND: projections, images and mu-maps."""
