"""Files in, files out: `open_study` reads a study of any format; the formats have a module or a folder each."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectac.recon.io.open import files_of, open_study

__all__ = ["files_of", "open_study"]


def __getattr__(name: str) -> Any:
    # pydicom costs 0.2 s and comes in when a file is opened.
    if name in __all__:
        from spectac.recon.io import open as opening

        return getattr(opening, name)
    raise AttributeError(f"module 'spectac.recon.io' has no attribute {name!r}")
