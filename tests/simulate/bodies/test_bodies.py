"""Bodies of real people: a virtual head, seen by a CT that lacks its vertex, comes back; poses, files, cohorts."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import spectac.simulate.bodies.body as body_module
from spectac.recon import Grid, Image, InputError
from spectac.recon.io.nifti import write_image
from spectac.recon.itk import itk_image
from spectac.recon.resample import resample
from spectac.recon.tissues import MATERIALS, cm2_per_g
from spectac.simulate.anatomy.placement import rotation
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD
from spectac.simulate.bodies.bend import NODES, STRETCH, Bend
from spectac.simulate.bodies.body import BASE_MM, KEV, LEAST_OVERLAP, Body, _tissues, body_of
from spectac.simulate.bodies.folder import cts_in, read_ct
from spectac.simulate.bodies.pose import posed
from spectac.simulate.bodies.stored import bodies_in, read_body, write_body
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.patient import simulate_patient
from spectac.simulate.cohort.patient_arrays import nearest
from spectac.simulate.cohort.shards import read_facts
from spectac.simulate.ct_scan import ct_scan
from spectac.simulate.head import draw_head
from spectac.simulate.regions import BONE, INTRACRANIAL, LABEL, MATERIAL_OF_LABEL, labels
from spectac.simulate.typical_head import typical_head

STRAIGHT = replace(ADULT_AND_CHILD, pitch_deg=(0.0, 0.0), yaw_deg=(0.0, 0.0), roll_deg=(0.0, 0.0), shift_mm=(0.0, 0.0))


def lopsided():
    """A block of brain with a right striatum beside the middle, bone around it, and a chin below."""
    grid = Grid.upright((60, 60, 50), (4.0, 4.0, 4.0), (-98.0, -118.0, -178.0))
    z, y, x = grid.centres_mm()
    distance = np.sqrt((z[:, None, None] / 70) ** 2 + (y[:, None] / 85) ** 2 + (x / 70) ** 2)
    found = np.where(distance < 1.1, LABEL["skull"], 0)
    found = np.where(distance < 1.0, LABEL["right white matter"], found)
    found = np.where((distance < 1.0) & (x > 0), LABEL["left white matter"], found)
    spot = (np.abs(z) < 12)[:, None, None] & (np.abs(y) < 20)[:, None] & (x < -12) & (x > -40)
    found = np.where(spot, LABEL["right putamen"], found)
    neck = (z < -60)[:, None, None] & (np.hypot(x, y[:, None]) < 50)
    found = np.where(neck & (found == 0), LABEL["muscle"], found).astype(np.uint8)
    return Body("block", grid, found, np.where(found > 0, np.float32(1.04), np.float32(0)), -110.0, 0.0)


def test_a_straight_pose_keeps_every_voxel():
    body = lopsided()
    for seed in range(4):
        head = posed(body, np.random.default_rng(seed), ranges=replace(STRAIGHT, holder_probability=0.0))
        back = nearest(body.labels, body.grid, head.grid)
        flipped = head.labels[:, :, ::-1] if head.parameters["mirrored"] else head.labels
        putamen = LABEL["left putamen" if head.parameters["mirrored"] else "right putamen"]
        assert ((flipped > 0) == (back > 0)).all()
        assert ((flipped == putamen) == (back == LABEL["right putamen"])).all()
        sides = np.argwhere(head.labels == putamen)[:, 2] * 4.0 + head.grid.centres_mm()[2][0]
        assert (sides > 0).all() == head.parameters["mirrored"]
        assert head.density.sum() == pytest.approx(float((back > 0).sum()) * 1.04, rel=0.02)


def test_a_pose_turns_and_shifts_as_drawn_heads_are(figure):
    """The spot's middle lies where rotation and shift put it; the neck is cut, the holder lies behind."""
    body = lopsided()
    ranges = replace(ADULT_AND_CHILD, holder_probability=1.0, pillow_probability=1.0)
    for seed in (3, 8):
        head = posed(body, np.random.default_rng(seed), ranges=ranges)
        p = head.parameters
        side = 1.0 if p["mirrored"] else -1.0
        turn = rotation(p["pitch_deg"], p["yaw_deg"], p["roll_deg"])
        wanted = turn @ np.array([side * 26.0, 0.0, 0.0]) + [p["shift_x_mm"], p["shift_y_mm"], p["shift_z_mm"]]
        spot = np.isin(head.labels, labels("putamen"))
        axes = head.grid.centres_mm()
        found = [float(axis[index].mean()) for axis, index in zip(axes, np.nonzero(spot), strict=True)]
        figure("striatum of a posed body beside its place, mm", float(np.abs(found - wanted[::-1]).max()), "1")
        np.testing.assert_allclose(found, wanted[::-1], atol=1.0)
        z, y, _ = axes
        holder = np.isin(head.labels, labels("head holder"))
        assert y[holder.any(axis=(0, 2))].max() > y[(np.isin(head.labels, BONE)).any(axis=(0, 2))].max()
        chin = float((turn @ np.array([0.0, -80.0, body.chin_mm]))[2]) + p["shift_z_mm"]
        assert z[0] - 2.0 == pytest.approx(max(chin - p["neck_length_mm"], z[-1] - 275.0), abs=4.0)


def test_a_bend_without_coefficients_stretches_alone(figure):
    """Volume grows by the product of the factors; the middle stays; a factor of 1 changes nothing."""
    body = lopsided()
    straight = replace(STRAIGHT, holder_probability=0.0, neck_length_mm=(60.0, 60.0))
    flat = np.zeros((3, NODES, NODES, NODES))
    as_is, same, grown = (
        posed(body, np.random.default_rng(2), ranges=straight, bend=bend)
        for bend in (None, Bend(np.ones(3), flat), Bend(np.array([1.1, 0.95, 1.0]), flat))
    )
    np.testing.assert_array_equal(as_is.labels, same.labels)
    np.testing.assert_allclose(as_is.density, same.density, atol=1e-5)
    brain = [np.isin(head.labels, INTRACRANIAL).sum() for head in (as_is, grown)]
    figure("volume of a stretched brain over that expected", float(brain[1] / brain[0] / (1.1 * 0.95)), "1 +- 0.01")
    assert brain[1] / brain[0] == pytest.approx(1.1 * 0.95, rel=0.01)


def test_equal_coefficients_shift_a_body_and_drawn_ones_bend_it(figure):
    """B-splines add up to 1. The mean over a cell of the sum of a cubic B-spline's squared weights is 151/315."""
    shifts = np.array([3.0, -4.0, 8.0])
    places = tuple(np.random.default_rng(5).uniform(-90.0, 90.0, (3, 20, 20, 20)))
    shifted = Bend(np.ones(3), np.broadcast_to(shifts[:, None, None, None], (3, NODES, NODES, NODES)))
    for before, after, shift in zip(places, shifted.sources(places), shifts, strict=True):
        np.testing.assert_allclose(after - before, shift, atol=1e-4)
    drawn = [Bend.drawn(np.random.default_rng(seed)) for seed in range(40)]
    apart = [at - place / f for b in drawn for at, place, f in zip(b.sources(places), places, b.stretch, strict=True)]
    wanted = 9.0 * (151.0 / 315.0) ** 1.5
    figure("standard deviation of a bend's shifts, mm", float(np.std(apart)), f"{wanted:.2f} +- 10 %")
    assert np.std(apart) == pytest.approx(wanted, rel=0.1)
    # Over 10 mm along x: the derivative of a cubic B-spline has 2/3 where the spline has 151/315.
    beyond = (places[0] + 10.0, *places[1:])
    longer = [(b.sources(beyond)[0] - b.sources(places)[0]) * b.stretch[0] / 10.0 - 1.0 for b in drawn]
    wanted = 9.0 / 50.0 * (2.0 / 3.0) ** 0.5 * 151.0 / 315.0
    figure("standard deviation of thicknesses by a bend, %", 100 * float(np.std(longer)), f"{100 * wanted:.1f} +- 10 %")
    assert np.std(longer) == pytest.approx(wanted, rel=0.1)


def test_a_cohort_bends_its_bodies(tmp_path, monkeypatch):
    """Each patient of one body otherwise; the head that is simulated is the bent one."""
    write_body(tmp_path / "a.body.npz", lopsided())
    heads = []
    monkeypatch.setattr("spectac.simulate.uptake.draw_uptake", lambda tracer, head, rng: heads.append(head) or 1 / 0)
    for index in range(2):
        with pytest.raises(ZeroDivisionError):
            simulate_patient(1, index, CohortSettings(2, bodies=tmp_path))
    first, second = (np.array(head.parameters["stretch"]) for head in heads)
    assert (np.abs(np.stack([first, second]) - 1.0) <= STRETCH).all()
    assert not np.allclose(first, second)


def test_files_of_bodies_and_of_cts(tmp_path):
    body = lopsided()
    write_body(tmp_path / "b.body.npz", body, "made of")
    (file,) = bodies_in(tmp_path)
    again = read_body(file)
    np.testing.assert_array_equal(again.labels, body.labels)
    assert (again.name, again.chin_mm) == (body.name, body.chin_mm)
    with pytest.raises(InputError, match="no CT"):
        cts_in(tmp_path)
    hu = np.where(body.labels > 0, 33.0, -1000.0)
    for name, values in (("hu", hu), ("stored", hu + 1024.0)):
        write_image(tmp_path / f"{name}.nii.gz", Image(values.astype(np.float32), body.grid, "relative"))
        np.testing.assert_allclose(read_ct(tmp_path / f"{name}.nii.gz")[0].hu[body.labels > 0], 33.0, atol=2.0)
    assert list(cts_in(tmp_path)) == ["hu", "stored"]
    with pytest.raises(InputError, match="no such folder"):
        cts_in(tmp_path / "nowhere")


def test_empty_levels_above_a_head_that_is_cut_off_are_unknown(tmp_path):
    """A ball keeps its air; without its upper 40 mm the levels above the cut say nothing of the vertex."""
    grid = Grid.upright((60, 50, 50), (3.0, 4.0, 4.0), (-98.0, -98.0, -88.5))
    z, y, x = grid.centres_mm()
    ball = np.where(x**2 + y[:, None] ** 2 + z[:, None, None] ** 2 < 80.0**2, 33.0, -1000.0).astype(np.float32)
    for name, top in (("whole", 90.0), ("cut", 40.0)):
        values = np.where((z < top)[:, None, None], ball, np.float32(-1000.0))
        write_image(tmp_path / f"{name}.nii.gz", Image(values, grid, "relative"))
        _, known = read_ct(tmp_path / f"{name}.nii.gz")
        assert known[z < top].all()
        assert known.all() == (name == "whole")
        assert not known[z > top].any()


def test_a_cohort_is_that_of_its_bodies(tmp_path):
    """Other bodies are another cohort; patient i has body i modulo their number."""
    bodies = tmp_path / "bodies"
    bodies.mkdir()
    write_body(bodies / "a.body.npz", lopsided())
    one = CohortSettings(4, bodies=bodies).identity()
    assert one == CohortSettings(8, bodies=bodies).identity()
    assert one["bodies"] != CohortSettings(4).identity()["bodies"]
    (bodies / "overview.json").write_text("{}")
    assert one == CohortSettings(4, bodies=bodies).identity()
    write_body(bodies / "b.body.npz", replace(lopsided(), name="b"))
    assert one != CohortSettings(4, bodies=bodies).identity()


def head_of_hu(noise_hu=0.0):
    """HU of a skull with its brain and two orbits below a roof in front, labels of the brain, axes' heights."""
    size = 100
    z, y, x = ((np.arange(size) - 49.5) * 2.0 for _ in range(3))
    far = np.sqrt((x / 70) ** 2 + (y[:, None] / 85) ** 2 + (z[:, None, None] / 75) ** 2)
    hu = np.where(far < 1.08, 30.0, -1000.0)
    hu = np.where((far < 1.0) & (far > 0.9), 900.0, hu)
    hu = np.where(far <= 0.9, 35.0, hu)
    # Orbits: fat with an eye, under a roof of 4 mm, open towards the front.
    for side in (-30.0, 30.0):
        orbit = np.sqrt((x - side) ** 2 + (y[:, None] + 62.0) ** 2 + (z[:, None, None] + 20.0) ** 2)
        hu = np.where((orbit < 22.0) & (far < 1.08), 900.0, hu)
        hu = np.where((orbit < 18.0) & (far < 1.08), -90.0, hu)
        hu = np.where(orbit < 11.0, 20.0, hu)
    brain = (far <= 0.9) & (hu == 35.0)
    noise = np.random.default_rng(5).normal(0.0, noise_hu, hu.shape) if noise_hu else 0.0
    return (hu + noise).astype(np.float32), brain, z


@pytest.mark.parametrize("noise_hu", [0.0, 40.0])
def test_the_whole_inside_of_the_skull_is_brain_and_orbits_are_not(noise_hu, figure):
    """The fitted brain ends 20 mm behind the forehead, as heads longer than the typical one are laid."""
    hu, brain, z = head_of_hu(noise_hu)
    fitted_brain = np.where(brain, LABEL["left white matter"], 0).astype(np.uint8)
    front = int(np.flatnonzero(brain.any(axis=(0, 2)))[0])
    fitted_brain[:, : front + 10] = 0
    found, overlap = _tissues(hu, fitted_brain, np.ones(hu.shape, bool), z)
    above = (z > BASE_MM)[:, None, None]
    called = np.isin(found, INTRACRANIAL) & above
    missed = float((brain & above & ~called).sum() / (brain & above).sum())
    eyes = (hu < 200) & ~brain & above & called
    figure(f"brain that is not called so, noise {noise_hu:g} HU, %", 100 * missed, "4")
    assert missed < 0.04
    assert float(eyes.sum()) < 0.01 * float((brain & above).sum())
    assert overlap > 0.9


def test_what_is_no_skull_does_not_fit():
    """Water without bone, and a fitted brain 40 mm beside the skull's inside: not one head, as `body_of` says."""
    hu, brain, z = head_of_hu()
    fitted_brain = np.where(brain, LABEL["left white matter"], 0).astype(np.uint8)
    known = np.ones(hu.shape, bool)
    assert _tissues(np.where(hu > -500, np.float32(30.0), hu), fitted_brain, known, z)[1] < LEAST_OVERLAP
    assert _tissues(hu, np.roll(fitted_brain, 20, axis=1), known, z)[1] < LEAST_OVERLAP


def scanned(seed, missing_mm):
    """A virtual head and its CT of 4 x 4 x 3 mm: numbers and grid."""
    ranges = replace(ADULT_AND_CHILD, child_probability=0.0, craniotomy_probability=0.0, holder_probability=0.0)
    head = draw_head(np.random.default_rng(seed), ranges=ranges)
    volume = ct_scan(head, np.random.default_rng(1))
    z, y, x = head.grid.centres_mm()
    top = z[-1] - missing_mm
    shape = (int((top - z[0]) / 3.0), int((y[-1] - y[0]) / 4.0), int((x[-1] - x[0]) / 4.0))
    grid = Grid.upright(shape, (3.0, 4.0, 4.0), (x[0] + 1.0, y[0] + 1.0, z[0] + 0.5))
    return head, resample(volume.hu, volume.grid, grid, outside=-1000.0), grid


@pytest.mark.slow
def test_patients_of_bodies_are_the_same_on_one_and_two_workers_and_after_kills(tmp_path):
    """Four patients of two CTs; SimpleITK may take one thread or two."""
    pytest.importorskip("SimpleITK")
    pytest.importorskip("distributed", reason="needs the extra cluster")
    (tmp_path / "cts").mkdir()
    for seed in (31, 32):
        _, hu, grid = scanned(seed, 20.0)
        write_image(tmp_path / "cts" / f"{seed}.nii.gz", Image(hu.astype(np.float32), grid, "relative"))

    def run(name: str, workers: int) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "spectac.app.cli", "cohort", "-o", str(tmp_path / name), "-n", "4", "--seed", "6",
            "--shard-patients", "1", "--workers", str(workers), "--bodies", str(tmp_path / "cts"),
            "--cameras", "low-energy",
        ]  # fmt: skip
        variables = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(workers)}
        return subprocess.Popen(command, env=variables, text=True, stderr=subprocess.PIPE, start_new_session=True)

    def digests(folder: Path) -> dict[int, str]:
        return {n: one for path in folder.glob("shard-*.h5") for n, one in read_facts(path).sha256.items()}

    for name, workers in (("one", 1), ("two", 2)):
        process = run(name, workers)
        assert (process.communicate(timeout=900)[1], process.returncode) == ("", 0)
    for waited_for in ("bodies/*.npz", "shard-*.h5"):
        process = run("killed", 2)
        while not list((tmp_path / "killed").glob(waited_for)):
            time.sleep(0.2)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    process = run("killed", 2)
    assert (process.communicate(timeout=900)[1], process.returncode) == ("", 0)
    assert len(digests(tmp_path / "one")) == 4
    assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "missing_mm"), [(31, 0.0), (32, 25.0), (33, 40.0)])
def test_a_virtual_head_comes_back_from_its_ct(seed, missing_mm, monkeypatch, figure):
    """A CT of 4 x 4 x 3 mm without the vertex: mu, brain and striata against the head that it was made of.

    Half a voxel of the CT on the inner table, 2 mm on 700 cm2, is a tenth of the skull's inside: bone above 200 HU is
    as much broader. What is not called bone must be named as in the head itself. Without the bending's fading with
    depth the caudate of the second lay 7 mm off.
    """
    pytest.importorskip("SimpleITK")
    head, hu, grid = scanned(seed, missing_mm)
    seen = {}
    straight, tissues = body_module._straight, body_module._tissues

    def kept_straight(sitk, fit):
        seen["sitk"], seen["there"] = sitk, straight(sitk, fit)[1]
        return straight(sitk, fit)

    def kept_tissues(numbers, atlas, known, z):
        seen["known"], (seen["found"], overlap) = known, tissues(numbers, atlas, known, z)
        return seen["found"], overlap

    monkeypatch.setattr(body_module, "_straight", kept_straight)
    monkeypatch.setattr(body_module, "_tissues", kept_tissues)
    body = body_of("virtual", hu, np.ones(hu.shape, bool), grid, typical_head())
    sitk = seen["sitk"]
    labels_there = itk_image(sitk, head.labels, head.grid)
    there = sitk.Resample(labels_there, seen["there"], sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    true, found = (np.isin(one, INTRACRANIAL) & seen["known"] for one in (sitk.GetArrayFromImage(there), seen["found"]))
    in_bone = true & np.isin(seen["found"], BONE)
    shares = {
        "that bone takes": (in_bone, true, 0.10),
        "missed beside": (true & ~found & ~in_bone, true, 0.02),
        "that is none": (found & ~true, found, 0.02),
    }
    for name, (part, whole, limit) in shares.items():
        share = float(part.sum() / whole.sum())
        figure(f"skull's inside {name}, {missing_mm:g} mm of the vertex missing, %", 100 * share, f"{100 * limit:g}")
        assert share < limit, name
    for part in ("putamen", "caudate"):
        places = []
        for one in (head, body):
            spot, brain = np.isin(one.labels, labels(part)), np.isin(one.labels, labels("thalamus"))
            middles = [
                np.array([axis[i].mean() for axis, i in zip(one.grid.centres_mm(), np.nonzero(mask), strict=True)])
                for mask in (spot, brain)
            ]
            places.append(middles[0] - middles[1])
        apart = float(np.linalg.norm(places[0] - places[1]))
        figure(f"{part} from the thalamus, beside its place, mm", apart, "6")
        assert apart < 6.0
    mu = head.mu(KEV)
    whole = float(mu.per_cm.sum()) * head.grid.voxel_ml
    per_gram = np.array([cm2_per_g(MATERIALS[m].name, KEV) for m in MATERIAL_OF_LABEL], np.float32)
    kept = float((body.density * per_gram[body.labels]).sum()) * body.grid.voxel_ml
    figure("attenuation of the body over the head's", kept / whole, "0.93 to 1.05")
    assert 0.93 < kept / whole < 1.05
