"""VOIs: shares of voxels from labels, and a template that finds a head wherever it lies."""

import numpy as np
import pytest

from spectac.recon import voi
from spectac.recon.errors import InputError
from spectac.recon.filters import gaussian
from spectac.recon.quantify import southampton_sbr, voi_mean, voi_total
from spectac.recon.resample import resample
from spectac.recon.types import Grid, Image


def centre_mm(weights, grid):
    """Centre of mass (x, y, z) in LPS mm."""
    z, y, x = grid.centres_mm()
    total = weights.sum()
    sums = (weights.sum(axis=(0, 1)), weights.sum(axis=(0, 2)), weights.sum(axis=(1, 2)))
    return np.array([axis @ part / total for axis, part in zip((x, y, z), sums, strict=True)])


def turned(pitch_deg, yaw_deg, shift_mm, scale):
    """Affine (4, 4) from the template's LPS mm to a patient's, written out here and not taken from voi.py."""
    p, w = np.radians([pitch_deg, yaw_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(w), -np.sin(w), 0], [np.sin(w), np.cos(w), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ np.diag(scale)
    matrix[:3, 3] = shift_mm
    return matrix


def patient(motion, levels, seed=None):
    """Image of the template's head after a motion, 9 mm FWHM, 4 mm voxels, and its label volume as shares."""
    labels, grid, names = voi.template()
    affine = motion @ grid.affine_lps
    lengths = tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    moved = Grid(grid.shape, lengths, affine)
    table = np.array([levels.get(names.get(label, ""), 0.0) for label in range(max(names) + 1)], np.float32)
    corners = affine @ np.array([[0, 0, 0, 1], [*np.array(grid.shape) - 1, 1]], float).T
    middle = corners[:3].mean(axis=1)
    image_grid = Grid.upright((64, 64, 64), (4.0, 4.0, 4.0), middle - 126.0)
    values = gaussian(resample(table[labels], moved, image_grid), image_grid.voxel_mm, 9.0)
    if seed is not None:
        values = np.maximum(values * (1 + 0.1 * np.random.default_rng(seed).standard_normal(values.shape)), 0)
    true, _ = voi.on_grid(voi.grouped(labels, names), moved, image_grid)
    return Image(values.astype(np.float32), image_grid, "relative"), true


DAT = voi.LEVELS["dat"]
ONE_SIDED = DAT | {"right putamen": 1.2, "right caudate": 2.0}


@pytest.mark.parametrize(
    ("motion", "levels"),
    [
        (turned(0, 0, (0, 0, 0), (1, 1, 1)), DAT),
        (turned(14, -6, (10, -8, 12), (0.95, 1.04, 0.97)), DAT),
        (turned(-12, 7, (-9, 5, -10), (1.03, 0.96, 1.05)), ONE_SIDED),
    ],
    ids=["as it is", "chin down, turned, narrower", "chin up, one striatum nearly gone"],
)
def test_the_template_finds_itself_after_any_motion(motion, levels, figure):
    """Striata within 1 mm, a sixth of the 6 mm steps of the search's samples, whatever the disease."""
    image, true = patient(motion, levels, seed=3)
    placed = voi.place(image, "dat")
    for name in ("right caudate", "left caudate", "right putamen", "left putamen", "reference"):
        off = float(np.linalg.norm(centre_mm(placed.masks[name], image.grid) - centre_mm(true[name], image.grid)))
        figure(f"placed {name}, mm off", off, "1")
        assert off < 1.0
        assert placed.masks[name].sum() == pytest.approx(true[name].sum(), rel=0.05)
    # x grows to the patient's left, whatever the template calls its sides.
    right, left = (centre_mm(placed.masks[f"{side} putamen"], image.grid)[0] for side in ("right", "left"))
    assert left - right == pytest.approx(50.0, abs=12.0)


def test_the_tracer_is_told_apart_by_what_shines():
    image, _ = patient(turned(3, 2, (4, 2, 6), (1, 1, 1)), voi.LEVELS["perfusion"], seed=1)
    assert voi.place(image).tracer == "perfusion"


def test_what_is_no_brain_is_refused():
    grid = Grid.upright((32, 32, 32), (4.0, 4.0, 4.0), (-62, -62, -62))
    noise = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    with pytest.raises(InputError, match="does not look like a brain's dat scan"):
        voi.place(Image(noise, grid, "relative"), "dat")
    with pytest.raises(InputError, match="shows no head"):
        voi.place(Image(np.zeros(grid.shape, np.float32), grid, "relative"))
    with pytest.raises(InputError, match="tracer 'fdg' is not one of dat, perfusion"):
        voi.place(Image(noise, grid, "relative"), "fdg")


def test_shares_keep_a_region_s_volume():
    """A box of 10 x 10 x 10 labels of 2 mm is 8 mL on voxels of 4.4 mm as well, within the trilinear's border."""
    fine = Grid.upright((40, 40, 40), (2.0, 2.0, 2.0), (-39, -39, -39))
    labels = np.zeros(fine.shape, np.int64)
    labels[12:22, 15:25, 11:21] = 7
    coarse = Grid.upright((20, 20, 20), (4.4, 4.4, 4.4), (-41.8, -41.8, -41.8))
    vois = voi.from_labels(labels, fine, {}, coarse, "labels of box.nii.gz")
    assert list(vois.masks) == ["label 7"]
    assert vois.masks["label 7"].sum() * coarse.voxel_ml == pytest.approx(8.0, rel=0.02)
    np.testing.assert_allclose(centre_mm(vois.masks["label 7"], coarse), (-8.0, 0.0, -6.0), atol=0.1)


def test_labels_beside_the_image_are_refused():
    fine = Grid.upright((8, 8, 8), (2.0, 2.0, 2.0), (500, 500, 500))
    coarse = Grid.upright((20, 20, 20), (4.4, 4.4, 4.4), (-41.8, -41.8, -41.8))
    with pytest.raises(InputError, match="no labelled region lies in the image"):
        voi.from_labels(np.ones(fine.shape, np.int64), fine, {1: "brain"}, coarse, "labels of x.nii.gz")


def test_the_southampton_boxes_hold_their_striatum_and_nothing_of_the_other():
    labels, grid, names = voi.template()
    masks, cut = voi.on_grid(voi.grouped(labels, names), grid, grid)
    assert cut == ()
    right, left = masks["right striatum box"], masks["left striatum box"]
    assert (right * left).max() == 0
    for side, box in (("right", right), ("left", left)):
        assert box[masks[f"{side} striatum"] > 0].min() == 1
        other = "left" if side == "right" else "right"
        assert (box * masks[f"{other} striatum"]).max() == 0
    # 15 mm around: the volume of a body of V and surface A grows by about A d + ..., here to some tenfold.
    assert 60 < right.sum() * grid.voxel_ml < 140
    assert (masks["brain without striata"] * (right + left)).max() == 0


def test_a_share_computed_around_the_mask_is_that_of_the_whole_grid():
    """On a turned source grid, with a mask that the target's end cuts."""
    straight = Grid.upright((20, 22, 24), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    affine = turned(12, 20, (-30, -20, -10), (1, 1, 1)) @ straight.affine_lps
    source = Grid(straight.shape, straight.voxel_mm, affine)
    mask = np.zeros(source.shape, bool)
    mask[5:14, 8:19, 3:21] = True
    target = Grid.upright((14, 16, 18), (3.3, 3.3, 3.3), (-20.0, -15.0, -5.0))
    whole = np.clip(resample(mask.astype(np.float32), source, target), 0, 1)
    assert 0 < whole.sum() * target.voxel_ml < 0.9 * mask.sum() * source.voxel_ml
    np.testing.assert_array_equal(voi.share_on_grid(mask, source, target), whole)


def test_the_southampton_ratio_does_not_depend_on_the_blur(figure):
    """Boxes, and a reference deep inside the skull: within 5 % from 0 to 8 mm FWHM, on voxels of 2 or 4.4 mm.

    At 12 mm the ratio of this template, 2.3, has grown by 0.3: what is beside the deep brain begins to show.
    """
    labels, grid, names = voi.template()
    table = np.array([DAT.get(names.get(label, ""), 0.0) for label in range(max(names) + 1)], np.float32)
    z = grid.centres_mm()[0]
    coarse = Grid.upright((60, 64, 64), (4.4, 4.4, 4.4), (-140.0, -140.0, z[-1] - 250.0))
    found = []
    vois = {own: voi.from_labels(labels, grid, names, own, "template").masks for own in (grid, coarse)}
    for fwhm_mm in (0.0, 8.0, 12.0):
        blurred = gaussian(table[labels], grid.voxel_mm, fwhm_mm)
        for own, masks in vois.items():
            values = resample(blurred, grid, own)
            box = masks["left striatum box"]
            total, volume = voi_total(values, box, own.voxel_ml), float(box.sum()) * own.voxel_ml
            found.append(southampton_sbr(total, volume, voi_mean(values, masks["brain without striata"])))
    figure("Southampton SBR at 8 mm over 0 mm", found[3] / found[0], "1 +- 0.05")
    np.testing.assert_allclose(found[:4], found[0], rtol=0.05)
    np.testing.assert_allclose(found, found[0], rtol=0.15)


def test_a_region_of_which_a_part_has_no_label_is_no_region():
    labels = np.zeros((4, 4, 4), np.int64)
    labels[0], labels[1], labels[2], labels[3] = 1, 2, 3, 4
    names = {1: "right caudate", 2: "left caudate", 3: "tumour"}
    assert set(voi.grouped(labels, names)) == {"right caudate", "left caudate", "caudate", "tumour", "label 4"}


def test_what_the_field_cuts_is_named():
    fine = Grid.upright((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    labels = np.zeros(fine.shape, np.int64)
    labels[2:8, 2:8, 2:4] = 1
    labels[2:8, 2:8, 6:9] = 2
    field = Grid.upright((12, 12, 8), (2.0, 2.0, 2.0), (-2.0, -2.0, -2.0))
    assert voi.from_labels(labels, fine, {}, field, "x").cut == ("label 2",)
