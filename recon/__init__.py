"""From raw SPECT projections to quantitative images."""
