"""The node's TOML file: what it means, and one line on what is wrong in it."""

from pathlib import Path

import pytest

from spectac.app.node.settings import Match, NodeSettings
from spectac.recon import InputError

GOOD = """
ae = "SPECTAC"
folder = "/var/lib/spectac"

[[peer]]
ae = "CAMERA"
host = "10.0.0.5"

[[destination]]
name = "pacs"
ae = "PACS"
host = "10.0.0.9"
port = 104

[[rule]]
name = "dat"
match = { nuclide = "I-123", protocol = "*dat*" }
methods = ["uniform", "ct"]
needs = "ct"
destinations = ["pacs"]
settings = { iterations = 8, post-filter = "gaussian:8" }

[[rule]]
name = "other"
methods = ["none"]
"""


def read(tmp_path, text):
    path = tmp_path / "node.toml"
    path.write_text(text)
    return NodeSettings.read(path)


def test_a_file_is_read_as_it_stands(tmp_path):
    found = read(tmp_path, GOOD)
    dat, other = found.rules
    assert (found.port, found.quiet_seconds, dat.needs, other.destinations) == (11112, 120.0, "ct", ())
    request = dat.request(Path("ct"), anonymous=True)
    assert (request.reconstruction.iterations, request.reconstruction.post_filter) == (8, "gaussian:8")
    assert (request.comparison.methods, request.comparison.ct) == (("uniform", "ct"), Path("ct"))
    assert request.comparison.anonymous
    assert dat.request(None, anonymous=False).comparison.methods == ("uniform",)


def test_settings_of_the_ct_do_not_stop_a_study_without_one(tmp_path):
    """The rule waits for a CT and goes on without; what belongs to the CT goes with it."""
    text = GOOD.replace("iterations = 8,", "iterations = 8, extend-ct = true, tube-voltage-kv = 120.0,")
    rule = read(tmp_path, text).rules[0]
    assert rule.request(Path("ct"), anonymous=False).comparison.extend_ct
    comparison = rule.request(None, anonymous=False).comparison
    assert list(comparison.models()) == ["uniform"]
    with pytest.raises(InputError, match="belongs to method ct"):
        read(tmp_path, text.replace('["uniform", "ct"]', '["uniform"]'))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('ae = "SPECTAC"', 'ae = "A TITLE OF MORE THAN 16"', "ae: .*at most 16"),
        ("port = 104", "port = 70000", "destinations.0.port"),
        ('name = "other"', 'name = "dat"', "two rules are called dat"),
        ('destinations = ["pacs"]', 'destinations = ["paks"]', "sends to paks, which is no destination"),
        ("iterations = 8", "iteration = 8", "unknown setting iteration"),
        ("iterations = 8", "iterations = 0", "--iterations must be at least 1"),
        ("iterations = 8", 'truth = "x"', "unknown setting truth"),
        ('methods = ["none"]', 'methods = ["nonne"]', "nonne"),
        ('needs = "ct"', 'needs = "mr"', "rules.0.needs"),
        ("[[peer]]", "[[pear]]", "pear"),
        ('folder = "/var/lib/spectac"', "", "folder"),
        ('ae = "SPECTAC"', 'ae = "SPECTAC', "not a TOML file"),
        (
            'ae = "SPECTAC"',
            'ae = "SPECTAC"\ntls = { certificate = "none.pem", key = "k", authorities = "a" }',
            "tls.certificate: none.pem: no such file",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message) as wrong:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "\n" not in str(wrong.value)
    assert str(wrong.value).startswith(str(tmp_path / "node.toml"))


def test_patterns_fit_without_case_and_stars_fit_what_is_missing():
    facts = {"ae": "CAM", "station": "", "protocol": "DaTSCAN brain", "nuclide": "I-123", "body_part": "BRAIN"}
    assert Match(protocol="*datscan*", nuclide="i-123").fits(facts)
    assert not Match(station="?*").fits(facts)
    assert not Match(nuclide="Tc-99m").fits(facts)
