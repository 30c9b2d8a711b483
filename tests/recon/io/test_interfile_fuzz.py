"""Whatever stands in a header, the reader answers with a study or with InputError, never with another exception."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.interfile.image import read_image

_KEYS = [
    "!INTERFILE", "imaging modality", "originating system", "name of data file", "data offset in bytes",
    "data starting block", "type of data", "process status", "imagedata byte order", "number format",
    "number of bytes per pixel", "image scaling factor[1]", "patient orientation", "patient rotation",
    "number of energy windows", "energy window lower level[1]", "energy window upper level[1]",
    ";energy window lower level", "number of detector heads", "number of projections", "total number of images",
    "matrix size [1]", "matrix size [2]", "matrix size [3]", "scaling factor (mm/pixel) [1]",
    "scaling factor (mm/pixel) [2]", "extent of rotation", "direction of rotation", "start angle", "orbit", "radius",
    ";#Radius", "radii", "time per projection (sec)", "image duration (sec)", "isotope name", ";# Radionuclide",
    ";# Collimator", ";# Non-Uniform Orbit File", ";# Center of Rotation", "study date", "study time",
    "number of slices", "slice thickness (pixels)", "!END OF INTERFILE",
]  # fmt: skip
_GOOD = {
    "name of data file": "p.s", "imagedata byte order": "LITTLEENDIAN", "number format": "float",
    "number of bytes per pixel": "4", "isotope name": "Tc-99m", "matrix size [1]": "3", "matrix size [2]": "2",
    "scaling factor (mm/pixel) [1]": "4", "scaling factor (mm/pixel) [2]": "4", "number of projections": "4",
    "extent of rotation": "360", "direction of rotation": "CW", "start angle": "180", "radius": "150",
}  # fmt: skip
_values = st.one_of(
    st.sampled_from(
        ["", "simind", "short float", "float", "tomographic", "acquired", "CW", "CCW", "noncircular", "p.s"]
    ),
    st.sampled_from(
        ["p.hs", ".", "..", "/", "{1,2,3,4}", "{", "1e999", "-1", "0", "4", "1e308", "nan", "٣", "2024:02:30"]
    ),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=40),
)
_lines = st.lists(st.tuples(st.sampled_from(_KEYS), _values), max_size=12)


def _try(folder, header):
    np.arange(24, dtype="<f4").tofile(folder / "p.s")
    path = folder / "p.hs"
    path.write_bytes(header)
    for read in (open_study, read_image):
        message = str(path)
        try:
            read(path)
        except InputError as error:
            message = str(error)
        assert str(path) in message


def _changed(lines):
    """A good header in which some keys have other values, and others were added."""
    keys = {**_GOOD, **dict(lines)}
    return ("!INTERFILE :=\n" + "".join(f"{key} := {value}\n" for key, value in keys.items())).encode(
        "utf-8", "replace"
    )


_quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_long = settings(_quick, max_examples=5000, derandomize=False)


def test_the_unchanged_header_is_good(tmp_path):
    np.arange(24, dtype="<f4").tofile(tmp_path / "p.s")
    (tmp_path / "p.hs").write_bytes(_changed([]))
    assert open_study(tmp_path / "p.hs").counts.sum() == 276


@_quick
@given(_lines)
def test_changed_headers(tmp_path, lines):
    _try(tmp_path, _changed(lines))


@_quick
@given(st.binary(max_size=400))
def test_any_bytes_after_the_first_line(tmp_path, content):
    _try(tmp_path, b"!INTERFILE :=\n" + content)


@_quick
@given(st.binary(max_size=400))
def test_any_bytes(tmp_path, content):
    _try(tmp_path, content)


@pytest.mark.slow
@_long
@given(st.one_of(_lines.map(_changed), st.binary(max_size=2000).map(lambda content: b"!INTERFILE :=\n" + content)))
def test_many_headers(tmp_path, header):
    _try(tmp_path, header)
