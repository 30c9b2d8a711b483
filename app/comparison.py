"""A comparison of methods: what the user asks for, and the results from which the report is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spectac.app.ancillary import Scale
from spectac.app.describe import describe
from spectac.app.measures import Reference, Row
from spectac.app.record import parameters_of
from spectac.app.regions import Regions
from spectac.recon import Image, Projections, ReconstructionSettings, Result, Study, StudySettings
from spectac.recon.settings import AttenuationSettings, ComparisonSettings


@dataclass(frozen=True)
class CompareRequest:
    """Settings of a comparison: how the study is read, how images are reconstructed, what is compared with what."""

    study: StudySettings = field(default_factory=StudySettings)
    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    comparison: ComparisonSettings = field(default_factory=ComparisonSettings)

    def files(self) -> list[Path]:
        """Files and folders that are read beside the study."""
        asked = self.comparison
        named = (
            asked.ct,
            asked.mu_map,
            asked.truth,
            asked.labels,
            asked.normals,
            *self.reconstruction.files().values(),
        )
        return [path for path in named if path is not None]

    def parameters(self, method: "MethodResult") -> dict[str, Any]:
        """Settings of the reconstruction of one method, for record.json."""
        return parameters_of(self.study, method.attenuation, method.reconstruction, method.result)


@dataclass(frozen=True, eq=False)
class MethodResult:
    """Result of a method: image in the comparison's unit, seconds, ratio of the watched VOIs after each iteration.

    `beside` names the method that this one stands beside, with its noise as it was counted; it is no method to choose.
    """

    attenuation: AttenuationSettings
    reconstruction: ReconstructionSettings
    result: Result
    image: Image
    seconds: float
    course: tuple[float, ...]
    beside: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Reason why a method made no image; `missing_extra` names the extra of spectac that is not installed."""

    reason: str
    missing_extra: str | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Content of the report.

    `study` is as the report may show it, `sources` its paths, or "study" in an anonymous comparison. `methods` and
    `refused` are by method; `warnings` concern the comparison itself; `scale` is None where no image is in kBq/mL;
    `inputs_sha256` has a digest for every file read, `study_sha256` that of the study's counts.
    """

    study: Study
    sources: tuple[str, ...]
    request: CompareRequest
    projections: Projections
    regions: Regions
    methods: Mapping[str, MethodResult]
    refused: Mapping[str, Refusal]
    reference: Reference | None
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    scale: Scale | None
    study_sha256: str
    inputs_sha256: Mapping[str, str]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The study and the projections that were used, as `describe` gives them."""
        return describe(self.study, self.projections) | {"scatter": self.scatter}

    @property
    def scatter(self) -> str:
        """The scatter correction, with the names of the methods where it differs between them."""
        names: dict[str, list[str]] = {}
        for name, method in self.chosen.items():
            projections = method.result.projections
            names.setdefault("unknown" if projections is None else projections.scatter_method, []).append(name)
        if len(names) == 1:
            return next(iter(names))
        return "; ".join(f"{scatter} ({', '.join(of)})" for scatter, of in names.items())

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """Warnings about the study, then those about the comparison."""
        return (*self.facts["warnings"], *self.warnings)

    @property
    def chosen(self) -> dict[str, MethodResult]:
        """The methods that were asked for, without one that stands beside another."""
        return {name: method for name, method in self.methods.items() if method.beside is None}

    @property
    def has_truth(self) -> bool:
        """True where the truth is the reference."""
        return self.reference is not None and self.reference.name == "truth"
