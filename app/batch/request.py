"""What the user asked of `spectac batch`, and the request for the comparison of each study that follows from it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from spectac.app.batch.study_list import ListedStudy
from spectac.app.comparison import CompareRequest

WORK = "spectac.app.batch.study:compare_one"


@dataclass(frozen=True)
class BatchRequest:
    """Options of a batch.

    `compare` holds what is the same for every study. `methods` are those of studies that name none, None all that can
    be used. `extend_ct`, `assume_aligned` and `tube_voltage_kv` are for studies with a CT, `mu_map_kev` for those with
    a mu-map. `work` names the function (study, request, output) that is run on each, as "package.module:function".
    """

    compare: CompareRequest = field(default_factory=CompareRequest)
    methods: tuple[str, ...] | None = None
    extend_ct: bool = False
    assume_aligned: bool = False
    tube_voltage_kv: float | None = None
    mu_map_kev: float | None = None
    work: str = WORK

    def with_absolute_paths(self) -> "BatchRequest":
        """The same for workers that were started in another folder."""
        compare, base = self.compare, self.compare.base
        if base.calibration is not None:
            base = replace(base, calibration=str(Path(base.calibration).absolute()))
        normals = None if compare.normals is None else compare.normals.absolute()
        return replace(self, compare=replace(compare, base=base, normals=normals))

    def of_study(self, study: ListedStudy) -> CompareRequest:
        """Request for one study: what the list says of it comes before the options of the batch.

        CT and map are left out where no method of the study uses them.
        """
        given = dict(self.compare.base.given)
        # A collimator replaces a measured line and the other way round.
        for name, other in (("collimator", "psf"), ("psf", "collimator")):
            if name in study.given:
                given.pop(other, None)
        methods = study.methods or self.methods
        ct, mu_map = (
            study.files.get(column) if methods is None or method in methods else None
            for column, method in (("ct", "ct"), ("mu_map", "map"))
        )
        return replace(
            self.compare,
            base=replace(self.compare.base, given={**given, **study.given}),
            methods=methods,
            ct=ct,
            extend_ct=self.extend_ct and ct is not None,
            assume_aligned=self.assume_aligned and ct is not None,
            tube_voltage_kv=None if ct is None else self.tube_voltage_kv,
            mu_map=mu_map,
            mu_map_kev=None if mu_map is None else self.mu_map_kev,
            truth=study.files.get("truth"),
            labels=study.files.get("labels"),
            tracer=study.tracer or self.compare.tracer,
        )
