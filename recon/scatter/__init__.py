"""Expected scatter: from windows beside the photopeak, by Monte Carlo, or by a plug-in."""
