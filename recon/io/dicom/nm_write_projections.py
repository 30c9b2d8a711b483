"""Raw projections written as DICOM NM TOMO, as `dciodvfy` accepts them.

Counts are stored as they are. Each detector item has the start angle, the radii of its views, the directions of its
columns and rows at the start angle, and as position the first pixel on the collimator face there ("face" in
nm_axis_position.py).
"""

import os

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from spectac.recon.errors import InputError
from spectac.recon.geometry import detector_rights, signed_deg, view_normals
from spectac.recon.io.dicom import nm_write_header as header
from spectac.recon.io.dicom.allowed_values import decimal
from spectac.recon.types import Acquisition, Array, Study

_VECTORS = ("EnergyWindowVector", "DetectorVector", "RotationVector", "AngularViewVector")


def write_study(path: str | os.PathLike[str], study: Study) -> None:
    """Write raw projections as NM TOMO: all heads and windows, one rotation.

    Parameters
    ----------
    path : path-like
        The file; it appears whole or not at all.
    study : Study
        Counts (w, v, z, u). Every head has the same number of views, step and view time, and starts at 0 s.

    Raises
    ------
    InputError
        Where counts are not whole numbers up to 65535, or the views are not regular. HDF5 takes any study.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.io.dicom.nm import read_study
    >>> from spectac.recon.types import EnergyWindow
    >>> acquisition = Acquisition([0, 90, 180, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> file = tempfile.mkdtemp() + "/scan.dcm"
    >>> write_study(file, Study(acquisition, (EnergyWindow("peak", 126, 154),), np.ones((1, 4, 2, 3))))
    >>> read_study(file).acquisition.view_angles_deg.tolist()
    [0.0, 90.0, 180.0, 270.0]
    """
    acquisition = study.acquisition
    heads = _regular_heads(acquisition)
    stored = _whole_counts(study.counts)
    data = header.common_dataset(study, ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"], "SPECT projections")
    vectors = np.indices((len(study.windows), len(heads), 1, len(heads[0]))).reshape(4, -1) + 1
    data.FrameIncrementPointer = [0x00540010, 0x00540020, 0x00540050, 0x00540090]
    for keyword, vector in zip(_VECTORS, vectors, strict=True):
        setattr(data, keyword, vector.tolist())
    data.NumberOfEnergyWindows, data.NumberOfDetectors = len(study.windows), len(heads)
    steps = signed_deg(np.diff(acquisition.view_angles_deg[heads[0]]))
    header.put_rotation(
        data, acquisition, heads[0], float(steps[0]) if steps.size else 360.0, acquisition.radii_mm.mean()
    )
    data.TypeOfDetectorMotion = "STEP AND SHOOT"
    data.DetectorInformationSequence = Sequence(
        [_detector(acquisition, number, views) for number, views in enumerate(heads)]
    )
    order = np.concatenate(heads)
    header.put_pixels(data, stored[:, order, ::-1].reshape(-1, *acquisition.matrix), acquisition.pixel_mm)
    header.save(path, data)


def _regular_heads(acquisition: Acquisition) -> list[Array]:
    """Views of each head in the order of time; InputError where one rotation item cannot describe them."""
    detector, begin = np.asarray(acquisition.detector), np.asarray(acquisition.view_start_s)
    heads = [np.flatnonzero(detector == head) for head in np.unique(detector)]
    heads = [views[np.argsort(begin[views], kind="stable")] for views in heads]
    irregular = _irregular(acquisition, heads)
    if irregular is not None:
        raise InputError(f"NM TOMO needs regular views: {irregular}; write the study as HDF5 instead")
    return heads


def _irregular(acquisition: Acquisition, heads: list[Array]) -> str | None:
    """What is not regular in the heads' views, None where nothing is."""
    sizes = [len(views) for views in heads]
    if len(set(sizes)) > 1:
        return f"the heads have {', '.join(map(str, sizes))} views"
    steps = np.concatenate([signed_deg(np.diff(acquisition.view_angles_deg[views])) for views in heads])
    if steps.size and (np.abs(steps - steps[0]).max() > 1e-3 or abs(steps[0]) < 1e-3):
        return f"their steps go from {steps.min():g} to {steps.max():g} deg"
    seconds, begin = acquisition.view_seconds, np.asarray(acquisition.view_start_s)
    if acquisition.times_known:
        if np.ptp(seconds) > 1e-3:
            return f"their times go from {seconds.min():g} to {seconds.max():g} s"
        if round(float(seconds[0]) * 1000) < 1:
            return f"a view of {seconds[0]:g} s is shorter than a millisecond"
        expected = seconds[0] * np.arange(sizes[0])
        if any(np.abs(begin[views] - expected).max() > 1e-3 * sizes[0] for views in heads):
            return "their starts are not one view time apart, from 0 s on every head"
    if any(np.ptp(np.asarray(acquisition.u_offset_mm)[views]) > 1e-6 for views in heads):
        return "u_offset_mm differs between the views of a head"
    return None


def _whole_counts(counts: Array) -> Array:
    """Counts as uint16; InputError where that would change them."""
    if counts.max() > 65535:
        raise InputError(f"NM TOMO stores counts up to 65535, the largest is {counts.max():g}: write HDF5 instead")
    stored = counts.astype(np.uint16)
    if not np.array_equal(stored, counts):
        odd = counts[stored != counts].flat[0]
        raise InputError(f"NM TOMO stores whole counts, one is {odd:g}: write noise-free projections as HDF5 instead")
    return stored


def _detector(acquisition: Acquisition, number: int, views: Array) -> Dataset:
    """Detector item of a head, counted from 0: angle, radii, directions, place of its first pixel, and focal line."""
    first = views[0]
    angle = float(acquisition.view_angles_deg[first])
    right, normal = detector_rights([angle])[0], view_normals([angle])[0]
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    item = header.collimator_item(acquisition)
    if acquisition.foci:
        header.put_focus(item, acquisition.foci[number], acquisition.collimator)
    item.StartAngle = decimal(angle)
    item.RadialPosition = [decimal(radius) for radius in acquisition.radii_mm[views]]
    offset = float(np.asarray(acquisition.u_offset_mm)[first])
    if offset:
        item.CenterOfRotationOffset = decimal(offset)
    position = None
    if acquisition.axis_lps_mm is not None:
        x, y, z = acquisition.axis_lps_mm
        face = np.array([x, y]) + acquisition.radii_mm[first] * normal - 0.5 * (columns - 1) * pitch_u * right
        position = np.array([*face, z + (rows - 1) * pitch_z])
    header.put_directions(item, np.array([*right, 0.0]), np.array([0.0, 0.0, -1.0]), position)
    return item
