"""`spectac node`: a DICOM node that receives raw projections, reconstructs them and sends the images on."""

from spectac.app.node.run import node

__all__ = ["node"]
