"""Configuration of a training run, a TOML file."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from spectac.recon.errors import InputError
from spectac.recon.io.toml import read_toml

Text = Annotated[str, Field(description="a text")]
OptionalText = Annotated[str | None, Field(description="a text")]
Count = Annotated[int, Field(ge=1, description="a whole number, at least 1")]
Natural = Annotated[int, Field(ge=0, description="a whole number that is not negative")]
Share = Annotated[float, Field(ge=0, lt=1, description="a number in [0, 1)")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number above 0")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number that is not negative")]
Width = Annotated[int, Field(ge=8, multiple_of=8)]
Widths = Annotated[
    tuple[Width, ...],
    Field(
        min_length=2,
        max_length=5,
        description="2 to 5 widths (64 voxels can be halved so often), multiples of 8 (groups of the normalisation)",
    ),
]
LossWeights = Annotated[
    tuple[NotNegative, NotNegative, NotNegative], Field(description="3 numbers, none of them negative")
]
Target = Annotated[Literal["map", "correction", "low-counts"], Field(description="map, correction or low-counts")]
Precision = Annotated[Literal["auto", "32-true", "bf16-mixed"], Field(description="one of auto, 32-true, bf16-mixed")]
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu", "cuda", "mps"], Field(description="one of auto, cpu, gpu, cuda, mps")
]


SHIPPED = "shipped"
"""Word of `begin_with` for the weights of the same target that come with spectac."""


@dataclass(frozen=True, config={"extra": "forbid", "strict": True})
class TrainingSettings:
    """Settings of `spectac train`; values outside of their range raise a ValueError.

    Parameters
    ----------
    training, validation
        Folders of the two cohorts.
    beyond
        Folder of a cohort of patients beyond training's ranges, on which limits of use are set as well; None: none.
    target
        Output of the network: "map", "correction" (image-to-image, the baseline), or "low-counts" (image of a short
        scan without noise).
    begin_with
        Weights file to start from; "shipped": those that come with spectac; None: random weights.
    widths, dropout
        See `network.NetworkSettings`.
    epochs
        Number of epochs.
    batch
        Patients per step, over all devices.
    learning_rate
        Learning rate after the warm-up.
    weight_decay
        Weight decay of AdamW.
    warmup_steps
        Steps over which the learning rate rises.
    average_decay
        Decay per step of the running mean of the weights.
    patience
        Epochs without a better validation after which training stops.
    loss_weights
        Weights of the three terms of `loss.map_loss`.
    seed
        Seed of weights, order, augmentation and dropout.
    checkpoint_minutes
        Least time between checkpoints within an epoch.
    precision
        "auto": "bf16-mixed" where the device computes with bfloat16 itself, else "32-true".
    accelerator, devices, nodes
        See Lightning Fabric.

    Examples
    --------
    >>> TrainingSettings("cohorts/training", "cohorts/validation", epochs=3).widths
    (32, 64, 96, 128)
    """

    training: Text
    validation: Text
    beyond: OptionalText = None
    target: Target = "map"
    begin_with: OptionalText = None
    widths: Widths = (32, 64, 96, 128)
    dropout: Share = 0.1
    epochs: Count = 30
    batch: Count = 4
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 1e-4
    warmup_steps: Natural = 100
    average_decay: Share = 0.998
    patience: Count = 10
    loss_weights: LossWeights = (1.0, 0.5, 4.0)
    seed: Natural = 1
    checkpoint_minutes: NotNegative = 5.0
    precision: Precision = "auto"
    accelerator: Accelerator = "auto"
    devices: Count = 1
    nodes: Count = 1

    @classmethod
    def read(cls, path: Path) -> "TrainingSettings":
        """Settings from a TOML file.

        Parameters
        ----------
        path
            TOML file with the fields as keys.

        Raises
        ------
        InputError
            If the file is no TOML, or a key is unknown, missing or has a value that it cannot have.

        Examples
        --------
        >>> from spectac.learned.weights_file import shipped_weights
        >>> TrainingSettings.read(shipped_weights().with_name("map.toml")).epochs
        22
        """
        values = read_toml(path)
        known: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"{path}: unknown key {', '.join(unknown)}; known keys: {', '.join(sorted(known))}")
        if missing := sorted({"training", "validation"} - set(values)):
            raise InputError(f"{path}: {' and '.join(missing)} missing: name the folders of two cohorts")
        given: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
        try:
            return cls(**given)
        except ValidationError as error:
            key = str(error.errors()[0]["loc"][0])
            raise InputError(f"{path}: {key} = {values[key]!r}, it needs {known[key].description}") from None
