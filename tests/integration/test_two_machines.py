"""One run on two machines: a home that each mounts elsewhere, each with a checkout of its own."""

import json
import shutil
from pathlib import Path

import pytest

from tests.child import ROOT
from tests.integration.conftest import MakeProject, digests, steps


def checkout(folder: Path) -> dict[str, str]:
    """Copies the product; returns the environment in which it is what is imported."""
    for room in ("pipeline", "components", "data", "serving"):
        shutil.copytree(
            ROOT / room, folder / "bnpipe" / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_machines_share_a_run(make_project: MakeProject, tmp_path: Path) -> None:
    whole, here, there = make_project(), make_project(), make_project()
    expected = whole.json("run")
    begun = here.json("run", "--to", "transform")
    home = here.home.rename(tmp_path / "mounted elsewhere")
    others = checkout(tmp_path / "checkout") | {"BNPIPE_HOME": str(home)}
    where = there.call(code="import bnpipe.data; print(bnpipe.data.__path__[0])", **others)
    assert where.strip() == str(tmp_path / "checkout" / "bnpipe" / "data")

    parts = [
        here.start("run", "--only", "trainer", "--json", BNPIPE_HOME=str(home)),
        there.start("run", "--only", "baseline", "--json", **others),
    ]
    for part in parts:
        told, error = part.communicate()
        assert part.returncode == 0, told + error
    there.call("run", **others)
    here.call("run", BNPIPE_HOME=str(home))
    summary = json.loads(there.call("show", "--json", **others))

    cached = dict.fromkeys(steps(expected), "cached")
    assert steps(summary) == cached | {"pusher": "keep"}
    assert digests(summary) == digests(expected)
    keys = {s["name"]: s["key"] for s in expected["steps"]}
    assert {s["name"]: s["key"] for s in summary["steps"]} == keys
    assert {s["name"]: s["key"] for s in begun["steps"]}.items() <= keys.items()
    runs = {s["name"]: s["reasons"][0]["sentence"] for s in summary["steps"]}
    assert runs["transform"] == "unchanged since run 0001"
    assert {runs["trainer"], runs["baseline"]} == {f"unchanged since run 000{n}" for n in (2, 3)}
