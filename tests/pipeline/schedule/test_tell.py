"""After a tick: who is told, what monitors read, and what `status` makes of it all."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.configuration.config import Config, from_values
from bnpipe.pipeline.engine.lock import try_lock
from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.health import Health, health
from bnpipe.pipeline.schedule.outcome import Result, outcomes
from bnpipe.pipeline.schedule.slot import Slot, iso
from bnpipe.pipeline.schedule.tell import NEWEST, tell
from bnpipe.pipeline.schedule.tick import Tick
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.folder import ledger
from tests.pipeline.schedule.stub_work import Clock, StubWork, moment, ticker

WRITES = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"


class Told:
    """A daily schedule whose outcomes are told to a command and to Prometheus."""

    def __init__(self, folder: Path, **schedule: Any) -> None:
        self.folder, self.home = folder, folder / "home"
        self.clock, self.work = Clock(2026, 1, 1), StubWork(folder / "done")
        self.ticker = ticker(folder, self.clock, self.work, attempts=1)
        self.config: Config = from_values(
            {
                "schedule": {"cron": "0 3 * * *", **schedule},
                "serving": {"base_path": str(folder / "served")},
                "notify": {
                    "on": ["success", "not_blessed", "failure", "stale"],
                    "command": [sys.executable, "-c", WRITES, str(folder / "told")],
                    "prometheus_file": str(folder / "bnpipe.prom"),
                },
            }
        )
        self.tick()

    def tick(self, **on: float) -> Tick:
        self.clock.on(**on)
        done = self.ticker.due()
        assert tell(self.config, self.home, done, self.clock()) == []
        return done

    @property
    def events(self) -> list[str]:
        file = self.folder / "told"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line)["event"] for line in lines]

    def health(self) -> Health:
        return health(self.config.schedule, self.home, self.folder / "served", self.clock())

    def publish(self, folder: Path) -> None:
        """A version that was published now."""
        served = self.folder / "served"
        (served / "1" / "variables").mkdir(parents=True)
        (served / "1" / "saved_model.pb").touch()
        (served / "1" / "variables" / "variables.index").touch()
        entry = {"digest": "d", "model_name": "m", "compared_with": None, "provenance": {}}
        lines: list[dict[str, Any]] = [
            {"event": "reserved", "version": 1, **entry, "force": None},
            {"event": "published", "version": 1},
        ]
        at = self.clock().isoformat()
        text = "".join(json.dumps({**line, "at": at}) + "\n" for line in lines)
        (served / ledger.LEDGER).write_text(text)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path, stale_after="7d")


def test_every_settled_slot_is_told_once(told: Told) -> None:
    told.tick(hours=3)
    told.tick(minutes=5)
    told.work.answers = [Ran(exit_code=3, sentence="worse", result=Result.NOT_BLESSED)]
    told.tick(days=1)
    told.work.answers = [Ran(exit_code=1, sentence="no memory")]
    told.tick(days=1)
    assert told.events == ["success", "not_blessed", "failure"]
    assert 'bnpipe_last_result{model="mnist",result="failed"} 1.0' in prometheus(told)


def test_what_a_killed_tick_left_untold_is_told_by_the_next(told: Told) -> None:
    told.clock.on(hours=3)
    told.ticker.due()  # killed before it told anybody
    told.tick(minutes=5)
    told.tick(minutes=5)
    assert told.events == ["success"]


def test_a_home_that_told_before_this_was_written_down_tells_only_what_is_new(told: Told) -> None:
    told.tick(hours=3)
    (told.home / "schedule" / "told.json").unlink()
    told.tick(days=1)
    told.tick(minutes=5)
    assert told.events == ["success", "success"]


def test_a_clock_that_was_ahead_silences_nobody(told: Told) -> None:
    for _ in range(NEWEST + 5):
        told.tick(days=1)
    told.clock.on(days=-NEWEST - 5)
    before = len(told.events)
    slots = [outcome.slot for outcome in outcomes(told.home)]
    told.work.answers = [Ran(exit_code=1, sentence="no memory")]
    told.clock.on(hours=1)
    told.ticker.by_hand("new scanner")
    told.tick()
    assert told.events[before:] == ["failure"]
    assert told.health().attention == (f"{iso(told.clock())} failed: no memory",)
    assert 'bnpipe_last_result{model="mnist",result="failed"} 1.0' in prometheus(told)
    told.tick(days=NEWEST + 5)  # nothing of what comes back is told again
    assert told.events[before:] == ["failure"] and len(outcomes(told.home)) == len(slots) + 1


def test_a_slot_that_was_cut_short_and_that_nobody_comes_for_wants_attention(told: Told) -> None:
    told.clock.on(hours=3)
    Book(told.home).claim(Claim(slot=Slot(told.clock())).begin(iso(told.clock())))
    stamp(told, minutes=10)
    assert told.health().attention == ()
    stamp(told, minutes=20)
    assert told.health().attention == (
        "2026-01-01T03:00:00Z is unfinished and nobody ticks: bnpipe schedule run",
    )


def stamp(told: Told, **ago: float) -> None:
    """The last tick was so long ago, by the test's clock."""
    at = (told.clock() - timedelta(**ago)).timestamp()
    os.utime(told.home / "schedule" / "lock", (at, at))


def test_two_ticks_do_not_tell_the_same(told: Told) -> None:
    told.clock.on(hours=3)
    done = told.ticker.due()
    with try_lock(told.home / "schedule" / "telling.lock"):
        assert tell(told.config, told.home, done, told.clock()) == []
    assert told.events == []
    told.tick(minutes=5)
    assert told.events == ["success"]


def test_a_stale_model_is_told_once_a_day_and_wants_attention(told: Told, tmp_path: Path) -> None:
    told.publish(tmp_path)
    told.work.nothing = "unchanged: up to date (v1 live)"
    told.tick(days=1, hours=3)
    assert told.events == [] and told.health().attention == ()
    told.tick(days=7)
    told.tick(minutes=5)
    assert told.events == ["stale"]
    assert told.health().attention == ("v1 is 8.1 days old, stale after 7 days",)
    assert 'bnpipe_served_model_stale{model="mnist"} 1.0' in prometheus(told)
    told.tick(days=1)
    assert told.events == ["stale", "stale"]


def test_estimates_that_cannot_be_read_want_attention_and_hide_nothing(told: Told) -> None:
    path = told.home / "schedule" / "estimates.jsonl"
    path.mkdir()
    (sentence,) = told.health().attention
    assert sentence == f"{path} cannot be read: expected a file with data, received a folder"


def test_a_failed_slot_wants_attention_until_one_ends_well(told: Told) -> None:
    told.work.answers = [Ran(exit_code=1, sentence="no memory")]
    told.tick(hours=3)
    assert told.health().attention == ("2026-01-01T03:00:00Z failed: no memory",)
    told.work.answers = [Ran(exit_code=0, sentence="v1 is live", result=Result.PUSHED)]
    told.tick(days=1)
    assert told.health().attention == ()


def test_a_scheduler_that_is_not_running_wants_attention(told: Told) -> None:
    told.clock.on(hours=3, minutes=10)
    assert told.health().attention == ()
    told.clock.on(minutes=10)
    assert "2026-01-01T03:00:00Z is overdue" in told.health().attention[0]


def test_health_shows_slots_to_come_and_a_claim_that_waits(told: Told) -> None:
    waiting = ticker(told.folder, told.clock, told.work, backoff_seconds=300.0)
    told.work.answers = [Ran(exit_code=1, sentence="no memory")]
    told.clock.on(hours=3)
    waiting.due()
    found = told.health()
    assert [claim.slot.iso for claim in found.claims] == ["2026-01-01T03:00:00Z"]
    assert not found.working and found.claims[0].not_before == "2026-01-01T03:05:00Z"
    assert [iso(slot) for slot in found.next_slots[:2]] == [
        "2026-01-02T03:00:00Z",
        "2026-01-03T03:00:00Z",
    ]
    assert found.next_slots[0] == moment(2026, 1, 2, 3)


def test_what_cannot_be_told_is_one_sentence(told: Told) -> None:
    config = from_values({"notify": {"prometheus_file": str(told.folder / "no" / "x.prom")}})
    (problem,) = tell(config, told.home, Tick("nothing is due"), told.clock())
    assert "cannot write" in problem


def prometheus(told: Told) -> str:
    return (told.folder / "bnpipe.prom").read_text()
