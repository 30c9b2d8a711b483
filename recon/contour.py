"""Head outline."""
from dataclasses import dataclass
from spectac.recon.types import Array, Grid, Image
@dataclass(frozen=True, eq=False)
class Outline:
    """Outline."""
    mask: Array
    grid: Grid
    warnings: tuple[str, ...] = ()
def head_outline(photopeak: Image, scatter: Image | None = None) -> Outline:
    """Outline."""
    import numpy as np
    v = photopeak.values
    return Outline((v > 0.3*np.percentile(v,99)).astype("float32"), photopeak.grid)
