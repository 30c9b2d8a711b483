"""The photopeak of a study as it was measured, and the scatter model that suits it."""

from dataclasses import dataclass, replace

from spectac.recon.errors import InputError
from spectac.recon.photopeak import photopeak_index
from spectac.recon.scatter.models import ScatterContext, ScatterEstimate, ScatterModel, scatter_model
from spectac.recon.scatter.montecarlo import MonteCarloScatter
from spectac.recon.scatter.side_windows import Photopeak
from spectac.recon.scatter.tew_dew import WindowScatter
from spectac.recon.settings import ProjectionSettings
from spectac.recon.types import Acquisition, Array, EnergyWindow, Image, MuMap, Projections, Study


def chosen_model(context: ScatterContext, settings: ProjectionSettings) -> ScatterModel:
    """Scatter model for a study.

    Parameters
    ----------
    context
        The study and its photopeak.
    settings
        Name of the model and its options.

    Returns
    -------
    ScatterModel
        The settings' model. For "auto" Monte Carlo, of reconstructions with a map, where the windows allow no
        correction and the transport can do the study.

    Examples
    --------
    >>> from spectac.recon.collimator import COLLIMATORS
    >>> lehr = COLLIMATORS["siemens-lehr"]
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "I-123", lehr)
    >>> study = Study(acquisition, (EnergyWindow("peak", 143.0, 175.0),), [[[[100, 100]]]])
    >>> chosen_model(MeasuredCounts(Photopeak(study, 0)), ProjectionSettings()).name
    'montecarlo, 2 rounds'
    """
    model = scatter_model(settings)
    if not isinstance(model, WindowScatter) or settings.scatter != "auto":
        return model
    notes = model.without(context)
    if notes is None:
        return model
    transport = MonteCarloScatter(without_map=notes)
    try:
        transport.rounds(context)
    except InputError as error:
        return replace(model, also=(f"scatter by Monte Carlo, which needs no windows, cannot be done: {error}",))
    return transport


@dataclass(frozen=True, eq=False)
class MeasuredCounts:
    """ScatterContext of a model that needs no image: the study as it was measured.

    Parameters
    ----------
    peak
        The photopeak and its study.

    Examples
    --------
    >>> from spectac.recon import EnergyWindow
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.ones((1, 1, 1, 2)))
    >>> MeasuredCounts(Photopeak(study, 0)).energy_kev
    140.511
    """

    peak: Photopeak

    @property
    def study(self) -> Study:
        """The study as it was read."""
        return self.peak.study

    @property
    def photopeak(self) -> EnergyWindow:
        """Energy window of the photopeak."""
        return self.peak.window

    @property
    def energy_kev(self) -> float:
        """Energy of the imaged line in keV."""
        return self.peak.line_kev

    @property
    def acquisition(self) -> Acquisition:
        """The study's acquisition."""
        return self.study.acquisition

    def window_counts(self, window: EnergyWindow) -> Array:
        """Measured counts (v, z, u) of one of the study's windows."""
        return self.study.counts[self.study.windows.index(window)]

    def project(self, image: Image, mu: MuMap) -> Array:
        """Refused: a model that is shown no image has none to project."""
        raise InputError("a scatter model with 0 rounds is shown no image: let its `rounds` be at least 1")


def projections(
    study: Study, settings: ProjectionSettings | None = None, model: ScatterModel | None = None
) -> Projections:
    """Photopeak projections of a study with the expected scatter as far as it needs no map.

    Parameters
    ----------
    study
        Raw projections.
    settings
        Photopeak, scatter method, factor k of DEW and names of the windows; None: the defaults of ProjectionSettings.
    model
        Scatter model in place of `chosen_model`.

    Returns
    -------
    Projections
        Counts of the photopeak, expected scatter (v, z, u), and how it was estimated. For methods that need a map
        `scatter` is None beside the method's name.

    Raises
    ------
    InputError
        Where a method lacks its windows (WindowScatter).

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> windows = (EnergyWindow("peak", 126.0, 154.0), EnergyWindow("lower", 112.0, 126.0))
    >>> study = Study(acquisition, windows, [[[[100, 100]]], [[[10, 10]]]])
    >>> projections(study).scatter.tolist()
    [[[10.0, 10.0]]]
    """
    chosen = ProjectionSettings() if settings is None else settings
    peak = Photopeak(study, photopeak_index(study, chosen.photopeak))
    context = MeasuredCounts(peak)
    if model is None:
        model = chosen_model(context, chosen)
    estimate = ScatterEstimate(None, model.name) if model.rounds(context) else model.expected(context, None, None)
    return Projections(
        study.acquisition,
        study.counts[peak.index],
        peak.line_kev,
        scatter=estimate.counts,
        scatter_method=estimate.method,
        photopeak=peak.window,
        scatter_windows=estimate.windows,
        notes=estimate.notes,
    )
