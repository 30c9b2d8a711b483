"""UIDs of DICOM's services and objects that the node knows (PS3.6 annex A)."""

VERIFICATION = "1.2.840.10008.1.1"
NM_IMAGE, CT_IMAGE = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.2"
COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
"""Storage commitment, push model, and its well-known instance."""
