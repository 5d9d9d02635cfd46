"""One tick at a time: what is due, what is tried again, what is left alone."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.engine.errors import LockHeld, Terminated
from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.outcome import HAND, TRIAL, FiredTrigger, Result, outcomes
from bnpipe.pipeline.schedule.tick import Tick
from bnpipe.pipeline.schedule.work import Looked, Ran
from bnpipe.serving.errors import ServingError
from tests.pipeline.schedule.stub_work import PUSHED, Clock, StubWork, moment, ticker

FAULT = Ran(exit_code=1, sentence="trainer failed: no memory", run="0001")


class Home:
    """A daily schedule at three, begun on New Year's day."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.folder, self.home = folder, folder / "home"
        self.clock, self.work = Clock(2026, 1, 1), StubWork(folder / "done")
        self.ticker = ticker(folder, self.clock, self.work, **policy)
        self.tick()

    def tick(self, **on: float) -> Tick:
        self.clock.on(**on)
        return self.ticker.due()

    @property
    def results(self) -> list[tuple[str, Result]]:
        return [(o.slot[5:10], o.result) for o in outcomes(self.home)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_first_tick_begins_the_schedule_and_does_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.work.runs == [] and outcomes(home.home) == []
    assert home.ticker.due().sentence == "nothing is due; next 2026-01-01T03:00:00Z"


def test_a_slot_is_done_once_however_often_one_ticks(home: Home) -> None:
    first = home.tick(hours=3)
    assert first.outcome is not None and first.outcome.result is Result.PUSHED
    assert [home.tick(minutes=5).outcome for _ in range(9)] == [None] * 9
    assert home.work.runs == ["20260101T030000Z"]


def test_an_outcome_tells_all(home: Home) -> None:
    home.tick(hours=3, minutes=4)
    (outcome,) = outcomes(home.home)
    assert json.loads(json.dumps(outcome.to_json())) == {
        "slot": "2026-01-01T03:00:00Z",
        "attempt": 1,
        "result": "pushed",
        "reasons": [{"trigger": "clock", "sentence": "it is time"}],
        "sentence": "v1 is live",
        "run": "0001",
        "version": 1,
        "started": "2026-01-01T03:04:00Z",
        "ended": "2026-01-01T03:04:00Z",
        "exit_code": 0,
        "missed": 0,
    }


def test_asleep_through_three_slots_the_latest_is_made_up_for(tmp_path: Path) -> None:
    home = Home(tmp_path, catch_up="latest")
    tick = home.tick(days=3, hours=1)
    assert tick.outcome is not None and tick.outcome.missed == 2
    assert home.tick().outcome is None
    assert home.work.runs == ["20260103T030000Z"]


def test_asleep_through_three_slots_all_are_made_up_for(tmp_path: Path) -> None:
    home = Home(tmp_path, catch_up="all")
    home.clock.on(days=3, hours=1)
    assert [home.tick().outcome is not None for _ in range(4)] == [True, True, True, False]
    assert home.work.runs == [f"2026010{day}T030000Z" for day in (1, 2, 3)]


def test_asleep_through_three_slots_none_is_made_up_for_but_it_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path, catch_up="none", late_seconds=900.0)
    tick = home.tick(days=3, hours=1)
    assert tick.sentence.endswith(
        "3 slots from 2026-01-01T03:00:00Z on were missed; catch_up is none"
    )
    assert home.work.runs == [] and home.results == [("01-03", Result.MISSED)]
    assert home.tick(hours=26, minutes=10).outcome is not None  # the next one in time
    assert home.work.runs == ["20260105T030000Z"]


def test_a_jump_over_years_makes_up_for_no_more_than_the_limit(tmp_path: Path) -> None:
    home = Home(tmp_path, catch_up="all", catch_up_limit=4)
    home.clock.on(days=3000)
    while home.tick().outcome is not None:
        pass
    assert len(home.work.runs) == 4


def test_a_clock_that_goes_back_does_nothing_twice_and_goes_on(home: Home) -> None:
    home.tick(days=2, hours=4)
    home.tick(days=-2)
    for _ in range(100):
        home.tick(hours=1)
    done = home.work.completed()
    assert max(done.values()) == 1
    assert set(done) == {f"2026010{day}T030000Z" for day in (2, 3, 4, 5)}


def test_a_clock_that_was_in_the_far_future_does_not_silence_the_schedule(home: Home) -> None:
    home.tick(days=2000)
    home.tick(days=-2000)
    home.tick(days=1, hours=4)
    assert home.work.runs[-1] == "20260102T030000Z"


def test_nothing_new_is_unchanged_and_starts_no_run(home: Home) -> None:
    home.work.nothing = "unchanged: up to date (v1 live)"
    tick = home.tick(hours=3)
    assert tick.exit_code == 0 and home.work.runs == []
    assert home.results == [("01-01", Result.UNCHANGED)]


def test_no_trigger_is_unchanged_too(home: Home) -> None:
    home.work.looked = Looked((), ("no new span",))
    assert home.tick(hours=3).sentence == "2026-01-01T03:00:00Z unchanged: no trigger: no new span"
    assert home.work.runs == []


def test_a_verdict_is_not_tried_again(home: Home) -> None:
    home.work.answers = [Ran(exit_code=3, sentence="worse", result=Result.NOT_BLESSED, run="0001")]
    assert home.tick(hours=3).exit_code == 3
    assert home.tick(hours=5).outcome is None
    assert home.results == [("01-01", Result.NOT_BLESSED)]


def test_a_fault_is_tried_again_after_a_wait_that_doubles(tmp_path: Path) -> None:
    home = Home(tmp_path, attempts=4, backoff_seconds=600.0)
    home.work.answers = [FAULT, FAULT, PUSHED]
    assert home.tick(hours=3).exit_code == 1
    assert home.tick(minutes=9).exit_code == 0 and len(home.work.runs) == 1
    home.tick(minutes=2)
    assert len(home.work.runs) == 2
    home.tick(minutes=15)
    assert len(home.work.runs) == 2
    tick = home.tick(minutes=6)
    assert tick.outcome is not None and (tick.outcome.result, tick.outcome.attempt) == ("pushed", 3)


def test_faults_are_tried_again_only_so_often(tmp_path: Path) -> None:
    home = Home(tmp_path, attempts=3)
    home.work.answers = [FAULT]
    for _ in range(20):
        home.tick(hours=1)
    (outcome,) = outcomes(home.home)
    assert (outcome.result, outcome.attempt, outcome.exit_code) == (Result.FAILED, 3, 1)
    assert outcome.sentence == "3 attempts: trainer failed: no memory"


def test_faults_are_tried_again_only_so_long(tmp_path: Path) -> None:
    home = Home(tmp_path, attempts=99, retry_for="1h", backoff_seconds=1200.0)
    home.work.answers = [FAULT]
    for _ in range(90):
        home.tick(minutes=6)
    (outcome,) = outcomes(home.home)
    assert outcome.result is Result.FAILED and outcome.attempt == 2


@pytest.mark.parametrize("code", [2, 6, 70])
def test_what_another_attempt_cannot_mend_is_final(home: Home, code: int) -> None:
    home.work.answers = [Ran(exit_code=code, sentence="no such key")]
    assert home.tick(hours=3).exit_code == code
    assert home.results == [("01-01", Result.FAILED)]


def test_a_wait_from_another_clock_is_not_waited_for(home: Home) -> None:
    home.work.answers = [FAULT, PUSHED]
    home.tick(hours=3)
    home.tick(hours=-30)
    assert len(home.work.runs) == 2


def test_a_run_in_the_way_is_waited_for_and_costs_no_attempt(home: Home) -> None:
    home.work.at_work = "a run is at work (process 7)"
    for _ in range(9):
        assert home.tick(hours=1).exit_code == 0
    home.work.at_work = None
    home.work.answers = [Ran(exit_code=5, sentence="another run is at work"), PUSHED]
    home.tick()
    tick = home.tick()
    assert tick.outcome is not None and tick.outcome.result is Result.PUSHED


def test_a_tick_that_is_terminated_leaves_its_slot_to_the_next(tmp_path: Path) -> None:
    home = Home(tmp_path, attempts=1)

    def stop(claim: Claim) -> None:
        raise Terminated

    home.work.on_run = stop
    for _ in range(3):
        with pytest.raises(Terminated):
            home.tick(hours=3)
    home.work.on_run = lambda claim: None
    tick = home.tick()
    assert tick.outcome is not None and tick.outcome.result is Result.PUSHED


def test_killed_while_it_ran_it_is_tried_again_at_most_n_times(tmp_path: Path) -> None:
    home = Home(tmp_path, attempts=3)

    class Kill(BaseException):
        pass

    def die(claim: Claim) -> None:
        raise Kill

    home.work.on_run = die
    for _ in range(3):
        with pytest.raises(Kill):
            home.tick(hours=3)
    tick = home.tick()
    assert tick.outcome is not None and tick.outcome.result is Result.FAILED
    assert tick.outcome.sentence == "3 attempts: the last one was cut short"
    assert len(home.work.runs) == 3


def test_a_claim_of_an_older_version_is_gone_on_with(home: Home) -> None:
    home.work.answers = [FAULT, PUSHED]
    home.tick(hours=3)
    (file,) = home.home.glob("schedule/slots/*.claim")
    claim = json.loads(file.read_text())
    claim["attempts"][0] |= {"pid": 123, "boot": "0b4c"}
    file.write_text(json.dumps(claim))
    outcome = home.tick(hours=1).outcome
    assert outcome is not None and (outcome.result, outcome.attempt) == (Result.PUSHED, 2)


def test_a_full_disk_loses_no_slot(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            home.tick(hours=3)
        assert home.work.runs == [] and Book(home.home).claims() == []
    home.tick()
    assert home.work.runs == ["20260101T030000Z"]


def test_an_outcome_that_found_no_room_is_written_later_without_another_run(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(claim: Claim) -> None:
        def full(*args: Any, **kwargs: Any) -> Any:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)

    home.work.on_run = fill
    with pytest.raises(OSError, match="No space"):
        home.tick(hours=3)
    monkeypatch.undo()
    tick = home.tick()
    assert tick.outcome is not None and tick.outcome.result is Result.PUSHED
    assert len(home.work.runs) == 1


def test_by_hand_one_retrains_at_once_and_the_reason_is_kept(home: Home) -> None:
    home.ticker.by_hand("new scanner")
    home.ticker.by_hand("newer scanner")
    found = outcomes(home.home)
    assert [o.reasons[0].sentence for o in found] == ["new scanner", "newer scanner"]
    assert all(o.by_hand and o.reasons[0].trigger == HAND for o in found)
    home.tick(hours=3)
    assert home.work.runs[-1] == "20260101T030000Z"


def on_trial(home: Home, *answers: Ran) -> None:
    """A home whose slot is done, and left a version on trial."""
    home.tick(hours=3)
    home.work.tried, home.work.answers = "0001", list(answers)


def test_a_trial_is_gone_on_with_by_every_tick_until_it_comes_to_something(home: Home) -> None:
    kept = Ran(sentence="v2 stays canary", result=Result.UNCHANGED, run="0001")
    withdrawn = Ran(
        sentence="v2 is slow", result=Result.WITHDRAWN, run="0001", version=2, exit_code=3
    )
    fault = Ran(sentence="no server", exit_code=7, run="0001")
    on_trial(home, kept, fault, withdrawn)
    asked: list[str | None] = []
    home.work.on_run = lambda claim: asked.append(claim.trial)
    ticks = [home.tick(minutes=5) for _ in range(2)]
    assert [(t.sentence, t.exit_code, t.outcome) for t in ticks] == [
        ("v2 stays canary", 0, None),
        ("no server", 7, None),
    ]
    assert len(outcomes(home.home)) == 1 and Book(home.home).claims() == []
    done = home.tick(minutes=5)
    assert done.outcome == outcomes(home.home)[-1] and done.exit_code == 3
    assert done.outcome.result is Result.WITHDRAWN and done.outcome.reasons[0].trigger == TRIAL
    assert asked == ["0001"] * 3


def test_what_a_trial_came_to_is_an_outcome_also_if_the_tick_was_killed(home: Home) -> None:
    class Killed(BaseException):
        pass

    def die(claim: Claim) -> None:
        raise Killed

    on_trial(home, PUSHED)
    home.work.on_run = die
    with pytest.raises(Killed):
        home.tick(minutes=5)
    home.work.on_run = lambda claim: None
    home.work.tried = None  # it is decided
    done = home.tick(minutes=5)
    assert done.outcome is not None and done.outcome.result is Result.PUSHED
    assert home.tick(minutes=5).outcome is None and len(outcomes(home.home)) == 2


def test_a_trial_does_not_wait_for_a_trigger_and_not_for_a_run_of_its_own(home: Home) -> None:
    on_trial(home, Ran(sentence="v2 stays canary", result=Result.UNCHANGED, run="0001"))
    home.work.looked = Looked((), ("no new span",))
    tick = home.tick(days=1)
    assert tick.sentence == "v2 stays canary"
    assert tick.outcome is not None and tick.outcome.sentence == "no trigger: no new span"
    home.work.looked, runs = Looked((FiredTrigger("clock", "it is time"),)), len(home.work.runs)
    home.tick(days=1)  # the run of the slot has tried it
    assert len(home.work.runs) == runs + 1
    home.work.at_work = "a run is at work"
    assert "nothing is due" in home.tick(minutes=5).sentence


def test_a_slot_that_failed_is_seen_though_a_version_is_on_trial(home: Home) -> None:
    on_trial(home, Ran(sentence="v2 stays canary", result=Result.UNCHANGED, run="0001"))
    home.work.looked = Looked((), ("new_span: cannot read data",), failed=True)
    ticks = [home.tick(days=1), *(home.tick(hours=1) for _ in range(5))]
    failed = next(t for t in ticks if t.outcome is not None)
    assert failed.outcome is not None and failed.outcome.result is Result.FAILED
    assert failed.exit_code == failed.outcome.exit_code != 0
    assert home.tick(minutes=5).sentence == "v2 stays canary"  # the next one goes on


def test_a_trial_that_cannot_be_looked_for_takes_no_outcome_along(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial() -> None:
        raise ServingError("cannot read ledger.jsonl")

    monkeypatch.setattr(home.work, "trial", trial)
    home.work.nothing = "unchanged: v1 is live"
    tick = home.tick(hours=3)
    assert tick.outcome == outcomes(home.home)[-1] and tick.exit_code != 0
    assert tick.sentence.endswith("no trial can be looked for: cannot read ledger.jsonl")


def test_by_hand_one_does_not_wait_for_a_run(home: Home) -> None:
    home.work.at_work = "a run is at work (process 7)"
    with pytest.raises(LockHeld, match="process 7"):
        home.ticker.by_hand("now")
    assert Book(home.home).claims() == []


def test_while_a_slot_is_done_other_ticks_go_away(home: Home) -> None:
    seen: list[str] = []
    home.work.on_run = lambda claim: seen.append(home.ticker.due().sentence)
    home.tick(hours=3)
    assert seen == ["another tick is at work"] and len(home.work.runs) == 1


def test_outcomes_are_pruned_and_stay_done(tmp_path: Path) -> None:
    home = Home(tmp_path, keep_outcomes=10)
    for _ in range(40):
        home.tick(days=1)
    assert len(outcomes(home.home)) == 10
    assert len(list((home.home / "schedule" / "slots").iterdir())) == 10
    home.tick(days=-5)
    for _ in range(5):
        home.tick(days=1)
    assert max(home.work.completed().values()) == 1


def test_a_lost_state_is_made_from_the_outcomes(home: Home) -> None:
    for _ in range(3):
        home.tick(days=1)
    (home.home / "schedule" / "state.json").unlink()
    assert home.tick().outcome is None
    home.tick(days=1)
    assert list(home.work.completed().values()) == [1] * 4


def test_slots_come_by_a_new_timetable_from_now_on(home: Home) -> None:
    home.tick(hours=12)
    hourly = ticker(home.folder, home.clock, home.work, cron="0 * * * *")
    assert hourly.due().outcome is not None  # 12:00, once
    home.clock.on(hours=1)
    assert hourly.due().outcome is not None
    assert home.work.runs[-2:] == ["20260101T120000Z", "20260101T130000Z"]
    assert moment(2026, 1, 1, 13) == home.clock.now
