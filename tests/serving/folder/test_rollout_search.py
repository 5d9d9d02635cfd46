"""Every interleaving of a folder's changes with the loops of a server: none is refused for ever.

The publisher is the real one; the server is the stand-in's manager, made to take each step of its
loops when it is told: C reads models.config, F looks at the folders, M loads and unloads; c, f, m
are those of a second server, where there is one. Whenever the publisher waits, the next letter of
a pattern is taken; K kills it there. States that are equal are searched once.
"""

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bnpipe.serving.client.base import Client, Options, ServerError, VersionState
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, rollout, versions
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.local.manager import Manager
from bnpipe.serving.local.states import Settings
from bnpipe.serving.local.status import StatusError
from tests.serving.folder.served import push, saved_model

Change = Callable[["World"], object]
PATTERNS = ("CFM", "FMC", "CMFM", "FCM", "K", "CK", "CFMK", "FMCK")
TWO = ("CFMcfm", "FMCcfmfmc", "cCfFmM", "CFMCFMcfm", "K", "CcK", "CFMcK")


class Killed(BaseException):
    """The publisher is gone; nothing of it runs on."""


class Inline:
    """Loads and unloads at once, where the manager would have a thread do it."""

    def submit(self, work: Callable[..., Any], *args: Any) -> None:
        work(*args)


class Server(Manager[Any]):
    """The stand-in's manager, without its threads."""

    def __init__(self, file: Path) -> None:
        flags = Settings(allow_labels_for_unavailable=True)
        super().__init__(lambda _: contextlib.ExitStack(), flags, file)
        self._workers = Inline()  # type: ignore[assignment]

    def _act(self) -> None:
        """Only when it is its turn: what is no longer wanted is AVAILABLE until then."""

    def step(self, letter: str) -> None:
        if letter == "C":
            assert self._config_file is not None
            self.read_config(self._config_file)
        elif letter == "F":
            self.look()
        else:
            with self._changed:
                super()._act()

    def refused(self) -> bool:
        return bool(self._complaint)

    def keep(self) -> Any:
        held = {v: dataclasses.replace(s) for v, s in self._versions.get("mnist", {}).items()}
        return dict(self._entries), dict(self._labels), held

    def restore(self, kept: Any) -> None:
        entries, labels, held = kept
        self._entries, self._labels, self._complaint = dict(entries), dict(labels), ""
        self._versions = {"mnist": {v: dataclasses.replace(s) for v, s in held.items()}}

    def key(self) -> str:
        states = [(v, s.state, s.wanted) for v, s in sorted(self._versions["mnist"].items())]
        entry = self._entries["mnist"]
        return str((states, sorted(entry.specific or ()), self._labels))


class Asked(Client):
    """A client that asks the server in this process."""

    def __init__(self, server: Server) -> None:
        super().__init__("mnist", Options())
        self._server = server

    def metadata(self, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        try:
            with self._server.acquire("mnist", version, label) as (number, _):
                return {"model_spec": {"version": str(number)}}
        except StatusError as error:
            raise ServerError(str(error)) from error

    def status(self, version: int | None = None) -> list[VersionState]:
        try:
            told = self._server.statuses("mnist", version)
        except StatusError as error:
            raise ServerError(str(error)) from error
        return [VersionState(s.number, s.state.name, "OK", "") for s in told]

    def close(self) -> None: ...

    def _predict(self, *_: Any) -> Any: ...

    def _classify(self, *_: Any) -> Any: ...


class World:
    """A folder with its first version live on a server, and a clock that the steps move."""

    def __init__(self, root: Path, servers: int = 1) -> None:
        self.base, self.models = root / "served", root / "models"
        push(self.base, saved_model(self.models / "m0", "m0"))
        self.servers = [Server(self.base / "models.config") for _ in range(servers)]
        self.steps, self.patterns = "CFMcfm"[: 3 * servers], PATTERNS if servers == 1 else TWO
        self.time, self.pattern = 0.0, itertools.cycle("CFM")
        for letter in self.steps:
            self.step(letter)
        addresses = tuple(f"http://{number}" for number in range(servers))
        self.target = Rollout(self.base, addresses, 40.0 * servers)

    def step(self, letter: str) -> None:
        self.servers[letter.islower()].step(letter.upper())

    def sleep(self, _: float) -> None:
        self.time += 1
        letter = next(self.pattern)
        if letter == "K":
            self.at_kill = self.keep()
            raise Killed
        self.step(letter)

    def publish(self, *, canary: bool) -> None:
        number = len(list(self.models.iterdir()))
        model = saved_model(self.models / f"m{number}", f"m{number}")
        target = dataclasses.replace(self.target, canary=canary)
        target.finish(push(self.base, model, hold=True))

    def keep(self) -> Any:
        texts = {p: p.read_bytes() for p in self.base.rglob("*") if p.is_file()}
        return texts, {p.name for p in self.models.iterdir()}, [s.keep() for s in self.servers]

    def restore(self, kept: Any) -> None:
        texts, models, servers = kept
        for path in [p for p in self.base.rglob("*") if p.is_file() and p not in texts]:
            path.unlink()
        for path in self.base.iterdir():
            if path.name.isdecimal() and not any(path in p.parents for p in texts):
                shutil.rmtree(path)
        for path, content in texts.items():
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for path in list(self.models.iterdir()):
            if path.name not in models:
                shutil.rmtree(path)
        for server, state in zip(self.servers, servers, strict=True):
            server.restore(state)

    def key(self) -> str:
        history = ledger.read(self.base)
        about = (history.labels, history.listed, sorted(history.withdrawn), history.last)
        shown = (self.base / "models.config").read_text(), versions.complete_versions(self.base)
        return f"{about} {shown} {[server.key() for server in self.servers]}"

    def is_refused_for_ever(self) -> bool:
        """The servers are left alone, for more polls than they can need."""
        for letter in self.steps * 6:
            self.step(letter)
        for letter in self.steps[::3]:
            self.step(letter)
        return any(server.refused() for server in self.servers)


def latest(world: World, label: str) -> int:
    found = ledger.read(world.base).labels.get(label)
    return found if found is not None else 0


CHANGES: dict[str, Change] = {
    "push": lambda w: w.publish(canary=False),
    "canary": lambda w: w.publish(canary=True),
    "promote": lambda w: w.target.promote(latest(w, "canary")),
    "withdraw": lambda w: w.target.withdraw(latest(w, "canary"), reason="slow"),
    "rollback": lambda w: w.target.rollback(reason="bad"),
    "rollback --to the oldest": lambda w: w.target.rollback(
        reason="bad", to=versions.complete_versions(w.base)[0]
    ),
    "prune": lambda w: w.target.prune(1),
}


def operations(world: World) -> Iterator[tuple[str, Callable[[], object]]]:
    for letter in world.steps:
        yield letter, lambda letter=letter: world.step(letter)
    for name, change in CHANGES.items():
        for pattern in world.patterns[: 1 if name in ("withdraw", "prune") else None]:

            def run(change: Change = change, pattern: str = pattern) -> None:
                world.pattern = itertools.cycle(pattern)
                with contextlib.suppress(ServingError):
                    try:
                        change(world)
                    except Killed:  # what `finally` did since, nobody does
                        world.restore(world.at_kill)

            yield f"{name} ({pattern})", run


def search(world: World, depth: int) -> tuple[int, list[str]]:
    """The number of different states, and the ways to those that the server never leaves."""
    seen, stuck = {world.key()}, []
    frontier: list[tuple[Any, tuple[str, ...]]] = [(world.keep(), ())]
    for _ in range(depth):
        following = []
        for kept, way in frontier:
            for name, run in operations(world):
                world.restore(kept)
                run()
                key = world.key()
                if key in seen:
                    continue
                seen.add(key)
                here = world.keep()
                following.append((here, (*way, name)))
                if world.is_refused_for_ever():
                    stuck.append(" / ".join((*way, name)))
        frontier = following
    return len(seen), stuck


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None, caplog: Any) -> World:
    return watched(World(tmp_path), monkeypatch, caplog)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None, caplog: Any) -> World:
    return watched(World(tmp_path, servers=2), monkeypatch, caplog)


def watched(made: World, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> World:
    caplog.set_level("CRITICAL")
    monkeypatch.setattr(
        rollout, "connect", lambda address, *_: Asked(made.servers[int(address[-1])])
    )
    clock = SimpleNamespace(monotonic=lambda: made.time, sleep=made.sleep)
    monkeypatch.setattr(rollout, "time", clock)
    return made


def delist_the_first(world: World) -> None:
    """Two pushes; the server has not looked at the folders since it read the second's last edit."""
    for pattern in ("CFM", "FMC"):
        world.pattern = itertools.cycle(pattern)
        world.publish(canary=False)


def test_nothing_after_two_pushes_leaves_the_server_refusing_for_ever(world: World) -> None:
    delist_the_first(world)
    states, stuck = search(world, 1)
    assert states > 10
    assert stuck == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_four_operations_leave_the_server_refusing_for_ever(world: World) -> None:
    states, stuck = search(world, 4)
    assert states > 1000
    assert stuck == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_three_operations_leave_one_of_two_servers_refusing_for_ever(two: World) -> None:
    states, stuck = search(two, 3)
    assert states > 300
    assert stuck == []


@pytest.mark.parametrize("is_mended", [False, True])
def test_the_search_finds_the_fault_where_a_state_from_before_the_edit_is_trusted(
    world: World, monkeypatch: pytest.MonkeyPatch, is_mended: bool
) -> None:
    """What then refuses is noticed as soon as the label does not follow, and brought out of it."""
    monkeypatch.setattr(rollout, "_has_in_force", lambda *_: True)
    if not is_mended:
        monkeypatch.setattr(Rollout, "_refuses", lambda *_: False)
    delist_the_first(world)
    _, stuck = search(world, 1)
    assert ("rollback --to the oldest (FMC)" in stuck) is not is_mended
