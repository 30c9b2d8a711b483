"""The mu-map of a CT series drawn over the CT, to see that the bone is where the bone is.

    python benchmarks/skull_ct.py CT_FOLDER -o skull_ct.png

Made for the skull phantom of real bone in the tests' data. Above: CT numbers with the line of mu = 0.2 /cm at
140.5 keV; below: the unblurred map.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from spectac.recon.ct import mu_map
from spectac.recon.io.dicom.ct import read_series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", type=Path, metavar="CT_FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    options = parser.parse_args()
    volume = read_series(options.series)
    mu = mu_map(volume, 140.5, blur_fwhm_mm=0.0)
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    heights = mu.grid.centres_mm()[0]
    for column, share in zip(axes.T, (0.25, 0.5, 0.75), strict=True):
        k = int(share * mu.grid.shape[0])
        j = int(np.argmin(np.abs(volume.grid.centres_mm()[0] - heights[k])))
        _, y, x = volume.grid.centres_mm()
        place = (x[0], x[-1], y[-1], y[0])
        column[0].imshow(volume.hu[j], cmap="gray", vmin=-1000, vmax=1500, extent=place)
        _, coarse_y, coarse_x = mu.grid.centres_mm()
        column[0].contour(coarse_x, coarse_y, mu.per_cm[k], levels=[0.2], colors="#f97316", linewidths=0.8)
        drawn = column[1].imshow(mu.per_cm[k], cmap="gray", vmin=0, vmax=0.3, extent=place)
        column[0].set_title(f"z = {heights[k]:.0f} mm: CT and mu = 0.2 /cm", fontsize=10)
        column[1].set_title("mu at 140.5 keV, 1/cm", fontsize=10)
    figure.colorbar(drawn, ax=axes[1, -1])
    figure.savefig(options.output, dpi=60)
    bone = mu.per_cm[mu.per_cm > 0.2]
    print(f"bone: {bone.size * mu.grid.voxel_ml:.0f} mL above 0.2 /cm, median {np.median(bone):.3f} /cm")


if __name__ == "__main__":
    main()
