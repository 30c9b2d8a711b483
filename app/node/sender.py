"""Sending: results to their destinations, again until they are there, and answers to storage commitments."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pynetdicom import AE, build_role

from spectac.app.node.journal import Journal, mark, plain_reason
from spectac.app.node.memory import Commitment, Memory, Send
from spectac.app.node.received import header_of
from spectac.app.node.secure import client_context
from spectac.app.node.settings import Destination, NodeSettings, Peer
from spectac.app.node.uids import COMMITMENT, COMMITMENT_INSTANCE
from spectac.recon.errors import InputError
from spectac.recon.io.dicom.commitment import event_information
from spectac.recon.io.dicom.elements import transfer_syntax

FIRST_WAIT_S, LONGEST_WAIT_S = 15.0, 1800.0
"""Waiting times between two tries grow from the first to the longest, twice as long each time."""
MOST_ANSWERS = 340
"""Tries of an answer to a storage commitment, a week at the longest waits."""
IMPLICIT_VR = "1.2.840.10008.1.2"
SECONDS_OF_SILENCE = 60.0
CONNECT_S = 10.0


def wait_s(tries: int) -> float:
    """Seconds until the next try after so many."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries, 20))


class Sender:
    """The node's sending side.

    Parameters
    ----------
    settings, memory, journal
        The node's.
    """

    def __init__(self, settings: NodeSettings, memory: Memory, journal: Journal) -> None:
        self._settings, self._memory, self._journal = settings, memory, journal
        self._destinations = {one.name: one for one in settings.destinations}
        self._peers = {one.ae: one for one in settings.peers}

    def send_due(self) -> None:
        """Send all that is due, destination by destination, and answer what was asked."""
        due: dict[str, list[Send]] = defaultdict(list)
        for send in self._memory.due_sends(time.time()):
            due[send.destination].append(send)
        for name, sends in due.items():
            destination = self._destinations.get(name)
            if destination is None:
                self._postpone(sends, f"there is no destination {name} in the settings any more")
                continue
            try:
                self._send_to(destination, sends)
            except Exception as error:  # noqa: BLE001 - a name that is not known, a certificate: others must not wait
                left = {one.sop for one in self._memory.due_sends(time.time()) if one.destination == name}
                self._postpone([one for one in sends if one.sop in left], f"{type(error).__name__}: {error}")
        silent: set[str] = set()
        for asked in self._memory.due_commitments(time.time()):
            if asked.peer in silent or not self._answer(asked):
                silent.add(asked.peer)

    def _send_to(self, destination: Destination, sends: Sequence[Send]) -> None:
        items, waiting = [], []
        for send in sends:
            try:
                items.append(header_of(send.path))
                waiting.append(send)
            except (InputError, OSError):
                self._postpone([send], "its file is gone or damaged")
        entity = self._entity()
        for sop_class, syntax in {(str(item.text("SOPClassUID")), transfer_syntax(item)) for item in items}:
            # As it is, or in the syntax that every archive must take.
            entity.add_requested_context(sop_class, syntax)
            entity.add_requested_context(sop_class, IMPLICIT_VR)
        if not waiting:
            return
        association = self._associated(entity, destination.host, destination.port, destination.ae, tls=destination.tls)
        if not association.is_established:
            self._postpone(waiting, f"{destination.name} does not answer")
            return
        try:
            for send in waiting:
                self._send_one(association, send)
        finally:
            if association.is_established:
                association.release()

    def _send_one(self, association: Any, send: Send) -> None:
        try:
            status = association.send_c_store(send.path) if association.is_established else None
        except (ValueError, RuntimeError, OSError) as error:  # no presentation context, or the association broke
            self._postpone([send], str(error))
            return
        code = getattr(status, "Status", None)
        # 0xB000 to 0xBFFF are warnings of an object that was kept.
        if code is not None and (code == 0 or 0xB000 <= code <= 0xBFFF):
            self._memory.sent(send)
            self._journal.write("sent", job=send.job, instance=mark(send.sop), destination=send.destination)
        else:
            self._postpone([send], "no answer" if code is None else f"refused with status {code:#06x}")

    def _postpone(self, sends: Sequence[Send], reason: str) -> None:
        reason = plain_reason(reason)
        for send in sends:
            wait = wait_s(send.tries)
            self._memory.not_sent(send, time.time() + wait, reason)
            facts = {"job": send.job, "destination": send.destination, "again_in_s": wait}
            self._journal.write("not sent", instance=mark(send.sop), **facts, reason=reason)

    def _answer(self, asked: Commitment) -> bool:
        """Tell a peer which of its objects are kept; False where it does not listen."""
        peer = self._peers.get(asked.peer)
        if peer is None or peer.port is None or asked.tries > MOST_ANSWERS:
            reason = "it did not listen for days" if peer is not None else "its port is not in the settings"
            self._journal.write("commitment given up", ae=asked.peer, reason=reason)
            self._memory.answered(asked)
            return True
        files = self._memory.files(sop for _, sop in asked.wanted)
        kept = {file.about.sop for file in files if file.path.is_file()}
        failed = [pair for pair in asked.wanted if pair[1] not in kept]
        if self._told(peer, asked, [pair for pair in asked.wanted if pair[1] in kept], failed):
            self._memory.answered(asked)
            self._journal.write("commitment", ae=peer.ae, kept=len(kept), failed=len(failed))
            return True
        wait = wait_s(asked.tries)
        self._memory.add_commitment(Commitment(asked.id, asked.peer, asked.wanted, asked.tries + 1, time.time() + wait))
        self._journal.write("commitment not answered", ae=peer.ae, again_in_s=wait)
        return False

    def _told(
        self, peer: Peer, asked: Commitment, kept: Sequence[tuple[str, str]], failed: Sequence[tuple[str, str]]
    ) -> bool:
        entity = self._entity()
        entity.add_requested_context(COMMITMENT)
        role = build_role(COMMITMENT, scp_role=True)
        association = self._associated(
            entity, peer.host, peer.port, peer.ae, tls=self._settings.tls is not None, roles=[role]
        )
        if not association.is_established:
            return False
        try:
            status, _ = association.send_n_event_report(
                event_information(asked.id, kept, failed),
                2 if failed else 1,
                COMMITMENT,
                COMMITMENT_INSTANCE,
            )
            return getattr(status, "Status", None) == 0
        except (ValueError, RuntimeError):
            return False
        finally:
            if association.is_established:
                association.release()

    def _entity(self) -> Any:
        entity = AE(self._settings.ae)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS_OF_SILENCE
        entity.connection_timeout = CONNECT_S
        return entity

    def _associated(self, entity: Any, host: str, port: int | None, ae: str, *, tls: bool, roles: Any = None) -> Any:
        secure = None
        if tls and self._settings.tls is not None:
            secure = (client_context(self._settings.tls), host)
        return entity.associate(host, port, ae_title=ae, ext_neg=roles, tls_args=secure)
