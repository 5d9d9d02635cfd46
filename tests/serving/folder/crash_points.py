"""Stops a change of a served folder at every file-system call, and checks what is left.

`python -m tests.serving.folder.crash_points SCENARIO FAULT` prints one JSON object: the number of
points and every broken promise. It is a program of its own so that it can fork: one child per
point, from a process without threads.

Faults: those of `tests.fault_injection`, and `kill twice` (the next attempt is killed at some call
too).
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, model_config, object_store, publish, standing, versions
from bnpipe.serving.folder.signing import Signer
from bnpipe.serving.folder.verify import verify
from tests.fault_injection import DONE, ESCAPED, NOT_REACHED, REFUSED, stopped
from tests.serving.folder.served import events, leftovers, push, saved_model, torn, visible


@dataclass(frozen=True)
class Scenario:
    """A change, and what must hold when it was stopped and when it was run again.

    Attributes:
        prepare: fills the folder before the change.
        change: the change; running it twice must be the same as once.
        before: the live version while the change is not done; None for none.
        live: content of the live version when it is done.
        numbers: the visible versions when it is done; X stands for the one that the change made.
    """

    prepare: Callable[[Path, Path], None]
    change: Callable[[Path, Path], Any]
    before: int | None
    live: str
    numbers: tuple[str, ...]


def _push(content: str, **options: Any) -> Callable[[Path, Path], None]:
    def change(base: Path, models: Path) -> None:
        push(base, models / content, **options)

    return change


def _after(*changes: Callable[[Path, Path], Any]) -> Callable[[Path, Path], None]:
    def prepare(base: Path, models: Path) -> None:
        for change in changes:
            change(base, models)

    return prepare


def _rollback(to: int) -> Callable[[Path, Path], None]:
    def change(base: Path, models: Path) -> None:
        labels.rollback(base, to=to, reason="bad")

    return change


def _push_in_two_edits(base: Path, models: Path) -> None:
    """The edits that `folder.rollout` makes for a running server, without the waiting."""
    published = push(base, models / "b", hold=True)
    assert published.live or _lists(base, published.version)
    if not published.live:
        labels.promote(base, published.version)


def _rollback_in_two_edits(base: Path, models: Path) -> None:
    target = labels.rollback_target(base, 1)
    if not _lists(base, target):
        labels.list_version(base, target, purpose="rollback")
    assert _lists(base, target)
    labels.rollback(base, to=1, reason="bad")


def _push_as_canary(base: Path, models: Path) -> None:
    """The same again, whatever was cut short: `plan` says that there is nothing to do when so."""
    if standing.state_of(base, tree_digest(models / "b")).needed:
        published = push(base, models / "b", hold=True)
        labels.promote(base, published.version, label="canary")
    canary = model_config.label(base, "canary")
    assert canary is not None and canary == versions.on_trial(base) and _lists(base, canary)


def _lists(base: Path, version: int) -> bool:
    return f" versions: {version} " in (model_config.read_text(base) or "")


def _push_and_prune(base: Path, models: Path) -> None:
    push(base, models / "b")
    publish.prune(base, 1)


def _signed_push_and_prune(base: Path, models: Path) -> None:
    push(base, models / "b", signer=SIGNER)
    publish.prune(base, 1)


def _push_killed_after_rename(base: Path, models: Path) -> None:
    """Leaves what a push leaves that is killed when its folder has just become visible."""

    def run() -> None:
        push(base, models / "b")

    def die(source: Any, target: Any) -> None:
        real(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    real = os.rename
    child = os.fork()
    if child == 0:
        os.rename = die  # type: ignore[assignment]
        run()
        os._exit(ESCAPED)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


SIGNER = Signer(derive_private_key(1, SECP256R1()))
_A, _B, _C = _push("a"), _push("b"), _push("c")
SCENARIOS = {
    "first push": Scenario(_after(), _A, None, "a", ("X",)),
    "push": Scenario(_after(_A), _B, 1, "b", ("1", "X")),
    "push and prune": Scenario(_after(_A, _C), _push_and_prune, 2, "b", ("2", "X")),
    "push after a kill": Scenario(_after(_A, _push_killed_after_rename), _B, 1, "b", ("1", "2")),
    "rollback": Scenario(_after(_A, _C, _B), _rollback(2), 3, "c", ("1", "2", "3")),
    "push in two edits": Scenario(_after(_A), _push_in_two_edits, 1, "b", ("1", "X")),
    "rollback in two edits": Scenario(
        _after(_A, _C, _B), _rollback_in_two_edits, 3, "a", ("1", "2", "3")
    ),
    "canary": Scenario(_after(_A), _push_as_canary, 1, "a", ("1", "X")),
    "signed push and prune": Scenario(
        _after(_push("a", signer=SIGNER), _push("c", signer=SIGNER)),
        _signed_push_and_prune,
        2,
        "b",
        ("2", "X"),
    ),
    "signed push": Scenario(_after(_A), _push("b", signer=SIGNER), 1, "b", ("1", "X")),
    "signed where it lies": Scenario(_after(_A), _push("a", signer=SIGNER), 1, "a", ("1",)),
    "forced push": Scenario(
        _after(_A, _B, _rollback(1)), _push("b", force="needed"), 1, "b", ("1", "2", "X")
    ),
}


def _stopped(change: Callable[[], None], fault: str, at: int) -> int:
    return stopped(change, fault, at, refusals=(ServingError,))


def _broken_after_fault(scenario: Scenario, base: Path, digests: dict[str, str]) -> list[str]:
    defects = torn(base)
    live = versions.live(base)
    if live != scenario.before:
        digest = tree_digest(base / str(live)) if live else "none"
        if digest != digests[scenario.live]:
            defects.append(f"live is {live}, neither the old version nor the new one")
    return defects


def _broken_after_rerun(name: str, base: Path, digests: dict[str, str]) -> list[str]:
    scenario = SCENARIOS[name]
    defects = torn(base) + leftovers(base)
    live = versions.live(base)
    if live is None or tree_digest(base / str(live)) != digests[scenario.live]:
        defects.append(f"after the re-run live is {live}, not {scenario.live}")
    names = visible(base)
    if [n for n in scenario.numbers if n != "X"] != names[: len(names) - ("X" in scenario.numbers)]:
        defects.append(f"after the re-run the versions are {names}")
    reserved = [number for event, number in events(base) if event == "reserved"]
    if reserved != sorted(set(reserved)):
        defects.append(f"a number was used twice: {reserved}")
    defects += [str(f) for f in verify(base, None) if f.bad]
    if name.startswith("signed"):
        defects += [str(f) for f in verify(base, SIGNER.verifier)[:1] if f.bad or f.detail]
    gone = {p.stem for p in (base / "manifests").glob("*")} - set(names)
    if gone:
        defects.append(f"manifests of what is no version: {gone}")
    if list(base.glob("provenance/*")) and len(reserved) < len(list(base.glob("provenance/*"))):
        defects.append("a provenance file has no version")
    return defects


def _missing_in_store(base: Path, store: Path) -> list[str]:
    """What an object store has not, of the whole versions here: any may be rolled back to."""
    shutil.rmtree(store, ignore_errors=True)
    object_store.mirror(base, f"file://{store}")
    there = {name for name in visible(store) if (store / name / "saved_model.pb").is_file()}
    return [f"the store lacks version {name}" for name in visible(base) if name not in there]


def explore(name: str, fault: str, root: Path) -> dict[str, Any]:
    """Every point of one scenario under one fault."""
    scenario = SCENARIOS[name]
    models = root / "models"
    digests = {c: tree_digest(saved_model(models / c, c)) for c in "abc"}
    template, base = root / "template", root / "served"
    scenario.prepare(template, models)
    dice = random.Random(0)
    broken: list[str] = []
    refused = points = 0
    while True:
        shutil.rmtree(base, ignore_errors=True)
        if template.exists():
            shutil.copytree(template, base)
        status = _stopped(lambda: scenario.change(base, models), fault, points + 1)
        if status == NOT_REACHED:
            # The last run had no fault: it counts as no point.
            return {"points": points, "refused": refused, "broken": broken}
        points += 1
        refused += status == REFUSED
        if status not in (-signal.SIGKILL, DONE, REFUSED):
            broken.append(f"point {points}: exit status {status}")
        defects = _broken_after_fault(scenario, base, digests)
        if fault == "kill twice":
            _stopped(lambda: scenario.change(base, models), fault, dice.randint(1, 100))
            defects += _broken_after_fault(scenario, base, digests)
        if name.endswith("prune"):
            defects += _missing_in_store(base, root / "store")
        scenario.change(base, models)
        defects += _broken_after_rerun(name, base, digests)
        broken += [f"point {points}: {f}" for f in defects]


def main() -> None:
    """Explore one scenario in a folder of its own, in memory where possible."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        result = explore(sys.argv[1], sys.argv[2], Path(root).resolve())
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
