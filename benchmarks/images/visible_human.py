"""The Visible Human's head (National Library of Medicine): the CT of one man as a virtual patient.

The file (vis_male.nrrd, 8 bits) does not document its scale: HU are about 16 v - 1024, known to 24. That is harmless
where the same map is the truth.
"""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np

from spectac.recon import Grid, InputError
from spectac.recon.types import Array
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD
from spectac.simulate.bodies.body import body_of
from spectac.simulate.bodies.pose import posed
from spectac.simulate.head import Head
from spectac.simulate.typical_head import typical_head

HU_PER_STEP, HU_OF_ZERO = 16.0, -1024.0
STRAIGHT = replace(
    ADULT_AND_CHILD,
    pitch_deg=(0.0, 0.0),
    yaw_deg=(0.0, 0.0),
    roll_deg=(0.0, 0.0),
    shift_mm=(0.0, 0.0),
    neck_length_mm=(25.0, 25.0),
    holder_probability=0.0,
)
"""The pose: straight, in the middle of the field, without a holder."""
UNMIRRORED = 1
"""A seed whose pose is no mirror image."""


def read_hu(path: Path) -> tuple[Array, Grid]:
    """HU (z, y, x) of the NRRD file, feet first, and their grid with its middle at the origin."""
    header, _, values = path.read_bytes().partition(b"\n\n")
    lines = header.decode("ascii").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))
    if not lines or not lines[0].startswith("NRRD") or fields.get("encoding") != "gzip":
        raise InputError(f"{path}: no gzipped NRRD file")
    shape = tuple(int(n) for n in reversed(fields["sizes"].split()))
    steps = np.array(
        [[float(n) for n in part.split(",")] for part in fields["space directions"].strip("()").split(") (")]
    )
    voxel_mm = tuple(float(length) for length in reversed(np.abs(steps).sum(axis=1)))
    found = np.frombuffer(gzip.decompress(values), np.uint8).reshape(shape)
    # The first level is the vertex, whatever the header says.
    hu = np.ascontiguousarray(found[::-1], np.float32) * np.float32(HU_PER_STEP) + np.float32(HU_OF_ZERO)
    first = [-0.5 * (n - 1) * length for n, length in zip(shape, voxel_mm, strict=True)]
    return hu, Grid.upright(shape, voxel_mm, first[::-1])


def visible_human_head(path: Path) -> Head:
    """The head as a virtual one: tissues and densities from its HU, brain regions from the typical head."""
    hu, grid = read_hu(path)
    body = body_of("visible human", hu, np.ones(hu.shape, bool), grid, typical_head())
    head = posed(body, np.random.default_rng(UNMIRRORED), ranges=STRAIGHT)
    assert not head.parameters["mirrored"]
    return head
