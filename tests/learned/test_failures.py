"""What must not be corrected by a predicted map, end to end: refused, or the uniform map with the reason in the notes.

All studies come from one virtual patient (DAT, I-123, 64 x 64 x 60 views) that is simulated once: its counts are set to
zero, thinned, cut, doubled, swapped or moved, its header is changed.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import shift

pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned.predict import PredictedMap
from spectac.learned.weights_file import shipped_weights
from spectac.recon import InputError, ReconstructionSettings, Study, reconstruct
from spectac.recon.geometry import detector_rights
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shipped_weights().is_file(), reason="no weights are shipped yet: spectac train makes them"),
]
COUNTS = 1.5e6
FALLBACK = "no map could be predicted, the uniform map was used"


@pytest.fixture(scope="module")
def study() -> Study:
    """Supine on a camera with a wide scatter window and TEW, 1.5 million counts, LEHR at 14 cm: within training."""
    rng = np.random.default_rng([905, 1])
    head = draw_head(rng)
    scanner = Scanner(
        "test", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, radius_mm=140.0, scheme="tew+scatter"
    ).around(head)
    patient = Patient(head, draw_uptake("dat", head, rng))
    return expected_counts(patient, scanner, seed=905).with_counts(COUNTS).study(rng)


def corrected(study: Study, **options: bool):
    return reconstruct(
        study, PredictedMap(**options), ReconstructionSettings(iterations=1, subsets=4, resolution=False)
    )


def with_counts(study: Study, counts: np.ndarray, **header: object) -> Study:
    counts = np.ascontiguousarray(np.maximum(counts, 0.0), dtype=np.float32)
    return replace(study, counts=counts, acquisition=replace(study.acquisition, matrix=counts.shape[2:], **header))


def seen_beside(study: Study, x_mm: float) -> np.ndarray:
    """Counts (w, v, z, u) on 160 columns of the same head moved to the patient's left by `x_mm`."""
    counts = np.pad(study.counts, ((0, 0), (0, 0), (0, 0), (48, 48)))
    columns = x_mm * detector_rights(study.acquisition.view_angles_deg)[:, 0] / study.acquisition.pixel_mm[1]
    out = np.zeros_like(counts)
    for view, move in enumerate(columns):
        out[:, view] = shift(counts[:, view], (0.0, 0.0, move), order=1)
    return out


def sideways(study: Study) -> Study:
    return with_counts(study, study.counts, view_angles_deg=study.acquisition.view_angles_deg + 90.0)


def sideways_by_the_header(study: Study) -> Study:
    return with_counts(study, study.counts, patient_position="HFDL")


def two_heads(study: Study) -> Study:
    counts = seen_beside(study, -90.0) + seen_beside(study, 90.0)
    return with_counts(study, counts, radii_mm=np.full(study.acquisition.views, 230.0))


def mostly_outside(study: Study) -> Study:
    """The table is 19 cm too low: the vertex alone is in the field."""
    counts = np.zeros_like(study.counts)
    counts[:, :, :16] = study.counts[:, :, 48:]
    return with_counts(study, counts)


def cut_at_the_sides(study: Study) -> Study:
    return with_counts(study, study.counts[..., 14:-14])


def swapped(study: Study) -> Study:
    """Photopeak and scatter counts under each other's names."""
    order = [window.name for window in study.windows]
    counts = study.counts.copy()
    peak, wide = order.index("photopeak"), order.index("scatter")
    counts[[peak, wide]] = study.counts[[wide, peak]]
    return with_counts(study, counts)


def other_nuclide(study: Study) -> Study:
    """In-111's 171 keV lies in the same window."""
    return with_counts(study, study.counts, nuclide="In-111")


def far_too_few_counts(study: Study) -> Study:
    thinned = np.random.default_rng(3).binomial(study.counts.astype(np.int64), 2e4 / COUNTS)
    return with_counts(study, thinned)


def half_circle(study: Study) -> Study:
    keep = study.acquisition.view_angles_deg < 180.0
    acquisition = replace(
        study.acquisition,
        **{
            name: np.asarray(getattr(study.acquisition, name))[keep]
            for name in ("view_angles_deg", "radii_mm", "view_seconds", "view_start_s", "detector", "u_offset_mm")
        },
    )
    return replace(study, acquisition=acquisition, counts=np.ascontiguousarray(study.counts[:, keep]))


CASES = [
    (sideways, "long axis"),
    (sideways_by_the_header, "position is HFDL"),
    (cut_at_the_sides, "cut off at the sides"),
    (swapped, "the windows are swapped"),
    (other_nuclide, "171.28 keV"),
    (far_too_few_counts, "too noisy for a map"),
    (half_circle, "deg uncovered"),
]


@pytest.mark.parametrize(("change", "reason"), CASES, ids=[change.__name__ for change, _ in CASES])
def test_what_training_did_not_cover_gets_the_uniform_map_and_the_reason(study, change, reason):
    changed = change(study)
    result = corrected(changed)
    (note,) = [note for note in result.notes if FALLBACK in note]
    assert reason in note
    assert result.mu is not None
    tissue = result.mu.per_cm[result.mu.per_cm > 0.99 * result.mu.per_cm.max()]
    assert tissue.size > 0.3 * (result.mu.per_cm > 0).sum()  # one value nearly everywhere: a uniform map
    with pytest.raises(InputError, match=reason):
        corrected(changed, fallback=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(two_heads, "the photopeak shows two parts"), (mostly_outside, "the lower part of the head is missing")],
)
def test_what_has_no_outline_either_is_refused(study, change, reason):
    """No uniform map can stand in: the outline of such an image fits no head, or reaches through the collimator."""
    for fallback, message in ((True, f"{reason}.*nor can a uniform one be used"), (False, reason)):
        with pytest.raises(InputError, match=message):
            corrected(change(study), fallback=fallback)


@pytest.mark.parametrize("fallback", [True, False])
def test_an_empty_study_is_refused(study, fallback):
    with pytest.raises(InputError, match="no counts"):
        corrected(with_counts(study, np.zeros_like(study.counts)), fallback=fallback)


def test_a_usual_study_gets_a_map(study):
    result = corrected(study, fallback=False)
    assert any(note.startswith("predicted map: uncertainty") for note in result.notes)
    assert result.mu is not None
    assert len(np.unique(result.mu.per_cm)) > 1000


def test_twice_the_counts_give_the_same_map(study):
    """Two heads' worth of counts from one head is twice the time: the input is made independent of it."""
    once, twice = (corrected(with_counts(study, n * study.counts), fallback=False).mu.per_cm for n in (1.0, 2.0))
    # float32 through OSEM's divisions and the network: far below what mu is known to.
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-4)


def test_a_missing_scatter_window_is_no_fault(study):
    row = [window.name for window in study.windows].index("photopeak")
    alone = replace(study, windows=(study.windows[row],), counts=study.counts[[row]])
    result = corrected(alone, fallback=False)
    assert not any(FALLBACK in note for note in result.notes)
