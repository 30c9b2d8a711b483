"""Sphinx's settings: pages in Markdown, the API from docstrings, the gallery from examples/ (run with --tiny)."""

import os
import re
import sys
import tomllib
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
ROOT = Path(__file__).resolve().parents[1]
# Read from here, without an installation: `spectac` is a namespace of links.
sys.path[:0] = [str(ROOT / ".typing"), str(ROOT / "docs")]

project = "spectac"
author = "The spectac developers"
copyright = "The spectac developers, Apache-2.0"  # noqa: A001 - Sphinx's name
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
napoleon_google_docstring = False
napoleon_use_rtype = False
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"spectac {version}"
html_static_path = ["_static"]
html_css_files = ["spectac.css"]
html_show_sphinx = False
# Blocks without a language are shell commands and file headers.
highlight_language = "none"
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    # Tiny grids: the pages show how it is done, a run without --tiny what comes out.
    "reset_argv": "tiny.arguments",
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}


def plain_text(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Make reStructuredText of a docstring, which is plain sentences with `code`: stars, bars and underscores stay.

    Examples stay as they are. References become plain text, because several docstrings of a page have a [1].
    """
    text = re.sub(r"\[(\d)\]_", r"[\1]", re.sub(r"^\.\. (?=\[\d\])", "", "\n".join(lines), flags=re.MULTILINE))
    parts = re.split(r"(^>>> (?:.*\S.*(?:\n|$))*|`[^`]*`)", text, flags=re.MULTILINE)
    for number, part in enumerate(parts):
        if part.startswith("`"):
            # "\\ " lets a letter follow, as in `preview`s.
            parts[number] = f"`{part}`" + "\\ " * parts[number + 1][:1].isalpha()
        elif not part.startswith(">>> "):
            parts[number] = re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part)
    # What is raised, assumed and cited gets paragraphs of its own.
    lines[:] = re.sub(r"\n(?=(Raises|Assumes|References?)\b)", "\n\n", "".join(parts)).split("\n")


def short_arrays(
    app: object, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Give signatures the name `Array`, which the code has as well, instead of what numpy calls it."""
    long = r"~?(?:numpy\.)?ndarray\[~?(?:builtins\.)?tuple\[[^]]*\], ~?(?:numpy\.)?dtype\[[^]]*\]\]"
    return tuple(text and re.sub(long, "Array", text) for text in (signature, returned))


def outside_pages(app: object, page: str, source: list[str]) -> None:
    """Make downloads of links to Markdown outside of docs/, such as the model card, which are no pages of the site."""
    source[0] = re.sub(r"\[([^]]+)\]\((\.\./[^)#]*\.md)[^)]*\)", r"{download}`\1 <\2>`", source[0])


def setup(app: object) -> None:
    """Connect Sphinx's events."""
    # Before napoleon, whose reStructuredText must stay.
    app.connect("autodoc-process-docstring", plain_text, priority=400)
    app.connect("autodoc-process-signature", short_arrays)
    app.connect("source-read", outside_pages)
