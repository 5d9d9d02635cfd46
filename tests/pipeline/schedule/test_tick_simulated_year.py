"""A year of slots with crashes at every durable step, double ticks and clock jumps."""

import os
import random
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.configuration.timetable import make_timetable
from bnpipe.pipeline.schedule import book, outcome
from tests.pipeline.schedule.stub_work import Clock, StubWork, moment, ticker

ZONE, CRON = "America/New_York", "30 2,8,14,20 * * *"
BEGIN, END = moment(2026, 1, 1), moment(2027, 1, 1)


class Crash(BaseException):
    """The process died here."""


class Crashes:
    """Dies before or after a durable step, when armed, at a step drawn by lot."""

    def __init__(self, patch: pytest.MonkeyPatch, lot: random.Random) -> None:
        self.lot, self.left, self.happened = lot, -1, 0
        patch.setattr(os, "fsync", lambda descriptor: None)  # power loss is not what dies here
        patch.setattr(book, "write_json", self.dying(book.write_json))
        patch.setattr(book, "write_all", self.dying(book.write_all))
        patch.setattr(Path, "unlink", self.dying(Path.unlink))
        for name in ("look", "unchanged", "run"):
            patch.setattr(StubWork, name, self.dying(getattr(StubWork, name)))

    def arm(self) -> None:
        self.left = self.lot.randrange(24)

    def disarm(self) -> None:
        self.left = -1

    def dying(self, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = real(*args, **kwargs)
            self.step()
            return result

        return call

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.happened += 1
            raise Crash


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 10))]
)
def test_every_due_slot_of_a_year_is_done_once(
    memory: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    lot = random.Random(seed)
    crashes = Crashes(monkeypatch, lot)
    clock, work = Clock(2026, 1, 1), StubWork(memory / "done")
    policy: dict[str, Any] = {"catch_up": "all", "catch_up_limit": 1000, "attempts": 1000}
    daemon = ticker(memory, clock, work, CRON, ZONE, keep_outcomes=50, **policy)

    def tick() -> None:
        if lot.random() < 0.3:
            crashes.arm()
        try:
            daemon.due()
        except Crash:
            pass
        finally:
            crashes.disarm()

    daemon.due()  # the schedule begins
    while clock.now < END:
        tick()
        if lot.random() < 0.3:
            tick()
        if lot.random() < 0.02:
            clock.now = max(clock.now - timedelta(hours=lot.uniform(0, 48)), BEGIN)
        elif lot.random() < 0.01:
            clock.on(hours=lot.uniform(0, 100))
        else:
            clock.on(minutes=lot.uniform(5, 300))
    until = clock.now
    for _ in range(200):
        tick()
    timetable = make_timetable(CRON, None, ZONE)
    assert timetable is not None
    slots = takewhile(lambda at: at <= until, timetable.after(BEGIN))
    expected = [f"{at:%Y%m%dT%H%M%SZ}" for at in slots]
    assert len(expected) >= 1460
    assert work.completed() == dict.fromkeys(expected, 1)
    assert crashes.happened > 150
    assert len(list(outcome.slots_folder(memory / "home").iterdir())) <= 52
