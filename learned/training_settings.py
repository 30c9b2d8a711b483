"""The configuration of a training run, a TOML file."""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spectac.recon.errors import InputError

PRECISIONS = ("32-true", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


@dataclass(frozen=True)
class TrainingSettings:
    """What `spectac train` reads: two cohorts' folders, the network, the optimizer, the devices.

    `target` is "map" or "correction" (image-to-image, the baseline); `first_round` names weights whose corrected images
    the network sees as well, which lets it be used for a second round; `begin_with` weights to start from.
    `loss_weights` are those of loss.map_loss; `average_decay` that of the running mean of the weights.
    """

    training: str
    validation: str
    target: str = "map"
    first_round: str | None = None
    begin_with: str | None = None
    widths: tuple[int, ...] = (32, 64, 96, 128)
    dropout: float = 0.1
    epochs: int = 30
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    average_decay: float = 0.998
    patience: int = 10
    loss_weights: tuple[float, float, float] = (1.0, 0.5, 4.0)
    seed: int = 1
    checkpoint_minutes: float = 5.0
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        if self.target not in ("map", "correction"):
            raise InputError(f"target is map or correction, not {self.target!r}")
        if any(width % 8 or width < 8 for width in self.widths):
            raise InputError(f"widths must be multiples of 8, for the groups of the normalisation; got {self.widths}")
        if not 2 <= len(self.widths) <= 5:
            raise InputError(f"2 to 5 widths, for 64 voxels can be halved so often; got {len(self.widths)}")
        for name in ("epochs", "batch", "patience", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("dropout", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "checkpoint_minutes", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        if len(self.loss_weights) != 3 or not all(0 <= weight < math.inf for weight in self.loss_weights):
            raise InputError(f"loss_weights are 3 numbers, none negative; got {self.loss_weights}")
        for name, known in (("precision", PRECISIONS), ("accelerator", ACCELERATORS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")

    @classmethod
    def read(cls, path: Path) -> "TrainingSettings":
        """Settings from a TOML file; InputError for unknown keys, wrong types and values that cannot be."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a TOML file: {error}") from None
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"{path}: unknown key {', '.join(unknown)}; known keys: {', '.join(sorted(known))}")
        missing = sorted({"training", "validation"} - set(values))
        if missing:
            raise InputError(f"{path}: {' and '.join(missing)} missing: name the folders of two cohorts")
        for key, value in values.items():
            if not _fits(value, str(known[key])):
                raise InputError(f"{path}: {key} = {value!r} has the wrong type, it needs {known[key]}")
        given: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
        return cls(**given)


def _fits(value: object, wanted: object) -> bool:
    """True where a TOML value can be a field of that type."""
    text = str(wanted)
    if "tuple" in text:
        kinds = (int,) if "int" in text else (int, float)
        return isinstance(value, list) and all(isinstance(n, kinds) and not isinstance(n, bool) for n in value)
    if "str" in text:
        return isinstance(value, str)
    kinds = (int,) if "int" in text else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)
