"""requirements.lock pins all that setup.py asks for, by hash, wherever it is fetched from."""

import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.integration.conftest import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
ENTRIES = [
    entry
    for entry in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n?", "", LOCK, flags=re.M))
    if entry.strip()
]
PINS = [
    Requirement(entry.split("--hash", 1)[0].replace("\\\n", " ").strip(" \\\n"))
    for entry in ENTRIES
]


def test_every_requirement_is_one_version_with_hashes() -> None:
    assert len(PINS) > 50
    for entry, pin in zip(ENTRIES, PINS, strict=True):
        assert [s.operator for s in pin.specifier] == ["=="], entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]
        assert pin.url is None


def test_lock_names_no_index() -> None:
    assert "--index-url" not in LOCK
    assert "--extra-index-url" not in LOCK
    assert "--find-links" not in LOCK
    assert "://" not in LOCK


def test_everything_that_setup_asks_for_is_pinned_within_its_range() -> None:
    pinned: dict[str, list[str]] = {}
    for pin in PINS:
        (specifier,) = pin.specifier
        pinned.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    setup = (ROOT / "setup.py").read_text()
    asked = [Requirement(text) for text in re.findall(r'^    "([\w.-]+[<>=][^"]*)",', setup, re.M)]
    assert len(asked) > 20
    for requirement in asked:
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not pinned"
        assert all(requirement.specifier.contains(v) for v in versions), (requirement, versions)
