"""Attenuation models by name: the entry-point group `spectac.attenuation`, and what builds the models of spectac."""

from collections.abc import Callable, Mapping

from spectac.recon import plugins
from spectac.recon.attenuation import AttenuationModel, Chang, CTMap, MapFile, NoAttenuation, UniformMap
from spectac.recon.errors import InputError


def attenuation_model(name: str, options: Mapping[str, str]) -> AttenuationModel:
    """Model of that name from the entry-point group `spectac.attenuation`, built with the options.

    Parameters
    ----------
    name
        Name in the entry-point group, e.g. "uniform".
    options
        Texts of the model's options by their names, as the command line gives them.

    Returns
    -------
    AttenuationModel
        Model to hand to `reconstruct`.

    Raises
    ------
    InputError
        No model of that name is installed (the message lists those that are), or the model cannot take an option.

    Examples
    --------
    >>> attenuation_model("uniform", {"mu": "0.15"}).mu_per_cm
    0.15
    """
    build: Callable[[Mapping[str, str]], AttenuationModel] = plugins.plugin(plugins.ATTENUATION, name).load()
    return build(options)


def build_none(options: Mapping[str, str]) -> AttenuationModel:
    """Build `none`; it has no options.

    Parameters
    ----------
    options
        Must be empty.

    Returns
    -------
    AttenuationModel
        `NoAttenuation`.

    Raises
    ------
    InputError
        An option is given.

    Examples
    --------
    >>> build_none({}).name
    'none'
    """
    _known_only("none", options, ())
    return NoAttenuation()


def build_chang(options: Mapping[str, str]) -> AttenuationModel:
    """Build `chang` with the options mu (1/cm) and order (0 or 1).

    Parameters
    ----------
    options
        "mu": coefficient in 1/cm (default: `default_mu_per_cm`). "order": "0" or "1" (default "0").

    Returns
    -------
    AttenuationModel
        `Chang` with these numbers.

    Raises
    ------
    InputError
        An option is unknown or no number, or the order is neither 0 nor 1.

    Examples
    --------
    >>> model = build_chang({"mu": "0.12", "order": "1"})
    >>> model.mu_per_cm, model.order
    (0.12, 1)
    """
    _known_only("chang", options, ("mu", "order"))
    order = options.get("order", "0")
    if order not in ("0", "1"):
        raise InputError(f"Chang's correction has order 0 or 1, not {order}")
    return Chang(_number("chang", options, "mu", None), order=int(order))


def build_uniform(options: Mapping[str, str]) -> AttenuationModel:
    """Build `uniform` with the option mu (1/cm).

    Parameters
    ----------
    options
        "mu": coefficient in 1/cm (default: `default_mu_per_cm`).

    Returns
    -------
    AttenuationModel
        `UniformMap` with this coefficient.

    Raises
    ------
    InputError
        An option is unknown or no number.

    Examples
    --------
    >>> build_uniform({"mu": "0.15"}).mu_per_cm
    0.15
    """
    _known_only("uniform", options, ("mu",))
    return UniformMap(_number("uniform", options, "mu", None))


def build_ct(options: Mapping[str, str]) -> AttenuationModel:
    """Build `ct`: path, series, blur_fwhm_mm, tube_voltage_kv; remove_table, extend and assume_aligned (yes or no).

    Parameters
    ----------
    options
        "path" (needed): folder of the CT. "series": which series of it. "blur_fwhm_mm": 0 to 50 mm, default 8.
        "tube_voltage_kv": in kV. The others are "yes" or "no", default "no".

    Returns
    -------
    AttenuationModel
        `CTMap` with these options; no file has been read.

    Raises
    ------
    InputError
        An option is unknown, missing, out of its range, no number, or neither yes nor no.

    Examples
    --------
    >>> build_ct({"path": "ct", "extend": "yes"}).extend
    True
    """
    known = ("path", "series", "blur_fwhm_mm", "tube_voltage_kv", "remove_table", "extend", "assume_aligned")
    _known_only("ct", options, known)
    if "path" not in options:
        raise InputError("attenuation ct needs a CT series: give --ct DIR")
    blur = _number("ct", options, "blur_fwhm_mm", 8.0)
    if blur is None or not 0 <= blur <= 50:
        raise InputError(f"attenuation ct: blur_fwhm_mm must lie between 0 and 50, not {options['blur_fwhm_mm']}")
    return CTMap(
        options["path"],
        options.get("series"),
        blur,
        remove_table=_yes("ct", options, "remove_table"),
        extend=_yes("ct", options, "extend"),
        assume_aligned=_yes("ct", options, "assume_aligned"),
        tube_voltage_kv=_number("ct", options, "tube_voltage_kv", None),
    )


def _yes(model: str, options: Mapping[str, str], key: str) -> bool:
    text = options.get(key, "no").lower()
    if text not in ("yes", "no"):
        raise InputError(f"attenuation {model}: option {key} needs yes or no, not {options[key]!r}")
    return text == "yes"


def build_map(options: Mapping[str, str]) -> AttenuationModel:
    """Build `map` with the options file (in 1/cm, or a folder with one) and energy_kev (default: what it says).

    Parameters
    ----------
    options
        "file" (needed): file of the map, or a folder that holds one. "energy_kev": photon energy of the map in keV.

    Returns
    -------
    AttenuationModel
        `MapFile` with these options; no file has been read.

    Raises
    ------
    InputError
        An option is unknown, "file" is missing, or the energy is no number.

    Examples
    --------
    >>> build_map({"file": "mu.nii.gz", "energy_kev": "140.5"}).energy_kev
    140.5
    """
    _known_only("map", options, ("file", "energy_kev"))
    if "file" not in options:
        raise InputError("attenuation map needs a file: give --mu-map FILE")
    return MapFile(options["file"], _number("map", options, "energy_kev", None))


def _known_only(model: str, options: Mapping[str, str], known: tuple[str, ...]) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        listed = ", ".join(known) if known else "none"
        raise InputError(f"attenuation {model} does not know the option {', '.join(unknown)}; its options: {listed}")


def _number(model: str, options: Mapping[str, str], key: str, default: float | None) -> float | None:
    if key not in options:
        return default
    try:
        return float(options[key])
    except ValueError:
        raise InputError(f"attenuation {model}: option {key} needs a number, not {options[key]!r}") from None
