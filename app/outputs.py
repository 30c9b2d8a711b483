"""Where results may go: never over a file that is read, and in a folder never over one that spectac did not write."""

from collections.abc import Collection, Iterable
from pathlib import Path

from spectac.recon import InputError
from spectac.recon.io import files_of
from spectac.recon.io.atomic import check_folder, check_parent, results_in
from spectac.recon.io.content import nifti_side_car


def check_results(folder: Path, what: str, names: Collection[str], inputs: Iterable[Path] = ()) -> None:
    """Check that files and folders of these names may be replaced or removed in a folder, which need not be there yet.

    `what` lies in it (`atomic.check_folder`); `inputs` are files and folders that are read.
    Raises InputError where one is there that no earlier run wrote, and where an input is or lies in one.
    """
    check_folder(folder, what)
    there = [folder / name for name in sorted(names) if (folder / name).exists()]
    ours = results_in(folder)
    for path in there:
        if path.name not in ours:
            raise InputError(f"{path} is there and no result of spectac: give another folder with -o")
    places = {path.resolve() for path in there}
    read = [path for path in inputs if path.exists()] if places else []
    for file in (file for path in read for file in (path, *files_of(path))):
        if not places.isdisjoint((file.resolve(), *file.resolve().parents)):
            raise InputError(f"{file} is read and would be replaced by a result: give another folder with -o")


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Check that a file may be written: its folder is there, and neither it nor its side-car is among the inputs.

    Raises InputError.
    """
    check_parent(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file with -o")
    for place in (path, nifti_side_car(path)):
        read = [one for one in inputs if one.exists()] if place is not None and place.exists() else []
        if place is not None and any(place.samefile(file) for one in read for file in files_of(one)):
            raise InputError(f"{place} is read and would be replaced: give another file with -o")
