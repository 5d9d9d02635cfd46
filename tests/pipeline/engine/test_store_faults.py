"""Kills, torn writes and disk errors at every file-system call of a commit, and of whole runs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.child import WITH_TESTS, environment
from tests.pipeline.engine.run_crash_points import SCENARIOS, broken_end, broken_store
from tests.pipeline.toy_home import ToyHome, outputs

FAULTS = ("kill", "tear", "enospc", "eio")
# Quick: a kill at every call of a commit, and every so many calls of what takes longer. The slow
# tests stop at every call of everything.
QUICK = {
    ("commit", "kill"): 1,
    ("commit", "tear"): 1,
    ("commit", "enospc"): 5,
    ("commit", "eio"): 13,
    ("commit over a damaged object", "kill"): 5,
    ("commit over a damaged object", "enospc"): 17,
    ("commits with two workers", "kill"): 61,
    ("commits with two workers", "enospc"): 97,
    ("commit beside a run", "kill"): 1,
    ("commit beside a run", "enospc"): 29,
    ("run beside a run", "kill"): 151,
    ("first run", "kill"): 199,
    ("first run", "tear"): 17,
    ("first run", "enospc"): 199,
    ("run of a changed model", "kill"): 211,
    ("run of a changed model", "eio"): 211,
    ("gc", "kill"): 13,
    ("gc", "enospc"): 29,
    ("gc --verify", "kill"): 5,
    ("gc --verify", "eio"): 7,
}


def explored(scenario: str, fault: str, stride: int) -> int:
    """Run the exploration in a process of its own; returns the number of points."""
    words = ["-m", "tests.pipeline.engine.run_crash_points", scenario, fault, str(stride)]
    done = subprocess.run(
        [sys.executable, *words], env=environment(**WITH_TESTS), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    if fault in ("enospc", "eio"):  # most of them must reach the user, as one line
        assert found["refused"] >= found["points"] * 0.6
    return int(found["points"])


@pytest.mark.parametrize(("scenario", "fault"), QUICK)
def test_stopped_at_some_calls(
    scenario: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    points = explored(scenario, fault, QUICK[scenario, fault])
    if (scenario, fault) == ("commit", "kill"):
        assert points >= 40
    record_property("store crash points", points)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_stopped_at_every_call(
    scenario: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    points = explored(scenario, fault, 1)
    if scenario == "commit" and fault != "tear":
        assert points >= 40
    record_property("store crash points", points)


# The calls that libraries make by themselves are seen by strace only.

SYSCALLS = ("rename", "fsync", "unlink", "pwrite64", "write", "mkdir")
RUN = "from tests.toy_graph import main; main()"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("call", SYSCALLS)
@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC", "error=EIO"])
def test_stopped_at_every_system_call(
    tmp_path: Path, call: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: it stops a process at a chosen system call")
    expected = outputs(ToyHome(tmp_path / "clean").run())
    number = 0
    while True:
        toy = ToyHome(tmp_path / f"toy{number}")
        if not _run_under_strace(toy, call, number + 1, fault):
            break
        number += 1
        where = f"{fault} at {call} {number}"
        assert broken_store(toy.home) == [], where
        assert outputs(toy.run()) == expected, where
        assert broken_store(toy.home) + broken_end(toy.home) == [], where
        shutil.rmtree(toy.home.parent)
    record_property("store crash points", number)
    assert number >= (1 if call == "pwrite64" else 2)  # one writes the process into the lock


def _run_under_strace(toy: ToyHome, call: str, number: int, fault: str) -> bool:
    """Whether the run met its fault. Calls are counted in the main thread of the run alone."""
    log = toy.home.parent / "strace.log"
    inject = f"inject={call}:{fault}:when={number}"
    strace = ("strace", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", inject)
    done = subprocess.run(
        [*strace, sys.executable, "-B", "-c", RUN, str(toy.home), str(toy.file), str(toy.served)],
        env=environment(**WITH_TESTS),
        text=True,
        capture_output=True,
    )
    assert done.returncode in (0, 1, 6, 7, -9, 137), done.stderr
    if done.returncode == 1 and done.stderr:  # `main` of the command line would tell this line
        assert done.stderr.splitlines()[-1].startswith(("OSError", "bnpipe.")), done.stderr
    text = log.read_text()
    return "INJECTED" in text or "killed by SIGKILL" in text
