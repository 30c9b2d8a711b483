"""Whatever is sent: the node answers or ends the association, writes a line, and stays as small as it was."""

import json
import os
import threading
import time

import numpy as np
import psutil
import pytest
from pydicom.dataset import Dataset
from pynetdicom.pdu_primitives import P_DATA

from spectac.app.node.receiver import CANNOT_UNDERSTAND, DUPLICATE, SUCCESS
from spectac.app.node.uids import NM_IMAGE

from .conftest import raw
from .test_receiver import _encoded, associated, kept, listening, send  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MUTATIONS = int(os.environ.get("SPECTAC_NODE_MUTATIONS", "10000"))
BIG_MB = int(os.environ.get("SPECTAC_NODE_BIG_MB", "2000"))


def resident_mb():
    return psutil.Process().memory_info().rss / 1e6


def store_bytes(association, content, number):
    """Send bytes as a dataset; the node's status, None where it ended the association."""
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == NM_IMAGE)
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = NM_IMAGE, f"1.2.3.{number}"
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 7, 0, 1
    for header, part in ((0x03, _encoded(command)), (0x02, content)):
        data = P_DATA()
        data.presentation_data_value_list.append([context.context_id, bytes([header]) + part])
        association.dul.send_pdu(data)
    _, answer = association.dimse.get_msg(block=True)
    return None if answer is None else answer.Status


def test_mutated_and_cut_datasets(settings, memory, listening, tmp_path, figure):  # noqa: F811
    listening()
    path = raw(tmp_path / "a.dcm")
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    dataset = np.frombuffer(content[start:], np.uint8)
    rng = np.random.default_rng(1)
    association = associated(settings)
    association._reactor_checkpoint.clear()
    statuses: dict[int | None, int] = {}
    before = None
    for number in range(MUTATIONS):
        changed = dataset.copy()
        if number % 4 == 0:
            changed = changed[: int(rng.integers(0, changed.size))]
        else:
            # The header is what is read: most changes fall there.
            places = rng.integers(0, min(2000, changed.size), int(rng.integers(1, 12)))
            changed[places] = rng.integers(0, 256, places.size)
        status = store_bytes(association, changed.tobytes(), number)
        statuses[status] = statuses.get(status, 0) + 1
        if number == MUTATIONS // 10:
            before = resident_mb()
    grown = resident_mb() - before
    association._reactor_checkpoint.set()
    association.release()
    figure(f"node: growth over the last nine tenths of {MUTATIONS} mutated datasets, MB", grown, "50")
    assert set(statuses) <= {SUCCESS, CANNOT_UNDERSTAND, DUPLICATE}
    assert statuses[CANNOT_UNDERSTAND] > 0.5 * MUTATIONS
    assert grown < 50.0
    assert send(settings, path) == [SUCCESS]
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "refused object" for line in lines) == MUTATIONS - statuses.get(SUCCESS, 0)
    assert max(len(json.dumps(line)) for line in lines) < 1000


def test_an_object_of_two_gigabytes(settings, memory, listening, tmp_path, figure):  # noqa: F811
    """It is cut at the limit; what came of it is removed, and the node does not grow."""
    limit_mb = 0.5 * BIG_MB
    listening(largest_mb=limit_mb)
    association = associated(settings)
    association._reactor_checkpoint.clear()
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == NM_IMAGE)
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = NM_IMAGE, "1.2.3.4"
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 7, 0, 1
    before, part, sent = resident_mb(), bytes(16000), 0
    for number in range(BIG_MB * 1_000_000 // len(part)):
        header, content = (0x00, part) if number else (0x03, _encoded(command))
        data = P_DATA()
        data.presentation_data_value_list.append([context.context_id, bytes([header]) + content])
        association.dul.send_pdu(data)
        sent += len(content)
        latest = time.monotonic() + 5.0
        while association.dul.to_provider_queue.qsize() > 50 and time.monotonic() < latest:
            time.sleep(0.0005)
        # The node has cut the association, and nothing leaves any more.
        if association.dul.to_provider_queue.qsize() > 50:
            break
    grown = resident_mb() - before
    figure(f"node: growth while {sent / 1e6:.0f} MB came, MB", grown, "60")
    assert sent < 1.3e6 * limit_mb
    assert grown < 60.0
    assert send(settings, raw(tmp_path / "a.dcm")) == [SUCCESS]
    assert len(kept(memory)) == 1


def test_a_flood_of_associations(settings, memory, listening, tmp_path):  # noqa: F811
    """200 at once; those that find a place are served, the others may come again."""
    listening(associations=5)
    established = []

    def knock():
        one = associated(settings)
        established.append(one.is_established)
        if one.is_established:
            one.release()

    threads = [threading.Thread(target=knock) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(established) == 200
    assert any(established)
    assert send(settings, raw(tmp_path / "a.dcm")) == [SUCCESS]
