"""PyTomography from DICOM to DICOM on a study of speed/clinic.py: read, OSEM 10 x 10, write.

python pytomography_dicom.py FOLDER DEVICE THREADS SIGMA0_MM SLOPE    projections.dcm, mu.npy -> image, pytomography.npy
"""

import sys
import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytomography
    import torch
    from pytomography.algorithms import OSEM
    from pytomography.io.SPECT import dicom
    from pytomography.likelihoods import PoissonLogLikelihood
    from pytomography.metadata.SPECT import SPECTPSFMeta
    from pytomography.projectors.SPECT import SPECTSystemMatrix
    from pytomography.transforms.SPECT import SPECTAttenuationTransform, SPECTPSFTransform

ITERATIONS, SUBSETS = 10, 10


def main(folder: Path, device: str, threads: int, sigma0_mm: float, slope: float) -> None:
    torch.set_num_threads(threads)
    pytomography.set_device(torch.device(device))
    study = str(folder / "projections.dcm")
    object_meta, projection_meta = dicom.get_metadata(study, index_peak=0)
    counts = dicom.get_projections(study, index_peak=0)
    mu = torch.from_numpy(np.load(folder / "mu.npy")).to(pytomography.device)
    system = SPECTSystemMatrix(
        obj2obj_transforms=[
            SPECTAttenuationTransform(attenuation_map=mu),
            SPECTPSFTransform(SPECTPSFMeta((slope, sigma0_mm / 10.0))),
        ],
        proj2proj_transforms=[],
        object_meta=object_meta,
        proj_meta=projection_meta,
    )
    image = OSEM(PoissonLogLikelihood(system, counts))(n_iters=ITERATIONS, n_subsets=SUBSETS)
    dicom.save_dcm(str(folder / "pytomography"), image, study, single_dicom_file=True)
    np.save(folder / "pytomography.npy", image.cpu().numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
