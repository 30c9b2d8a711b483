"""Images of an earlier round for training: what a network of a second round sees.

Training takes them from the earlier network's map: one pass without dropout, with the scatter window where there is
one. Predicting takes them from the mean of several passes of the trained network itself (learned/estimate.py), whose
first round is better than the earlier network's: the second round sees images that are corrected a little better than
those that it was trained with.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from spectac.learned.inputs import Previews, normalised
from spectac.learned.patients import acquisition_of
from spectac.learned.weights_file import read_weights
from spectac.recon.errors import InputError
from spectac.recon.pipeline import preview_image
from spectac.recon.resample import resample
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap
from spectac.simulate.cohort.patient_arrays import PatientArrays


def earlier_round(weights: Path) -> Callable[[PatientArrays, Previews], Array]:
    """Function of a patient and its previews: the normalised photopeak preview, corrected by the map of `weights`.

    Raises InputError for weights that cannot be read or do not give a map.
    """
    network, _ = read_weights(weights)
    if network.settings.target != "map":
        raise InputError(f"{weights}: first_round needs weights of a map, these give a {network.settings.target}")

    @torch.no_grad()
    def corrected(patient: PatientArrays, seen: Previews) -> Array:
        relative = network(torch.from_numpy(seen.channels())[None])[0].numpy()
        mu = MuMap(relative * water_per_cm(patient.energy_kev), patient.grid, patient.energy_kev)
        image = preview_image(acquisition_of(patient), patient.counts, mu)
        return normalised(resample(image.values, image.grid, patient.grid), patient.grid.voxel_ml)

    return corrected
