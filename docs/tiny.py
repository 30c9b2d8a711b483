"""Arguments with which the gallery runs the examples."""


def arguments(gallery_conf: object, script_vars: object) -> list[str]:
    """Return what follows an example's name: the grids are tiny, so that the pages are made in minutes."""
    return ["--tiny"]
