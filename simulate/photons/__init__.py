"""Photon histories and their detection; `simulate.montecarlo` runs them."""
