"""A toy pipeline in folders of its own, and what tests ask of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from bnpipe.pipeline.engine.execute import FinishedRun, run_graph
from bnpipe.pipeline.engine.plan import Plan, Selection, StepPlan, make_plan
from bnpipe.pipeline.engine.store import Store
from tests.child import WITH_TESTS, environment
from tests.toy_graph import toy_graph, toy_settings

STEPS = ("source", "train", "twin", "judge", "pusher")


class ToyHome:
    """A home, an input file and a served folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.home, self.file, self.served = folder / "home", folder / "in.txt", folder / "served"
        self.file.write_text("seven\n")

    @property
    def store(self) -> Store:
        return Store(self.home)

    def graph(self, **changes: Any) -> Any:
        return toy_graph(self.file, self.served, **changes)

    def run(self, selection: Selection | None = None, **changes: Any) -> FinishedRun:
        settings = toy_settings(selection=selection or Selection())
        return run_graph(self.graph(**changes), self.home, settings)  # type: ignore[arg-type]

    def plan(self, selection: Selection | None = None, **changes: Any) -> Plan:
        return make_plan(self.graph(**changes), self.store, selection)

    def steps(self, selection: Selection | None = None, **changes: Any) -> dict[str, StepPlan]:
        return {s.name: s for s in self.plan(selection, **changes).steps}

    def child(self, rate: int = 1, **environ: str) -> "subprocess.Popen[str]":
        """Run the toy in a process of its own."""
        code = "from tests.toy_graph import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, (self.home, self.file, self.served, rate))],
            env=environment(**WITH_TESTS, **environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def actions(result: FinishedRun) -> dict[str, str]:
    return {s["name"]: s["action"] for s in result.summary["steps"]}


def outputs(result: FinishedRun) -> dict[str, Any]:
    """Digests by step; the pusher's tells the served folder's path, so it is left out."""
    return {s["name"]: s["outputs"] for s in result.summary["steps"] if s["name"] != "pusher"}


def object_of(result: FinishedRun, toy: ToyHome, step: str) -> Path:
    """The folder of a step's only output."""
    (digest,) = next(s["outputs"] for s in result.summary["steps"] if s["name"] == step).values()
    return toy.store.object_path(digest)


def flip(file: Path) -> None:
    """Damage a file without changing its size."""
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


def files_below(*folders: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file's date and content: for tests that nothing was touched."""
    return {
        p: (p.stat().st_mtime_ns, p.read_bytes())
        for folder in folders
        for p in folder.rglob("*")
        if p.is_file()
    }
