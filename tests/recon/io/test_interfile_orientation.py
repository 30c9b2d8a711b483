"""A hot spot at the patient's left, front and top must come back there, whatever the dialect and sense of rotation.

The columns are written down from what each camera position sees, not computed: matrix 17 wide and 9 high, axis in the
middle (column 8, row 4), the spot 3 pixels to the left, 4 to the front, 2 up.
  camera behind the patient: left is on the camera's left, column 8 - 3 = 5
  camera at the patient's left: the front is on the camera's left, column 8 - 4 = 4
  camera in front: left is on the camera's right, column 8 + 3 = 11
  camera at the patient's right: the front is on the camera's right, column 8 + 4 = 12
File row 0 is the top: row 4 - 2 = 2.
"""

import numpy as np
import pytest

from spectac.recon.geometry import default_grid
from spectac.recon.io import open_study
from spectac.recon.system import SystemModel

COLUMN = {"back": 5, "left": 4, "front": 11, "right": 12}

HEADER = """!INTERFILE :=
!originating system := {system}
!name of data file := p.s
!number format := {number_format}
!number of bytes per pixel := 4
imagedata byte order := LITTLEENDIAN
;# Radionuclide := tc99m
isotope name := Tc-99m
energy window lower level[1] := 126
energy window upper level[1] := 154
!matrix size [1] := 17
!matrix size [2] := 9
scaling factor (mm/pixel) [1] := 4
scaling factor (mm/pixel) [2] := 4
!number of projections := 4
!extent of rotation := 360
!time per projection (sec) := 1
orbit := circular
Radius := 200
!direction of rotation := {direction}
start angle := {start}
!END OF INTERFILE :=
"""

# Seen from the feet of a supine patient, counter-clockwise is back, left, front, right.
ORBITS = [
    # SIMIND: zero in front of the patient, a positive start angle is clockwise.
    ("simind", "CCW", 0, ["front", "right", "back", "left"]),
    ("simind", "CW", 0, ["front", "left", "back", "right"]),
    ("simind", "CCW", 90, ["left", "front", "right", "back"]),
    ("simind", "CW", 90, ["left", "back", "right", "front"]),
    # STIR: zero behind the patient, as DICOM.
    ("other", "CW", 180, ["front", "left", "back", "right"]),
    ("other", "CCW", 180, ["front", "right", "back", "left"]),
    ("other", "CCW", 0, ["back", "left", "front", "right"]),
    ("other", "CW", 270, ["right", "front", "left", "back"]),
]


def _hottest(folder, system, direction, start, views):
    data = np.zeros((4, 9, 17), "<f4")
    for view, place in enumerate(views):
        data[view, 2, COLUMN[place]] = 1000.0
    data.tofile(folder / "p.s")
    number_format = "short float" if system == "simind" else "float"
    text = HEADER.format(system=system, direction=direction, start=start, number_format=number_format)
    (folder / "p.hs").write_text(text)
    study = open_study(folder / "p.hs")
    grid = default_grid(study.acquisition)
    model = SystemModel(study.acquisition, grid, resolution=False)
    sensitivity = model.adjoint(np.ones(model.projections_shape, np.float32))
    image = (sensitivity > 0).astype(np.float32)
    for _ in range(20):
        expected = model.forward(image)
        ratio = np.divide(study.counts[0], expected, out=np.zeros_like(expected), where=expected > 1e-6)
        image *= np.divide(model.adjoint(ratio), sensitivity, out=np.zeros_like(image), where=sensitivity > 0)
    z, y, x = np.unravel_index(np.argmax(image), image.shape)
    left, back, up, _ = grid.affine_lps @ [z, y, x, 1]
    return (left, back, up), float(image[z, y, x] * grid.voxel_ml)


@pytest.mark.parametrize(("system", "direction", "start", "views"), ORBITS)
def test_hot_spot_left_front_top_comes_back_there(tmp_path, system, direction, start, views):
    place_mm, counts_per_second = _hottest(tmp_path, system, direction, start, views)
    # 3, 4 and 2 pixels of 4 mm; minus y is the front.
    assert place_mm == pytest.approx((12.0, -16.0, 8.0))
    # All of it: 1000 counts in each view of 1 s; decay is 1e-4 in 4 s; 20 updates from a flat image leave 1 % outside.
    assert counts_per_second == pytest.approx(1000.0, rel=0.02)


@pytest.mark.parametrize(("system", "direction", "start", "views"), ORBITS)
def test_the_other_sense_of_rotation_puts_it_elsewhere(tmp_path, system, direction, start, views):
    """The test above can fail: the same frames under the opposite direction land at a mirrored place."""
    other = {"CW": "CCW", "CCW": "CW"}[direction]
    place_mm, _ = _hottest(tmp_path, system, other, start, views)
    assert place_mm != pytest.approx((12.0, -16.0, 8.0))
