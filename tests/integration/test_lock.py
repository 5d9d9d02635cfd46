"""requirements.lock pins all that is needed, by hash; setup.py declares all that is imported."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.markers import Marker
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


@pytest.fixture(scope="module")
def setup_words() -> dict[str, Any]:
    """What setup.py says to setuptools."""
    words: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(setuptools, "setup", words.update)
        exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), {})
    return words


@pytest.fixture(scope="module")
def declared(setup_words: dict[str, Any]) -> list[Requirement]:
    """What the product and its development need; not the extras for MLflow and object stores."""
    texts = [*setup_words["install_requires"], *setup_words["extras_require"]["dev"]]
    return [Requirement(text) for text in texts]


def applies(marker: Marker | None, extra: str = "") -> bool:
    return marker is None or marker.evaluate({"extra": extra})


def needed_by(requirement: Requirement) -> Iterator[Requirement]:
    """What an installed distribution asks for here, with the extras that were asked of it."""
    for text in metadata.requires(requirement.name) or ():
        asked = Requirement(text)
        if any(applies(asked.marker, extra) for extra in ("", *requirement.extras)):
            yield asked


def test_the_lock_is_closed(declared: list[Requirement]) -> None:
    """Installed as it stands, the lock is all that anything in it asks for, extras included."""
    locked = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in PINS
        if applies(pin.marker)
    }
    waiting = [*declared, *(Requirement(name) for name in locked)]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{requirement} is not locked for this Python"
        assert requirement.specifier.contains(locked[name], prereleases=True), requirement
        assert metadata.version(name) == locked[name], f"{name}: installed is not what is locked"
        waiting.extend(needed_by(requirement))
    assert len(seen) > len(locked) > 200


# Declared, and imported nowhere: why.
NOT_IMPORTED = {
    "importlib-resources": "TFDS 4.9.10 imports it without requiring it",
    "tzdata": "the standard library's zoneinfo reads it where the system has no time zones",
    "import-linter": "a command of `make lint`",
    "mypy": "a command of `make lint`",
    "ruff": "a command of `make lint`",
    "types-pyyaml": "mypy reads it",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "wheel": "builds what has no wheel, without isolation",
}
# Imported where it is installed, and said so where it is not.
OPTIONAL = {"mlflow", "s3fs"}
# Distributions that share a top-level name with others.
SHARED = {"google.protobuf": "protobuf"}


def imports(folder: Path) -> set[str]:
    """Modules of others that the files of a folder import, at their top or in functions."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return names


def distributions(modules: set[str], local: set[str]) -> set[str]:
    """The distributions that modules come from, without the standard library and `local`."""
    owners = metadata.packages_distributions()
    names: set[str] = set()
    for module in modules:
        top = module.split(".")[0]
        if top in sys.stdlib_module_names | local | OPTIONAL:
            continue
        shared = next((owner for name, owner in SHARED.items() if module.startswith(name)), None)
        found = {shared} if shared else {*owners.get(top, ())}
        assert len(found) == 1, f"{module} is of {sorted(found) or 'no distribution'}"
        names.update(canonicalize_name(name) for name in found)
    return names


def test_what_is_imported_is_declared_and_the_other_way_round(setup_words: dict[str, Any]) -> None:
    of_product, of_tests = (
        {canonicalize_name(Requirement(text).name) for text in texts}
        for texts in (setup_words["install_requires"], setup_words["extras_require"]["dev"])
    )
    rooms = [ROOT / room for room in ("pipeline", "components", "serving", "data")]
    product = set().union(*(distributions(imports(room), {"bnpipe"}) for room in rooms))
    local = {"bnpipe", "tests", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    tests = distributions(imports(ROOT / "tests"), local)
    assert product <= of_product, "the product imports what it does not declare"
    assert tests <= of_product | of_tests, "the tests import what is not declared"
    assert of_product - product <= NOT_IMPORTED.keys(), "declared, and not imported by the product"
    assert of_tests - tests <= NOT_IMPORTED.keys(), "declared, and not imported by the tests"
    assert NOT_IMPORTED.keys() <= (of_product | of_tests) - product - tests


def test_everything_that_setup_asks_for_is_pinned_within_its_range(
    declared: list[Requirement],
) -> None:
    pinned: dict[str, list[str]] = {}
    for pin in PINS:
        (specifier,) = pin.specifier
        pinned.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    assert len(declared) > 20
    for requirement in declared:
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not pinned"
        assert all(requirement.specifier.contains(v) for v in versions), (requirement, versions)
