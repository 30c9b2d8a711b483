"""Methods against each other: compare on one study, batch on many, demo on a virtual one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.commands import Interrupted
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
    Methods,
    MuMapFile,
    MuMapKev,
    Output,
    Photopeak,
    PostFilter,
    PriorBeta,
    Resolution,
    Scatter,
    ScatterWindows,
    Scheduler,
    StudyPaths,
    Subsets,
    TubeVoltage,
    named_methods,
    reading,
)
from spectac.recon.errors import InputError


@reading
def compare(
    study: StudyPaths,
    output: Output,
    given: Mapping[str, object],
    config: Config = None,
    methods: Methods = None,
    ct: CtFolder = None,
    tube_voltage_kv: TubeVoltage = None,
    extend_ct: ExtendCt = False,
    assume_aligned: AssumeAligned = False,
    mu_map: MuMapFile = None,
    mu_map_kev: MuMapKev = None,
    truth: Annotated[
        Path | None, typer.Option(help="NIfTI image of the true activity, or the folder truth of spectac simulate.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Label image (NIfTI) for the VOIs; default: the truth's, or placed by a template."),
    ] = None,
    normals: Annotated[
        Path | None,
        typer.Option(help="Folder of a spectac batch of healthy subjects, or a CSV like comparison.csv: z-scores."),
    ] = None,
    tracer: Annotated[str | None, typer.Option(help="dat or perfusion; default: by what the image shows.")] = None,
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
    anonymous: Anonymous = False,
) -> None:
    """Reconstruct a study with every attenuation model: DIR/report.html, comparison.csv and images."""
    from spectac.app.compare import compare as compare_study
    from spectac.app.comparison import CompareRequest
    from spectac.app.run import Request

    base = Request(
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
    request = CompareRequest(
        base,
        methods=named_methods(methods),
        ct=ct,
        extend_ct=extend_ct,
        assume_aligned=assume_aligned,
        tube_voltage_kv=tube_voltage_kv,
        mu_map=mu_map,
        mu_map_kev=mu_map_kev,
        truth=truth,
        labels=labels,
        normals=normals,
        tracer=tracer,
        anonymous=anonymous,
    )
    for line in compare_study(study, request, output).lines:
        print(line)


@reading
def batch(
    listed: Annotated[Path, typer.Argument(metavar="LIST", help="Folder of studies, or CSV with a column study.")],
    output: Output,
    given: Mapping[str, object],
    config: Config = None,
    methods: Methods = None,
    tube_voltage_kv: TubeVoltage = None,
    extend_ct: ExtendCt = False,
    assume_aligned: AssumeAligned = False,
    mu_map_kev: MuMapKev = None,
    normals: Annotated[
        Path | None,
        typer.Option(help="Folder of a spectac batch of healthy subjects, or a CSV like comparison.csv: z-scores."),
    ] = None,
    tracer: Annotated[str | None, typer.Option(help="dat or perfusion; default: by what the images show.")] = None,
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
    anonymous: Anonymous = False,
    scheduler: Scheduler = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes on this machine (default: one a GPU, or for two cores); 0: without Dask."),
    ] = None,
    work: Annotated[str | None, typer.Option(hidden=True, metavar="MODULE:FUNCTION")] = None,
) -> None:
    """Compare the methods on many studies: DIR/index.html, summary.csv, a report each; resumed by the same command."""
    from spectac.app.batch.request import WORK, BatchRequest
    from spectac.app.batch.run import make_batch
    from spectac.app.comparison import CompareRequest
    from spectac.app.run import Request

    if scheduler is not None and workers is not None:
        raise InputError("give --scheduler or --workers, not both")
    base = Request(
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
    request = BatchRequest(
        CompareRequest(base, normals=normals, tracer=tracer, anonymous=anonymous),
        named_methods(methods),
        extend_ct,
        assume_aligned,
        tube_voltage_kv,
        mu_map_kev,
        work=WORK if work is None else work,
    )
    try:
        lines = make_batch(listed, request, output, scheduler=scheduler, workers=workers)
    except KeyboardInterrupt as stopped:
        raise Interrupted(str(stopped)) from None
    for line in lines:
        print(line)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 1,
    counts: Annotated[float, typer.Option(min=1e3, max=1e10, help="Counts of the acquisition.")] = 3e6,
) -> None:
    """Simulate a head's noisy projections, reconstruct with every attenuation model, show pictures and errors."""
    from spectac.app.demo import run_demo

    try:
        lines = run_demo(output, seed=seed, counts=counts)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {output} holds what was finished; the same command starts again") from None
    for line in lines:
        print(line)
