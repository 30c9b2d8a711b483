"""`spectac info`: what a study's files say, and what looks wrong."""

import json
from typing import Annotated

import typer

from spectac.app.describe import describe, in_words
from spectac.app.options import StudyPaths
from spectac.recon.io import open_study
from spectac.recon.scatter.measured import projections
from spectac.recon.settings import ProjectionSettings, StudySettings


def info(
    study: StudyPaths,
    given: StudySettings,
    chosen: ProjectionSettings,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> list[str]:
    """Lines about a study: windows, views, orbit, counts, scatter correction, warnings."""
    opened = open_study(study, given)
    used = None if chosen == ProjectionSettings() else projections(opened, chosen)
    facts = describe(opened, used)
    return [json.dumps(facts, indent=2)] if as_json else in_words(facts)
