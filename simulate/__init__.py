"""Virtual patients with known ground truth: heads, tracers, cameras, and the counts that a camera measures."""
