"""What a node answers to a storage commitment."""

from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

NO_SUCH_OBJECT = 0x0112
"""Failure reason: no such object instance (PS3.4 J.3.3)."""


def event_information(transaction: str, kept: Iterable[tuple[str, str]], failed: Iterable[tuple[str, str]]) -> Dataset:
    """Event information of the report to a request for storage commitment (PS3.4 table J.3-2).

    Parameters
    ----------
    transaction : str
        TransactionUID of the request.
    kept, failed : iterable of pairs
        SOP class and instance of the objects that are kept, and of those that are not.

    Returns
    -------
    Dataset
        With ReferencedSOPSequence, and FailedSOPSequence where something failed.

    Examples
    --------
    >>> about = event_information("1.2.3", [("1.2", "1.2.4")], [])
    >>> about.ReferencedSOPSequence[0].ReferencedSOPInstanceUID, "FailedSOPSequence" in about
    ('1.2.4', False)
    """
    about = Dataset()
    about.TransactionUID = transaction
    for keyword, pairs in (("ReferencedSOPSequence", list(kept)), ("FailedSOPSequence", list(failed))):
        items = []
        for sop_class, sop in pairs:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop
            if keyword == "FailedSOPSequence":
                item.FailureReason = NO_SUCH_OBJECT
            items.append(item)
        if items:
            setattr(about, keyword, Sequence(items))
    return about
