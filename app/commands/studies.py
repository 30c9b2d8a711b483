"""One study: info, reconstruct, calibrate, export."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.options import (
    Algorithm,
    Anonymous,
    AssumeAligned,
    Calibration,
    Config,
    CtFolder,
    Device,
    DewK,
    ExtendCt,
    FbpFilter,
    Iterations,
    MuMapFile,
    MuMapKev,
    Output,
    Photopeak,
    PostFilter,
    PriorBeta,
    Resolution,
    Scatter,
    ScatterWindows,
    StudyPaths,
    Subsets,
    TubeVoltage,
    UniformMu,
    model_options,
    open_given,
    reading,
)


@reading
def info(
    study: StudyPaths,
    given: Mapping[str, object],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    photopeak: Photopeak = None,
    scatter: Scatter = "auto",
    dew_k: DewK = None,
    scatter_windows: ScatterWindows = None,
) -> None:
    """Show windows, views, orbit and counts of a study, how its scatter is corrected, and what looks wrong."""
    opened = open_given(study, given)
    from spectac.app.describe import describe, in_words
    from spectac.recon.scatter import projections

    used = None
    if (photopeak, scatter, dew_k, scatter_windows) != (None, "auto", None, None):
        used = projections(opened, scatter, photopeak, dew_k=dew_k, scatter_windows=scatter_windows)
    facts = describe(opened, used)
    print(json.dumps(facts, indent=2) if as_json else "\n".join(in_words(facts)))


@reading
def reconstruct(
    study: StudyPaths,
    output: Output,
    given: Mapping[str, object],
    config: Config = None,
    attenuation: Annotated[str, typer.Option(help="none, chang, uniform, predicted, map, ct, or a plug-in.")] = "none",
    attenuation_option: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Option of the model; repeatable.")
    ] = None,
    mu_map: MuMapFile = None,
    mu_map_kev: MuMapKev = None,
    ct: CtFolder = None,
    tube_voltage_kv: TubeVoltage = None,
    extend_ct: ExtendCt = False,
    assume_aligned: AssumeAligned = False,
    uniform_mu: UniformMu = None,
    photopeak: Photopeak = None,
    algorithm: Algorithm = "osem",
    iterations: Iterations = 10,
    subsets: Subsets = 10,
    prior_beta: PriorBeta = None,
    fbp_filter: FbpFilter = None,
    scatter: Scatter = "auto",
    dew_k: DewK = None,
    scatter_windows: ScatterWindows = None,
    resolution: Resolution = True,
    post_filter: PostFilter = None,
    calibration: Calibration = None,
    device: Device = "auto",
) -> None:
    """Reconstruct raw projections into DIR/image.nii.gz, image.dcm, mu_map.nii.gz and record.json."""
    from spectac.app.run import Request, run

    options = model_options(
        attenuation,
        attenuation_option,
        mu_map,
        uniform_mu,
        ct,
        extend_ct,
        assume_aligned,
        mu_map_kev,
        tube_voltage_kv,
    )
    request = Request(
        attenuation=attenuation,
        attenuation_options=options,
        photopeak=photopeak,
        algorithm=algorithm,
        iterations=iterations,
        subsets=subsets,
        prior_beta=prior_beta,
        fbp_filter=fbp_filter,
        scatter=scatter,
        dew_k=dew_k,
        scatter_windows=scatter_windows,
        resolution=resolution,
        post_filter=post_filter,
        calibration=None if calibration is None else str(calibration),
        device=device,
        given=given,
    )
    opened = open_given(study, given)
    inputs = [
        Path(options[key])
        for model, key in (("map", "file"), ("ct", "path"))
        if attenuation == model and key in options
    ]
    if calibration is not None:
        inputs.append(calibration)
    for line in run(opened, request, output, [*study, *inputs]):
        print(line)


@reading
def calibrate(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the calibration (JSON).")],
    activity_mbq: Annotated[
        float, typer.Option(help="Activity in the phantom, what stayed in the syringe subtracted.")
    ],
    volume_ml: Annotated[float, typer.Option(help="Volume that the activity is in.")],
    assayed: Annotated[str, typer.Option(metavar="TIME", help="When it was measured, e.g. 2026-11-02T09:30.")],
    given: Mapping[str, object],
    wall_mm: Annotated[float, typer.Option(help="Thickness of the phantom's wall, which absorbs as water does.")] = 0.0,
    voi: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Label image whose label 1 is the VOI; default: 30 mm inside.")
    ] = None,
    config: Config = None,
    attenuation: Annotated[str, typer.Option(help="uniform (of water), ct or map.")] = "uniform",
    mu_map: MuMapFile = None,
    mu_map_kev: MuMapKev = None,
    ct: CtFolder = None,
    tube_voltage_kv: TubeVoltage = None,
    extend_ct: ExtendCt = False,
    uniform_mu: UniformMu = None,
    photopeak: Photopeak = None,
    iterations: Iterations = 10,
    subsets: Subsets = 10,
    scatter: Scatter = "auto",
    dew_k: DewK = None,
    scatter_windows: ScatterWindows = None,
    resolution: Resolution = True,
    device: Device = "auto",
) -> None:
    """Measure counts per second per kBq in the scan of a uniform phantom, for --calibration."""
    from spectac.app.calibrate import calibrate_camera
    from spectac.app.run import Request

    request = Request(
        attenuation=attenuation,
        attenuation_options=model_options(
            attenuation,
            None,
            mu_map,
            uniform_mu,
            ct,
            extend_ct,
            mu_map_kev=mu_map_kev,
            tube_voltage_kv=tube_voltage_kv,
        ),
        photopeak=photopeak,
        iterations=iterations,
        subsets=subsets,
        scatter=scatter,
        dew_k=dew_k,
        scatter_windows=scatter_windows,
        resolution=resolution,
        device=device,
        given=given,
    )
    opened = open_given(study, given)
    lines = calibrate_camera(
        opened,
        request,
        output,
        activity_mbq=activity_mbq,
        volume_ml=volume_ml,
        assayed=assayed,
        wall_mm=wall_mm,
        labels=voi,
    )
    for line in lines:
        print(line)


@reading
def export(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Empty or new folder for the files.")],
    to: Annotated[str, typer.Option(help="stir, simind or pytomography.")],
    given: Mapping[str, object],
    mu_map: MuMapFile = None,
    mu_map_kev: MuMapKev = None,
    anonymous: Anonymous = False,
) -> None:
    """Write a study as STIR, SIMIND's users or PyTomography read it, and say what their files cannot hold."""
    opened = open_given(study, given)
    from spectac.app.export import export as export_study

    for line in export_study(opened, to, output, mu_map=mu_map, mu_map_kev=mu_map_kev, anonymous=anonymous):
        print(line)
