"""Stops a tick at every file-system call, once per call and fault, and lets the next ones finish.

`python -m tests.pipeline.schedule.tick_crash_points FOLDER FAULT` prints the number of points; with
`trial` behind it, of a tick that has no slot and goes on with a trial.
"""

import shutil
import sys
from pathlib import Path

from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.outcome import Result, outcomes
from tests.fault_injection import NOT_REACHED, stopped
from tests.pipeline.schedule.stub_work import Clock, StubWork, ticker

KEEP = 10  # reached, so that pruning is among the calls


def main(folder: Path, fault: str, *, trial: bool) -> int:
    begin(folder / "begun")
    for point in range(1, 1000):
        home = folder / str(point)
        shutil.copytree(folder / "begun", home)
        ended = stopped(
            lambda home=home: tick(home, trial=trial), fault, point, refusals=(OSError,)
        )  # type: ignore[misc]
        if ended == NOT_REACHED:
            return point - 1
        for _ in range(3):
            tick(home, trial=trial)
        check(home, trial=trial)
        shutil.rmtree(home)
    raise AssertionError("a tick makes more calls than expected")


def begin(folder: Path) -> None:
    """A home whose next tick has a slot to do, one to let go and an outcome to prune."""
    clock, work = Clock(2026, 1, 1), StubWork(folder / "done")
    daily = ticker(folder, clock, work, keep_outcomes=KEEP)
    daily.due()
    for _ in range(KEEP):
        clock.on(days=1)
        daily.due()


def tick(folder: Path, *, trial: bool) -> None:
    clock, work = Clock(2026, 1, 11 if trial else 13), StubWork(folder / "done")
    work.tried = "0001" if trial else None
    ticker(folder, clock, work, keep_outcomes=KEEP, backoff_seconds=0.0).due()


def check(folder: Path, *, trial: bool) -> None:
    done = StubWork(folder / "done").completed()
    assert len(done) == KEEP + 1 and set(done.values()) == {1}, done
    found = outcomes(folder / "home")
    last = "2026-01-11T00:00:00Z" if trial else "2026-01-12T03:00:00Z"
    assert found[-1].slot == last and found[-1].result is Result.PUSHED
    assert Book(folder / "home").claims() == []
    left = [p.name for p in (folder / "home" / "schedule").rglob("*") if p.is_file()]
    assert len(left) <= KEEP + 5, left  # lock, state, and what the next slot clears away


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], trial="trial" in sys.argv))  # noqa: T201
