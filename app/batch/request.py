"""Settings of a batch, and the settings for the comparison of each study that follow from them."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from spectac.app.batch.study_list import ListedStudy
from spectac.app.comparison import CompareRequest
from spectac.recon.setting_fields import merged

WORK = "spectac.app.batch.study:compare_one"


@dataclass(frozen=True)
class BatchRequest:
    """Settings of all studies of a batch.

    Its settings of maps are for the studies that have a CT or a mu-map. `work` names the function (study, request,
    output) that is run on each study, as "package.module:function".
    """

    compare: CompareRequest = field(default_factory=CompareRequest)
    work: str = WORK

    def with_absolute_paths(self) -> "BatchRequest":
        """The same for workers that were started in another folder."""
        reconstruction, comparison = self.compare.reconstruction, self.compare.comparison
        absolute: dict[str, Any] = {name: path.absolute() for name, path in reconstruction.files().items()}
        reconstruction = replace(reconstruction, **absolute)
        if comparison.normals is not None:
            comparison = replace(comparison, normals=comparison.normals.absolute())
        return replace(self, compare=replace(self.compare, reconstruction=reconstruction, comparison=comparison))

    def of_study(self, study: ListedStudy) -> CompareRequest:
        """Settings for one study: what the list says of it comes before the settings of the batch.

        CT and map are left out where no method of the study uses them.
        """
        general, comparison = self.compare.study, self.compare.comparison
        if study.given.response is not None:  # one description of a collimator replaces another
            general = replace(general, collimator=None, psf=None, holes=None)
        focus = (study.given.focal_length_mm, study.given.focus_from, study.given.focus_offset_mm)
        if math.inf in (general.focal_length_mm, focus[0]) and focus != (None, None, None):
            # Parallel data have no plane and no offset of a focus.
            general = replace(general, focal_length_mm=None, focus_from=None, focus_offset_mm=None)
        listed: dict[str, Any] = {"methods": study.methods, "tracer": study.tracer, **study.files}
        comparison = replace(comparison, **{name: value for name, value in listed.items() if value is not None})
        for model in ("ct", "map"):
            used = comparison.methods is None or model in comparison.methods
            if not used or not comparison.files(model):
                comparison = comparison.without(model)
        return CompareRequest(merged(general, study.given), self.compare.reconstruction, comparison)
