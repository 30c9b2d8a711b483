"""Arrays of whole numbers as one compressed text, in which the report's script finds each by its place."""

import base64
import zlib

import numpy as np

from spectac.recon.types import Array


class Pack:
    """Bytes of many arrays in one text, each known by the place where it begins."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, levels: Array) -> int:
        """Append an array of levels from 0 to 255; returns where it begins."""
        begin, data = self._length, np.ascontiguousarray(levels, np.uint8).tobytes()
        self._parts.append(data)
        self._length += len(data)
        return begin

    def add_fine(self, levels: Array) -> int:
        """Append an array of levels from 0 to 65535: all high bytes, which compress well, then all low ones."""
        begin = self.add(levels >> 8)
        self.add(levels & 255)
        return begin

    @property
    def text(self) -> str:
        """All arrays: zlib's deflate, then base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode("ascii")


def levels_of(values: Array, top: float) -> Array:
    """Levels 0 to 255 for values from 0 to `top`; values beyond are cut."""
    return np.rint(np.clip(values / max(top, 1e-30), 0.0, 1.0) * 255.0).astype(np.uint8)
