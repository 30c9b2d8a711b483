"""The attenuation map estimated from the SPECT data alone, and fed back into the reconstruction."""
