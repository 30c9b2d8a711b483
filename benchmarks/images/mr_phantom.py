"""An independent head: labels of one MR as a patient whose tissues are ours.

The phantom (BenAuer2021, MIT licence; without sinuses) comes as two zip files of labels, DaT_phantom.zip and
Brain_Perfusion_phantom.zip.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon import Grid
from spectac.recon.types import Array
from spectac.simulate.acquire import Patient
from spectac.simulate.head import Head
from spectac.simulate.regions import LABEL
from spectac.simulate.uptake import Uptake

SIZE, VOXEL_MM = 120, 2.0
DENSITY = {0: 0.0012, 1: 1.61, 2: 1.06, 3: 1.04}
"""Density in g/cm3 of the phantom's four materials: air, skull, soft tissue, brain."""

REGION = {0: "outside", 1: "skull", 2: "muscle", 3: "right white matter"}
"""Regions of spectac.simulate that are made of these materials."""

KBQ_PER_UNIT = 0.03
"""Activity of one unit of the source volumes, in kBq/mL."""

MATRIX = (80, 80)
"""The middle of the camera's 128 x 128 pixels, which holds the head."""

NUCLIDE = {"dat": "I-123", "perfusion": "Tc-99m"}


@dataclass(frozen=True, eq=False)
class Phantom:
    """The patient and the regions (name -> (z, y, x) of 0 and 1 on the head's grid) whose means are compared."""

    patient: Patient
    regions: dict[str, Array]


def load(folder: Path, tracer: str) -> Phantom:
    """Phantom with its axis through the middle of its matrix."""
    labels = np.zeros((SIZE, SIZE, SIZE), np.int64)
    labels[21:98, 16:106, 23:95] = _read(folder, "DaT_phantom.zip", "DaT_Attenuation_72x90x77.i33").reshape(77, 90, 72)
    sources = {
        "dat": _read(folder, "DaT_phantom.zip", "DaT_Source_120x120x120.i33"),
        "perfusion": _read(folder, "Brain_Perfusion_phantom.zip", "Brain_Perfusion_Source_120x120x120.i33"),
    }
    volumes = {name: values.reshape(labels.shape) for name, values in sources.items()}
    grid = Grid.upright(labels.shape, (VOXEL_MM,) * 3, [-0.5 * (SIZE - 1) * VOXEL_MM] * 3)
    ours = np.zeros(4, np.uint8)
    density = np.zeros(4, np.float32)
    for index, name in REGION.items():
        ours[index], density[index] = LABEL[name], DENSITY[index]
    head = Head(grid, ours[labels], density[labels], {"phantom": "benauer"})
    kbq = volumes[tracer].astype(np.float32) * np.float32(KBQ_PER_UNIT)
    # Only the perfusion source separates grey from white matter; both sources are of one head.
    grey_and_white = volumes["perfusion"]
    regions = {
        "striata": grey_and_white == 1012,
        "cortex": grey_and_white == 920,
        "white matter": grey_and_white == 230,
    }
    uptake = Uptake(kbq, NUCLIDE[tracer], tracer, {}, None)
    return Phantom(Patient(head, uptake), {name: mask.astype(np.float32) for name, mask in regions.items()})


def _read(folder: Path, archive: str, name: str) -> Array:
    with zipfile.ZipFile(folder / archive) as file:
        return np.frombuffer(file.read(name), "<u2")
