"""Interface of scatter models: expected scattered counts from an image and its mu-map.

Models are found by name in the entry-point group `spectac.scatter`; each entry point is a function
`build(settings: ProjectionSettings) -> ScatterModel`. `--scatter NAME:TEXT` hands it TEXT as `settings.scatter_detail`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spectac.recon import plugins
from spectac.recon.settings import ProjectionSettings
from spectac.recon.types import Acquisition, Array, EnergyWindow, Image, MuMap, Study


@dataclass(frozen=True, eq=False)
class ScatterEstimate:
    """Expected scatter of the photopeak.

    Parameters
    ----------
    counts
        Expected counts (v, z, u) of the context's acquisition that are not unscattered photons of the imaged line;
        None: no correction, which a model with rounds must not return for an image.
    method
        How they were estimated; the same text for all studies that are treated alike.
    windows
        Energy windows that they were estimated from, the lower one first.
    notes
        What the user should know about the estimate, or why there is none.
    parameters
        Numbers of the estimate by name, for record.json.

    Examples
    --------
    >>> ScatterEstimate(None, "none").windows
    ()
    """

    counts: Array | None
    method: str
    windows: tuple[EnergyWindow, ...] = ()
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)


class ScatterContext(Protocol):
    """All that a scatter model may ask for.

    Examples
    --------
    >>> def counts_in_the_photopeak(context: ScatterContext) -> float:
    ...     return float(context.window_counts(context.photopeak).sum())
    """

    @property
    def study(self) -> Study:
        """The study as it was read."""

    @property
    def photopeak(self) -> EnergyWindow:
        """Energy window of the photopeak."""

    @property
    def energy_kev(self) -> float:
        """Energy of the imaged line in keV."""

    @property
    def acquisition(self) -> Acquisition:
        """Geometry of the counts: the study's views, its pixels rebinned to about 8 mm if the model asks for images."""

    def window_counts(self, window: EnergyWindow) -> Array:
        """Measured counts (v, z, u) of one of the study's windows, in the pixels of `acquisition`."""

    def project(self, image: Image, mu: MuMap) -> Array:
        """Expected unscattered counts (v, z, u) of an image that the model was given, in those pixels."""


class ScatterModel(Protocol):
    """Estimator of the scatter of a study.

    Examples
    --------
    >>> class Tenth:
    ...     name = "tenth"
    ...
    ...     def rounds(self, context: ScatterContext) -> int:
    ...         return 0
    ...
    ...     def expected(self, context: ScatterContext, image: Image | None, mu: MuMap | None) -> ScatterEstimate:
    ...         return ScatterEstimate(0.1 * context.window_counts(context.photopeak), self.name)
    """

    @property
    def name(self) -> str:
        """Short text for file headers and records."""

    def rounds(self, context: ScatterContext) -> int:
        """Number of estimates, each from an image reconstructed with the one before; 0: one, without image and map.

        Asked before anything is reconstructed: the place to raise InputError for a study that the model cannot do.
        """

    def expected(self, context: ScatterContext, image: Image | None, mu: MuMap | None) -> ScatterEstimate:
        """Estimate from an image in counts per second and mL and the map (on its grid) that it was made with.

        A model with rounds is given None for both where the reconstruction has no map.
        """


def scatter_model(settings: ProjectionSettings) -> ScatterModel:
    """Scatter model of the settings.

    Parameters
    ----------
    settings
        Name of the model and its options.

    Returns
    -------
    ScatterModel
        Model from the entry-point group `spectac.scatter`.

    Raises
    ------
    InputError
        No model of that name is installed (the message lists those that are), or it cannot take an option.

    Examples
    --------
    >>> scatter_model(ProjectionSettings(scatter="montecarlo:3")).name
    'montecarlo, 3 rounds'
    """
    build: Callable[[ProjectionSettings], ScatterModel] = plugins.plugin(plugins.SCATTER, settings.scatter_name).load()
    return build(settings)
