"""Commands of the report that make its images again."""

import shlex
from pathlib import Path
from typing import Any

from spectac.app.anonymous import hidden
from spectac.app.comparison import Comparison, MethodResult

_SETTINGS = (
    "algorithm", "iterations", "subsets", "prior_beta", "fbp_filter", "scatter", "dew_k", "scatter_windows",
    "photopeak", "post_filter", "calibration", "device",
)  # fmt: skip
"""Parameters of a reconstruction that have an option of their name, in the order of the commands."""


def commands(comparison: Comparison) -> dict[str, str]:
    """For each method the command that makes its image again, and a division that follows it."""
    return {name: _command(comparison, name, method) for name, method in comparison.methods.items()}


def _command(comparison: Comparison, name: str, method: MethodResult) -> str:
    parameters: dict[str, Any] = method.request.parameters()
    if comparison.request.anonymous:
        parameters = hidden(parameters)
    elif parameters["calibration"] is not None:
        parameters["calibration"] = str(Path(parameters["calibration"]).resolve())
    # An image without attenuation correction is refused by --calibration.
    calibrated = parameters["calibration"] is not None and name != "none"
    words = ["spectac", "reconstruct", *comparison.sources, "--attenuation", name]
    for key, value in parameters["attenuation_options"].items():
        words += ["--attenuation-option", f"{key}={_absolute(key, value)}"]
    for key in _SETTINGS:
        if parameters[key] is not None and (key != "calibration" or calibrated):
            words += [_option(key), str(parameters[key])]
    if parameters["resolution"] is False:
        words.append("--no-resolution")
    for key, value in method.request.given.items():
        words += [_option(key), *([] if value is True else [str(value)])]
    command = shlex.join([*words, "-o", f"result_{name}"])
    if comparison.scale is None or calibrated:
        return command
    return f"{command}   # then divided by {comparison.scale.cps_per_kbq:.6g} cps per kBq"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _absolute(key: str, value: str) -> str:
    """Value of an option; a path in full, for the command may be run elsewhere."""
    return str(Path(value).resolve()) if key in ("path", "file") and Path(value).exists() else value
