"""Stops a run of the toy pipeline at every file-system call, and checks what is left.

`python -m tests.pipeline.engine.run_crash_points SCENARIO FAULT [STRIDE]` prints one JSON object:
how many calls there are, at how many of them the run was stopped, and every broken promise. A
program of its own, so that it can fork. Calls that libraries make by themselves are not seen here;
the test that runs under strace stops those.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnpipe.data.durable import STAGING
from bnpipe.pipeline.engine import attempts, collect, execute
from bnpipe.pipeline.engine.errors import PipelineError
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.runs import joined, new_run, summaries
from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.errors import ServingError
from tests.fault_injection import DONE, NOT_REACHED, REFUSED, stopped
from tests.serving.folder import served
from tests.toy_graph import toy_graph, toy_settings


@dataclass(frozen=True)
class Places:
    """Where one toy lives."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def served(self) -> Path:
        return self.root / "served"

    def run(self, *, rate: int = 1, jobs: int = 1, **selection: Any) -> dict[str, Any]:
        """Run the toy; its outputs by step, without the pusher's.

        Raises:
            PipelineError, OSError: the run failed, as `main` would tell it.
        """
        graph = toy_graph(self.root / "in.txt", self.served, rate=rate)
        settings = toy_settings(selection=Selection(**selection), attempts=1, jobs=jobs)
        result = execute.run_graph(graph, self.home, settings)  # type: ignore[arg-type]
        if result.error is not None:
            raise result.error
        steps = result.summary["steps"]
        return {s["name"]: s["outputs"] for s in steps if s["name"] != "pusher"}


@dataclass
class Window:
    """Counts calls only while a result is committed: object, record, tidying up."""

    open: bool = False

    def install(self) -> None:
        for owner, name in (
            (Store, "commit_object"),
            (Store, "commit_step"),
            (Store, "drop_scratch"),
            (Store, "unstage"),
        ):
            self._install(owner, name)

    def _install(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any) -> Any:
            self.open = True
            try:
                return real(*args)
            finally:
                self.open = False

        setattr(owner, name, call)


@dataclass(frozen=True)
class Scenario:
    """What is done before the fault, under it, and after it.

    Attributes:
        act: runs with one fault.
        prepare: runs before.
        again: what the next run is asked for; it must end in the same digests as in a clean home.
        commit_only: whether only the calls of a commit count.
        beside: whether another run is at work meanwhile, until after the next run.
    """

    act: Callable[[Places], Any]
    prepare: Callable[[Places], Any] = lambda places: None
    again: dict[str, Any] = field(default_factory=dict)
    commit_only: bool = False
    beside: bool = False


@contextmanager
def _at_work(home: Path) -> Iterator[Callable[[], list[str]]]:
    """Another run in the middle of a step; yields a look at what it has that was touched."""
    store = Store(home)
    with joined(store) as locks:
        run = new_run(store)
        locks.begin(run.id)
        locks.take("train", "k" * 64)
        scratch = store.scratch("k" * 64)
        scratch.mkdir()
        record = run.path / "run.json"
        half = {
            store.stage(run.id, "train", 1, "model") / "half": "half",
            scratch / "checkpoint": "epoch 1",
            scratch / f"{STAGING}checkpoint": "epoch",
            run.path / f"{STAGING}run": "half",
            store.cache / f"{STAGING}spans": "half",
            record: json.dumps({"id": run.id, "status": "running", "steps": []}),
        }
        for path, text in half.items():
            path.write_text(text)

        def touched() -> list[str]:
            found = [str(p) for p, text in half.items() if not p.exists() or p.read_text() != text]
            (summary,) = (s for s in summaries(store) if s["id"] == run.id)
            return [*found, *([] if summary["status"] == "running" else ["it is not seen to live"])]

        yield touched
        (scratch / "checkpoint").unlink()  # which a killed run would keep


def _damage(places: Places) -> None:
    """Flip a byte of the source's object."""
    digest = places.run(to="source")["source"]["numbers"]
    file = Store(places.home).object_path(digest) / "a.txt"
    file.chmod(0o644)
    file.write_text(file.read_text().replace("s", "S"))


def _damage_and_forget(places: Places) -> None:
    _damage(places)
    for record in (places.home / "steps").iterdir():
        record.unlink()


def _two_runs(places: Places) -> None:
    places.run()
    places.run(rate=2)


def _collect(places: Places) -> None:
    store = Store(places.home)
    collect.collect(store, 1)


def _set_aside(places: Places) -> None:
    store = Store(places.home)
    collect.set_aside(store)


SOURCE = {"to": "source"}
SCENARIOS = {
    "commit": Scenario(lambda p: p.run(to="source"), again=SOURCE, commit_only=True),
    "commit over a damaged object": Scenario(
        lambda p: p.run(to="source"), _damage_and_forget, again=SOURCE, commit_only=True
    ),
    "commit beside a run": Scenario(
        lambda p: p.run(to="source"), again=SOURCE, commit_only=True, beside=True
    ),
    "first run": Scenario(lambda p: p.run()),
    "run beside a run": Scenario(lambda p: p.run(to="train"), beside=True),
    "commits with two workers": Scenario(lambda p: p.run(jobs=2), commit_only=True),
    "run of a changed model": Scenario(
        lambda p: p.run(rate=2), lambda p: p.run(), again={"rate": 2}
    ),
    "gc": Scenario(_collect, _two_runs),
    "gc --verify": Scenario(_set_aside, _damage),
}


def _act(scenario: Scenario, places: Places, fault: str, at: int) -> int:
    window = Window(open=not scenario.commit_only)

    def act() -> None:
        if scenario.commit_only:
            window.install()
        scenario.act(places)

    refusals = (PipelineError, ServingError, OSError)
    return stopped(act, fault, at, refusals=refusals, armed=lambda: window.open)


def broken_store(home: Path, *, damaged: bool = False) -> list[str]:
    """What must hold after any stop: whole objects, and records that name only those."""
    if not (home / "objects").is_dir():
        return []
    store = Store(home)
    found = [] if damaged else [f"{d}: {f}" for d, f in collect.find_damage(store).items()]
    files = {p.stem for p in (home / "steps").glob("*.json")}
    records = list(store.records())
    if files != {r.key for r in records}:
        found.append("a step record cannot be read")
    objects = set(store.digests())
    if not damaged:  # else the object was moved aside: a miss, that the next run heals
        found += [f"{r.name} names a missing object" for r in records if missing(r, objects)]
    return found


def missing(record: Any, objects: set[str]) -> bool:
    return not objects.issuperset(record.outputs.values())


def broken_end(home: Path) -> list[str]:
    """What must hold after the next run: nothing left over, every run listed as it ended."""
    found = [
        f"left over: {p.relative_to(home)}"
        for p in home.rglob("*")
        if p.name.startswith(".staging-") or p.parent.name in ("tmp", "scratch")
    ]
    found += [
        f"run {run['id']} is {run['status']}"
        for run in summaries(Store(home))
        if run["status"] == "unreadable"
    ]
    # As it stands in the file: who looks sees a run as killed before that is written down.
    found += [
        f"run {record.parent.name} is running"
        for record in home.glob("runs/*/run.json")
        if '"status": "running"' in record.read_text()
    ]
    return found


def explore(name: str, fault: str, stride: int, root: Path) -> dict[str, Any]:
    """Every point, or every `stride`-th, of one scenario under one fault."""
    scenario = SCENARIOS[name]
    attempts.provenance = lambda *_: {}  # git is asked four times a run; not what is tested here
    clean, template = Places(root / "clean"), Places(root / "template")
    for made in (clean, template):
        made.root.mkdir()
        (made.root / "in.txt").write_text("seven\n")
    scenario.prepare(template)
    scenario.prepare(clean)
    scenario.act(clean)
    expected = clean.run(**scenario.again)
    broken: list[str] = []
    points = refused = 0
    at = 1
    while True:
        places = Places(root / "toy")
        shutil.rmtree(places.root, ignore_errors=True)
        shutil.copytree(template.root, places.root)
        beside = ExitStack()
        touched = beside.enter_context(_at_work(places.home)) if scenario.beside else list
        status = _act(scenario, places, fault, at)
        if status not in (-signal.SIGKILL, DONE, REFUSED):
            if status == NOT_REACHED:
                return {"points": points, "refused": refused, "broken": broken}
            broken.append(f"call {at}: exit status {status}")
        points += 1
        refused += status == REFUSED
        found = broken_store(places.home, damaged="damage" in name or "verify" in name)
        try:
            if scenario is SCENARIOS["gc --verify"]:
                _set_aside(places)
            again = places.run(**scenario.again)
            if again != expected:
                found.append("the next run ends in other digests")
            found += [f"the other run: {what}" for what in touched()]
            beside.close()
            if scenario.beside:
                places.run(**scenario.again)
        except Exception as error:
            found.append(f"the next run failed: {error!r}")
        found += broken_store(places.home) + broken_end(places.home)
        found += served.torn(places.served) if places.served.exists() else []
        broken += [f"call {at}: {f}" for f in found]
        at += stride


def main() -> None:
    """Explore one scenario in a folder of its own, in memory where possible."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        os.chdir(root)
        result = explore(sys.argv[1], sys.argv[2], int((*sys.argv[3:], "1")[0]), Path(root))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
