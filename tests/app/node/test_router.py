"""From files to jobs: completeness, rules, and that nobody gets another person's CT."""

import json
from dataclasses import replace

import pytest

from spectac.app.node.journal import plain_reason
from spectac.app.node.memory import File
from spectac.app.node.received import received
from spectac.app.node.router import Router
from spectac.app.node.settings import Match

from .conftest import FRAME, ct, raw, with_rule

QUIET = 1000.0


@pytest.fixture
def come(memory, tmp_path):
    """Function that puts files into the memory, as if they had come at a time."""

    def put(*paths, at=0.0):
        for path in paths:
            content = path.read_bytes()
            digest = str(hash(content))
            memory.put_file(File(received(path, "CAMERA"), path, digest, len(content), at))

    return put


def jobs(memory):
    return [(job.state, len(job.files), len(job.ct)) for job in memory.jobs()]


def events(tmp_path):
    return [json.loads(line)["event"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def test_a_study_is_a_job_once_it_is_quiet_and_only_once(settings, memory, journal, come, tmp_path):
    router = Router(replace(settings, quiet_seconds=60.0), memory, journal)
    come(raw(tmp_path / "a.dcm"), at=QUIET)
    router.route(QUIET + 59.0)
    assert jobs(memory) == []
    for _ in range(2):
        router.route(QUIET + 61.0)
    # A node that was started again knows it as well.
    Router(replace(settings, quiet_seconds=60.0), memory, journal).route(QUIET + 99.0)
    assert jobs(memory) == [("waiting", 1, 0)]


def test_a_node_that_was_away_waits_for_what_may_have_been_on_its_way(settings, memory, journal, come, tmp_path):
    come(raw(tmp_path / "a.dcm"), at=QUIET)
    router = Router(replace(settings, quiet_seconds=60.0), memory, journal, since=QUIET + 500.0)
    router.route(QUIET + 559.0)
    assert jobs(memory) == []
    router.route(QUIET + 561.0)
    assert jobs(memory) == [("waiting", 1, 0)]


def test_the_first_rule_that_fits_is_taken_and_none_is_told(settings, memory, journal, come, tmp_path):
    come(raw(tmp_path / "a.dcm"))
    Router(with_rule(settings, match=Match(nuclide="Tc-99m")), memory, journal).route(QUIET)
    assert jobs(memory) == [("no rule", 1, 0)]
    assert events(tmp_path) == ["no rule"]


@pytest.mark.parametrize(
    ("changes", "paired"),
    [
        ({}, True),
        ({"StudyInstanceUID": "1.2.3.2"}, True),
        ({"frame": "1.2.3.98"}, True),
        ({"StudyInstanceUID": "1.2.3.2", "frame": "1.2.3.98"}, False),
        ({"PatientID": "P2"}, False),
        ({"IssuerOfPatientID": "elsewhere"}, False),
        ({"PatientBirthDate": "19600102"}, False),
        ({"PatientBirthDate": ""}, False),
        ({"PatientSex": "M"}, False),
        # The name may be spelt in another way.
        ({"PatientName": "DOE^J"}, True),
    ],
)
def test_a_ct_is_used_only_where_person_and_place_are_the_same(
    settings, memory, journal, come, tmp_path, changes, paired
):
    come(raw(tmp_path / "a.dcm"), *ct(tmp_path / "ct", **changes))
    Router(with_rule(settings, methods=("uniform", "ct")), memory, journal).route(QUIET)
    assert jobs(memory) == [("waiting", 1, 3 * paired)]


def test_a_person_without_an_id_gets_no_ct(settings, memory, journal, come, tmp_path):
    come(raw(tmp_path / "a.dcm", PatientID=""), *ct(tmp_path / "ct", PatientID=""))
    Router(with_rule(settings, methods=("uniform", "ct")), memory, journal).route(QUIET)
    assert jobs(memory) == [("waiting", 1, 0)]
    assert "CT of another person" in events(tmp_path)


def test_of_several_cts_that_of_the_same_frame_is_taken_then_the_larger_one(settings, memory, journal, come, tmp_path):
    come(raw(tmp_path / "a.dcm"), *ct(tmp_path / "other", frame="1.2.3.98", slices=9))
    router = Router(with_rule(settings, methods=("uniform", "ct")), memory, journal)
    come(*ct(tmp_path / "scout", slices=2), *ct(tmp_path / "whole", slices=5))
    router.route(QUIET)
    assert jobs(memory) == [("waiting", 1, 5)]


def test_a_rule_that_needs_a_ct_waits_for_it_then_goes_on_and_says_so(settings, memory, journal, come, tmp_path):
    settings = with_rule(settings, methods=("uniform", "ct"), needs="ct", wait_minutes=10.0)
    router = Router(settings, memory, journal)
    come(raw(tmp_path / "a.dcm"))
    router.route(QUIET)
    assert jobs(memory) == [("waiting for CT", 1, 0)]
    router.route(QUIET + 599.0)
    assert jobs(memory) == [("waiting for CT", 1, 0)]
    router.route(QUIET + 601.0)
    assert jobs(memory) == [("waiting", 1, 0)]
    assert memory.jobs()[0].note == "no CT of this patient came in time"
    # One that comes later makes a new series.
    come(*ct(tmp_path / "ct"), at=QUIET + 700.0)
    router.route(QUIET + 800.0)
    assert jobs(memory) == [("waiting", 1, 0), ("waiting", 1, 3)]


def test_a_ct_in_time_takes_the_place_of_waiting(settings, memory, journal, come, tmp_path):
    router = Router(with_rule(settings, methods=("uniform", "ct"), needs="ct"), memory, journal)
    come(raw(tmp_path / "a.dcm"))
    router.route(QUIET)
    # In a study of its own, in the same frame of reference.
    come(*ct(tmp_path / "ct", StudyInstanceUID="1.2.3.7"), at=QUIET + 5.0)
    router.route(QUIET + 6.0)
    assert jobs(memory) == [("waiting", 1, 3)]
    assert memory.jobs()[0].study == "1.2.3.1"


def test_a_study_without_raw_projections_is_told_and_makes_no_job(settings, memory, journal, come, tmp_path):
    come(*ct(tmp_path / "ct"))
    Router(settings, memory, journal).route(QUIET)
    assert jobs(memory) == []
    assert events(tmp_path) == ["no raw projections"]


def test_a_deadline_does_not_pass_while_the_node_was_away(settings, memory, journal, come, tmp_path):
    settings = with_rule(
        replace(settings, quiet_seconds=60.0), needs="ct", methods=("uniform", "ct"), wait_minutes=10.0
    )
    come(raw(tmp_path / "a.dcm"))
    Router(settings, memory, journal).route(QUIET)
    away = Router(settings, memory, journal, since=QUIET + 5000.0)
    away.route(QUIET + 5001.0)
    assert jobs(memory) == [("waiting for CT", 1, 0)]
    away.route(QUIET + 5061.0)
    assert jobs(memory) == [("waiting", 1, 0)]


def test_a_rule_that_was_added_takes_studies_that_had_none(settings, memory, journal, come, tmp_path):
    come(raw(tmp_path / "a.dcm"))
    Router(with_rule(settings, match=Match(nuclide="Tc-99m")), memory, journal).route(QUIET)
    Router(settings, memory, journal).route(QUIET + 1.0)
    assert jobs(memory) == [("waiting", 1, 0)]


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("they start more than a minute apart: 2024-05-17 08:00:00", "they start more than a minute apart: (date)"),
        (
            "no axial CT; there are: 1 'Head Doe Jane', 1.2.826.0.1",
            "no axial CT; (what was found is in the job's folder)",
        ),
        ("frame 1.2.826.0.1.3680043 of 'Doe'", "frame (UID) of (text)"),
        ("at least 4 views are needed, got 3", "at least 4 views are needed, got 3"),
    ],
)
def test_reasons_quote_nothing_of_a_patient(reason, written):
    assert plain_reason(reason) == written


def test_no_line_names_a_person_or_a_study(settings, memory, journal, come, tmp_path):
    come(raw(tmp_path / "a.dcm"), *ct(tmp_path / "ct", PatientID="P2"))
    Router(with_rule(settings, methods=("uniform", "ct")), memory, journal).route(QUIET)
    text = (tmp_path / "audit.jsonl").read_text()
    assert not [word for word in ("Doe", "P1", "P2", "1960", "1.2.3.1", FRAME) if word in text]
