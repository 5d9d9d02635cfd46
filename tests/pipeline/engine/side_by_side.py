"""A graph of steps that need nothing of one another, and do what a test tells them in files.

first -> a, b, c -> last. Every step writes the number of its process to `<folder>/pids/<step>`.
A file `<folder>/<word>-<step>` makes it: `meet` the step named in it, wait until that has begun;
`wait` until it has ended; `kill` its own process, and remove the file before; `fork` the same, and
leave a child behind; `raise` an error that pickle cannot make again; `exit`; give `none` as its
facts; leave a `waste` of memory in a cycle.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Component, Context, Facts, machine_local
from bnpipe.pipeline.engine.events import StepErrored, StepFinished
from bnpipe.pipeline.engine.execute import FinishedRun, run_graph
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.step import RunSettings

SIDE = ("a", "b", "c")
WASTE = 200 * 2**20


class OddError(Exception):
    """Needs two arguments, and gives pickle one."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class One:
    text: Artifact


@dataclass(frozen=True)
class Three:
    a: Artifact
    b: Artifact
    c: Artifact


@dataclass(frozen=True, kw_only=True)
class Params:
    folder: str = machine_local("")
    text: str = ""


def run(inputs: Any, outputs: One, params: Params, ctx: Context) -> Facts:
    folder = Path(params.folder)
    half = folder / f"half-{ctx.step}"  # whoever sees the file can read the number
    half.write_text(str(os.getpid()))
    half.rename(folder / "pids" / ctx.step)
    _obey(folder, ctx)
    read = [getattr(inputs, name).path / "text" for name in vars(inputs)]
    text = params.text + "".join(path.read_text() for path in read)
    (outputs.text.path / "text").write_text(text)
    if (folder / f"none-{ctx.step}").exists():
        return None  # type: ignore[return-value]
    return {"length": len(text)}


def _obey(folder: Path, ctx: Context) -> None:
    meet = folder / f"meet-{ctx.step}"
    while meet.exists() and not (folder / "pids" / meet.read_text()).exists():
        time.sleep(0.01)
    wait = folder / f"wait-{ctx.step}"
    while wait.exists() and not (folder / f"done-{wait.read_text()}").exists():
        ctx.progress(0, 1, "waits")
        time.sleep(0.01)
    for kill in (folder / f"kill-{ctx.step}", folder / f"fork-{ctx.step}"):
        if kill.exists():
            kill.unlink()
            if kill.name.startswith("fork") and (child := os.fork()) == 0:
                time.sleep(600)
            elif kill.name.startswith("fork"):
                (folder / "pids" / "child").write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
    if (folder / f"raise-{ctx.step}").exists():
        raise OddError("odd", ctx.step)
    if (folder / f"waste-{ctx.step}").exists():
        waste: list[Any] = [b"x" * WASTE]
        waste.append(waste)
    if (folder / f"exit-{ctx.step}").exists():
        os._exit(3)


def ahead(params: Params) -> None:
    folder = Path(params.folder)
    (folder / "pids" / f"ahead-{os.getpid()}").touch()
    if (folder / "raise-ahead").exists():
        raise OddError("odd", "ahead")


FIRST = Component("first", Nothing, One, Params, run)
SIDEWAYS = Component("side", One, One, Params, run)
LAST = Component("last", Three, One, Params, run, ahead=ahead)


def draw(home: Path, run: str) -> None:
    (home / "drawn").write_text(run)


def graph(folder: Path, twins: bool) -> Graph:
    """The graph; what its steps are told stands in `folder`. `twins`: b and c do the same."""
    (folder / "pids").mkdir(exist_ok=True)
    g = Graph()
    first = g.add(FIRST, Nothing(), Params(folder=str(folder), text="0")).text
    side = [
        g.add(SIDEWAYS, One(first), Params(folder=str(folder), text=text), name=name).text
        for name, text in zip(SIDE, "abb" if twins else SIDE, strict=True)
    ]
    g.add(LAST, Three(*side), Params(folder=str(folder)))
    return g


def run_side_by_side(
    home: Path,
    folder: Path,
    jobs: int,
    hear: Callable[[Any], None] = lambda event: None,
    verify: bool = False,
    twins: bool = False,
    **changes: Any,
) -> FinishedRun:
    """Run it."""

    def tell(event: Any) -> None:
        if isinstance(event, StepFinished | StepErrored):
            step = event.plan.name if isinstance(event, StepFinished) else event.step
            (folder / f"done-{step}").touch()
        hear(event)

    plain = {"beam": nullcontext, "backoff_seconds": 0.001, "draw": draw}
    settings = RunSettings("toy", {}, **{**plain, **changes}, jobs=jobs)
    return run_graph(graph(folder, twins), home, settings, [tell], verify=verify)


def main() -> None:
    """Run it in a process of its own, with the arguments HOME FOLDER JOBS [ONLY]."""
    home, folder, jobs, *only = sys.argv[1:]
    selection = Selection(only=only[0] if only else None)
    result = run_side_by_side(Path(home), Path(folder), int(jobs), selection=selection)
    sys.exit(result.exit_code)
