"""Receiving: associations of known senders, files on the disk before they are acknowledged, storage commitment.

Objects go to the disk as they come, so that memory does not grow with them. Only then is their header read. A file that
cannot be kept is refused with DICOM's status, and the sender keeps it.
"""

import hashlib
import os
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, evt

from spectac.app.node.journal import Journal, mark, plain_reason
from spectac.app.node.memory import Commitment, File, Memory
from spectac.app.node.received import is_same, received
from spectac.app.node.secure import server_context
from spectac.app.node.settings import NodeSettings
from spectac.app.node.uids import COMMITMENT, COMMITMENT_INSTANCE, CT_IMAGE, NM_IMAGE, VERIFICATION
from spectac.recon.errors import InputError

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND, DUPLICATE = 0x0000, 0xA700, 0xC000, 0x0111
NO_SUCH_ACTION, PROCESSING_FAILURE = 0x0123, 0x0110
TAKEN = (NM_IMAGE, CT_IMAGE)
"""SOP classes that are kept."""
ARRIVING, INCOMING = "arriving", "incoming"
"""Folders of half-received files, and of those that were acknowledged."""
LARGEST_PDU, LARGEST_MESSAGE = 1 << 20, 10_000_000
"""Bytes of a protocol data unit, and of a message that is no object."""
SECONDS_OF_SILENCE = 60.0
"""An association that says nothing for so long is ended."""
STALE_S = 3600.0
"""Half-received files of associations that broke are removed after this time."""


class Receiver:
    """The node's listening side.

    Parameters
    ----------
    settings, memory, journal
        The node's.
    """

    def __init__(self, settings: NodeSettings, memory: Memory, journal: Journal) -> None:
        self._settings, self._memory, self._journal = settings, memory, journal
        self._folder = Path(settings.folder)
        self._bytes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._server: Any = None
        for name in (ARRIVING, INCOMING):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self.remove_stale(age_s=0.0)
        self._remove_unknown()

    def _remove_unknown(self) -> None:
        """Remove files that were never acknowledged: a node was killed before its memory had them."""
        known = {str(path) for path in self._memory.paths()}
        for path in (self._folder / INCOMING).glob("*/*.dcm"):
            if str(path) not in known:
                path.unlink()

    def start(self) -> None:
        """Listen in threads of their own; OSError where the port is taken."""
        settings = self._settings
        # pynetdicom has no other way to receive to the disk, nor another folder than tempfile's.
        _config.STORE_RECV_CHUNKED_DATASET = True
        tempfile.tempdir = str(self._folder / ARRIVING)
        entity = AE(settings.ae)
        entity.maximum_associations = settings.associations
        entity.require_called_aet = True
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS_OF_SILENCE
        for sop_class in TAKEN:
            entity.add_supported_context(sop_class, ALL_TRANSFER_SYNTAXES)
        entity.add_supported_context(VERIFICATION)
        entity.add_supported_context(COMMITMENT)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._ended, ["rejected"]),
            (evt.EVT_ABORTED, self._ended, ["aborted"]),
            (evt.EVT_RELEASED, self._ended, ["released"]),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_DATA_RECV, self._data),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._commit),
        ]
        self._server = entity.start_server(
            (settings.host, settings.port), block=False, evt_handlers=handlers,
            ssl_context=None if settings.tls is None else server_context(settings.tls),
        )  # fmt: skip

    def stop(self) -> None:
        """End all associations and listen no more."""
        if self._server is None:
            return
        server, self._server = self._server, None
        open_ones = list(server.active_associations)
        for association in open_ones:
            association.abort()
        server.shutdown()
        for association in open_ones:
            association.join(timeout=5.0)

    def remove_stale(self, age_s: float = STALE_S) -> None:
        """Remove half-received files that are older."""
        for path in (self._folder / ARRIVING).iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= age_s:
                    path.unlink()

    # Associations

    def _opened(self, event: Any) -> None:
        """Limits of a connection: its silence within a message, and the size of one protocol data unit."""
        connection = event.assoc.dul.socket
        connection.socket.settimeout(SECONDS_OF_SILENCE)
        receive = connection.recv

        def limited(size: int) -> bytearray:
            if size > LARGEST_PDU:
                raise OSError(f"a protocol data unit of {size} bytes")
            return receive(size)

        connection.recv = limited

    def _requested(self, event: Any) -> None:
        """Reject a sender that is not known by AE title and address."""
        title, address = _title(event), event.assoc.requestor.address
        reason = "its AE title is not known"
        # pynetdicom goes on where a handler raises: nobody may come in by that.
        with suppress(Exception):
            known = [peer for peer in self._settings.peers if peer.ae == title]
            if any(_same_host(peer.host, address) for peer in known):
                return
            reason = "its address is not that of the AE title" if known else reason
        # Rejected permanent, by the service user: calling AE title not recognised.
        event.assoc.acse.send_reject(0x01, 0x01, 0x03)
        event.assoc.kill()
        self._journal.write("refused association", ae=title, address=address, reason=reason)

    def _accepted(self, event: Any) -> None:
        requestor = event.assoc.requestor
        self._journal.write("association", ae=_title(event), address=requestor.address)

    def _ended(self, event: Any, how: str) -> None:
        self._journal.write("association ended", ae=_title(event), how=how)

    def _closed(self, event: Any) -> None:
        with self._lock:
            self._bytes.pop(event.assoc, None)
        # pynetdicom leaves what an association had half sent.
        half = getattr(getattr(event.assoc.dimse, "message", None), "_data_set_file", None)
        if half is not None:
            half.close()
            with suppress(OSError):
                Path(half.name).unlink()

    def _data(self, event: Any) -> None:
        """Cut an association whose object grows beyond the limit or fills the disk."""
        with self._lock:
            size = self._bytes[event.assoc] = self._bytes.get(event.assoc, 0) + len(event.data)
        reason = ""
        # Only objects go to the disk; what else comes is kept in memory.
        in_memory = getattr(getattr(event.assoc.dimse, "message", None), "_data_set_file", None) is None
        if size > 1e6 * self._settings.largest_mb:
            reason = f"an object of more than {self._settings.largest_mb:g} MB"
        elif in_memory and size > LARGEST_MESSAGE:
            reason = f"a message of more than {LARGEST_MESSAGE / 1e6:g} MB that is no object"
        elif size > 1e6 and self._free_bytes() < 0.5e9 * self._settings.least_free_gb:
            reason = "the disk is full"
        if reason:
            self._journal.write("aborted association", ae=_title(event), reason=reason)
            # An abort would wait behind all that is still on its way.
            event.assoc.dul.socket.close()

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    # Services

    def _echo(self, event: Any) -> int:
        return SUCCESS

    def _store(self, event: Any) -> int:
        """Keep an object: SUCCESS only when file and memory are on the disk."""
        with self._lock:
            self._bytes[event.assoc] = 0
        sender = _title(event)
        arrived = Path(event.dataset_path)
        try:
            return self._kept(arrived, sender, str(event.request.AffectedSOPInstanceUID))
        except InputError as error:
            self._journal.write("refused object", ae=sender, reason=plain_reason(_without_path(str(error), arrived)))
            return CANNOT_UNDERSTAND
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._journal.write("refused object", ae=sender, reason=reason)
            return OUT_OF_RESOURCES
        except Exception as error:  # noqa: BLE001 - a message of any kind must not bring the node down
            self._journal.write("refused object", ae=sender, reason=type(error).__name__)
            return CANNOT_UNDERSTAND
        finally:
            with suppress(OSError):
                arrived.unlink()

    def _kept(self, arrived: Path, sender: str, announced: str) -> int:
        if self._free_bytes() < 1e9 * self._settings.least_free_gb:
            raise OSError(None, "less than the space that must stay free on the disk")
        about = received(arrived, sender)
        if about.sop != announced:
            raise InputError("its SOPInstanceUID is not the one that was announced")
        sha256, size = _digest(arrived), arrived.stat().st_size
        folder = self._folder / INCOMING / mark(about.study)
        target = folder / f"{mark(about.sop)}.dcm"
        with self._memory.files_lock:
            known = [file for file in self._memory.files([about.sop]) if file.path.is_file()]
            if not known:
                folder.mkdir(exist_ok=True)
                _synced(arrived)
                os.replace(arrived, target)
                _synced(folder)
                try:
                    self._memory.put_file(File(about, target, sha256, size, time.time()))
                except sqlite3.Error:
                    target.unlink()
                    raise
        facts = {"ae": sender, "kind": about.kind, "study": mark(about.study), "instance": mark(about.sop)}
        # The same object may come in another transfer syntax, and then has other bytes.
        if known and known[0].sha256 != sha256 and not is_same(known[0].path, arrived):
            self._journal.write("refused object", **facts, reason="another one of this SOPInstanceUID came before")
            return DUPLICATE
        self._journal.write("duplicate" if known else "object", **facts, bytes=size)
        return SUCCESS

    def _commit(self, event: Any) -> tuple[int, None]:
        """Take a request for storage commitment; it is answered by the sender's thread, from the memory."""
        sender = _title(event)
        if event.action_type != 1 or event.request.RequestedSOPInstanceUID != COMMITMENT_INSTANCE:
            return NO_SUCH_ACTION, None
        try:
            if not any(peer.ae == sender and peer.port is not None for peer in self._settings.peers):
                raise ValueError("nobody could be answered")
            asked = event.action_information
            wanted = tuple(
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in asked.ReferencedSOPSequence
            )
            self._memory.add_commitment(Commitment(str(asked.TransactionUID), sender, wanted))
        except Exception as error:  # noqa: BLE001 - as in _store
            self._journal.write("refused commitment", ae=sender, reason=type(error).__name__)
            return PROCESSING_FAILURE, None
        self._journal.write("commitment asked", ae=sender, objects=len(wanted))
        return SUCCESS, None


def _title(event: Any) -> str:
    """AE title of the sender, also before the association is accepted."""
    primitive = event.assoc.requestor.primitive
    return str("" if primitive is None else primitive.calling_ae_title).strip()


def _same_host(host: str, address: str) -> bool:
    """Whether a configured host, "*" for any, is an address."""
    if host in ("*", address):
        return True
    with suppress(OSError):
        return address in {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    return False


def _digest(path: Path) -> str:
    """SHA-256 of the data set, without the meta information that each association writes anew."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(144)
        if start[128:132] == b"DICM" and start[132:136] == b"\x02\0\0\0":
            file.seek(144 + int.from_bytes(start[140:144], "little"))
        else:
            file.seek(0)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _synced(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _without_path(text: str, path: Path) -> str:
    return text.replace(str(path), "the object").replace(path.name, "the object")
