"""What the training data of a network covered: the record in its weights, to which new studies are compared."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectac.recon.errors import InputError


@dataclass(frozen=True)
class Coverage:
    """Ranges of the training data, and limits of a network's use.

    Ranges leave out the most extreme 1 % of the patients at either end. Pairs are (least, most).

    Parameters
    ----------
    energies_kev
        Energies of the imaged lines in keV.
    least_counts
        Least counts in the photopeak.
    least_side_counts
        Least counts in the window of the scatter channel.
    sigma_mm
        Standard deviation in mm of the collimator's blur at the rotation axis, mean over the views.
    edge_share
        Largest ratio of edge to central counts, see `appearance.edge_share`.
    sharper
        Least detail of the photopeak relative to a window below it, see `appearance.detail_ratio`.
    head_ml
        Volume in mL of the head in the photopeak.
    hottest
        Largest level of the hottest 5 mL relative to the head's level.
    height_mm
        Least distance in mm from the highest slice of the head down to the end of the field.
    pixel_mm
        Largest pixel in mm from which a preview was reconstructed.
    views
        Fewest views.
    peak_width
        Width of the photopeak's window relative to its middle.
    energy_loss
        Relative energy loss of the window of the scatter channel, see `inputs.energy_loss`.
    uncertainty
        Limit of `Estimate.uncertainty`, from the validation patients.
    outline_mm
        Limit in mm of the distance between the outlines of map and data, from the validation patients.

    Examples
    --------
    >>> from spectac.learned.estimate import TrainedNetwork
    >>> from spectac.learned.weights_file import shipped_weights
    >>> TrainedNetwork.read(shipped_weights()).coverage.energies_kev
    (140.511, 158.97)
    """

    energies_kev: tuple[float, ...]
    least_counts: float
    least_side_counts: float
    sigma_mm: tuple[float, float]
    edge_share: float
    sharper: float
    head_ml: tuple[float, float]
    hottest: float
    height_mm: float
    pixel_mm: float
    views: float
    peak_width: tuple[float, float]
    energy_loss: tuple[float, float]
    uncertainty: float
    outline_mm: float

    def to_json(self) -> dict[str, Any]:
        """Plain values that json.dumps takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Coverage":
        """Coverage from the values of `to_json`.

        Parameters
        ----------
        values
            A number or list for each field.

        Raises
        ------
        InputError
            If a field is missing or unknown.

        Examples
        --------
        >>> from spectac.learned.estimate import TrainedNetwork
        >>> from spectac.learned.weights_file import shipped_weights
        >>> coverage = TrainedNetwork.read(shipped_weights()).coverage
        >>> Coverage.from_json(coverage.to_json()) == coverage
        True
        """
        names = [field.name for field in fields(cls)]
        if sorted(values) != sorted(names):
            raise InputError(f"a coverage needs {', '.join(names)}; got {', '.join(sorted(values)) or 'nothing'}")
        return cls(
            **{
                name: tuple(map(float, value)) if isinstance(value, list | tuple) else float(value)
                for name, value in values.items()
            }  # type: ignore[arg-type]
        )
