"""DICOM: raw NM projections and reconstructions, CT series."""
