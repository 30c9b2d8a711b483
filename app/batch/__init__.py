"""`spectac batch`: a list of studies, each compared by all chosen methods, and an overview of all results."""

from spectac.app.batch.run import batch

__all__ = ["batch"]
