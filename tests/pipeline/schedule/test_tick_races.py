"""Several schedulers on one home: one run per slot."""

import os
import time
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.schedule.outcome import outcomes
from tests.pipeline.schedule.stub_work import Clock, StubWork, moment, ticker

EVERY = timedelta(minutes=1)


def scheduler(folder: Path, slots: int, barrier: Any) -> None:
    """Ticks at every minute of a fake clock, at the same instant as the other one."""
    work, clock = StubWork(folder / f"done-{os.getpid()}"), Clock(2026, 1, 1)
    mine = ticker(folder, clock, work, every=EVERY, keep_outcomes=10 * slots)
    for _ in range(slots):
        clock.on(minutes=1)
        barrier.wait()
        while mine.due().sentence == "another tick is at work":
            time.sleep(0.0001)
    os._exit(0)


@pytest.mark.parametrize("slots", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_schedulers_that_race_start_one_run_per_slot(memory: Path, slots: int) -> None:
    ticker(memory, Clock(2026, 1, 1), StubWork(memory / "begin"), every=EVERY).due()
    context = get_context("fork")
    barrier = context.Barrier(2)
    racers = [
        context.Process(target=scheduler, args=(memory, slots, barrier), daemon=True)
        for _ in range(2)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(300)
    assert [racer.exitcode for racer in racers] == [0, 0]
    runs: dict[str, int] = {}
    for folder in memory.glob("done-*"):
        for name, times in StubWork(folder).completed().items():
            runs[name] = runs.get(name, 0) + times
    due = [moment(2026, 1, 1) + n * EVERY for n in range(1, slots + 1)]
    assert runs == {f"{at:%Y%m%dT%H%M%SZ}": 1 for at in due}
    assert len(outcomes(memory / "home")) == slots
