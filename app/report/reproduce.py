"""Commands of the report that make its images again."""

import shlex
from pathlib import Path

from spectac.app.anonymous import hidden
from spectac.app.comparison import Comparison, MethodResult
from spectac.app.options import arguments


def commands(comparison: Comparison) -> dict[str, str]:
    """For each method the command that makes its image again, and a division that follows it."""
    return {name: _command(comparison, name, method) for name, method in comparison.methods.items()}


def _command(comparison: Comparison, name: str, method: MethodResult) -> str:
    request = comparison.request
    parameters = request.parameters(method)
    if request.comparison.anonymous:
        parameters = hidden(parameters)
    else:
        parameters |= {field: str(path.resolve()) for field, path in method.reconstruction.files().items()}
    model = method.attenuation.attenuation
    # An image without attenuation correction is refused by --calibration.
    calibrated = parameters["calibration"] is not None and model != "none"
    words = ["spectac", "reconstruct", *comparison.sources, "--attenuation", model]
    for key, value in parameters["attenuation_options"].items():
        words += ["--attenuation-option", f"{key}={_absolute(key, value)}"]
    if not calibrated:
        parameters["calibration"] = None
    if model == "none":
        parameters["holder"] = None
    words += [
        *arguments(parameters, type(method.reconstruction)),
        *arguments(parameters["given"], type(request.study)),
    ]
    command = shlex.join([*words, "-o", f"result_{name}"])
    if comparison.scale is None or calibrated:
        return command
    return f"{command}   # then divided by {comparison.scale.cps_per_kbq:.6g} cps per kBq"


def _absolute(key: str, value: str) -> str:
    """Value of an option; a path in full, for the command may be run elsewhere."""
    return str(Path(value).resolve()) if key in ("path", "file") and Path(value).exists() else value
