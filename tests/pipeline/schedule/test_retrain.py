"""`bnpipe retrain`, `schedule run` and `schedule status` over real runs of the toy pipeline."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.engine.lock import at_work
from bnpipe.pipeline.schedule import child
from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.claim import FAILED, Claim
from bnpipe.pipeline.schedule.outcome import Outcome, Result, outcomes, slots_folder
from bnpipe.pipeline.schedule.retrain import retrain
from bnpipe.pipeline.schedule.retraining import _ran
from bnpipe.pipeline.schedule.slot import Slot
from tests.child import WITH_TESTS, environment
from tests.waiting import wait_for

OFTEN = ("--set", "schedule.every=1s", "--set", "schedule.backoff_seconds=0")


class Toy:
    """A project whose pipeline is the toy's; each call is a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (folder / "in.txt").write_text("seven\n")

    def start(self, *words: str, **environ: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.toy_cli", *words],
            cwd=self.folder,
            env=environment(
                BNPIPE_HOME=str(self.home),
                TOY_FILE=str(self.folder / "in.txt"),
                **WITH_TESTS,
                **environ,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, exit_code: int = 0, **environ: str) -> str:
        child = self.start(*words, **environ)
        out, err = child.communicate()
        assert child.returncode == exit_code, f"{words}: exit {child.returncode}\n{out}\n{err}"
        return out + err

    def json(self, *words: str, **environ: Any) -> Any:
        return json.loads(self.call(*words, "--json", **environ).splitlines()[0])

    def tick(self, **environ: Any) -> Any:
        """A tick with a slot that is due."""
        time.sleep(1.1)
        return self.json("retrain", "--due", *OFTEN, **environ)

    def run_json(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "runs" / run / "run.json").read_text())
        return found

    @property
    def last(self) -> Outcome:
        return outcomes(self.home)[-1]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose schedule has begun."""
    folder = tmp_path_factory.mktemp("begun")
    assert "nothing is due" in Toy(folder).call("retrain", "--due", *OFTEN)
    return folder


@pytest.fixture
def toy(begun: Path, tmp_path: Path) -> Toy:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return Toy(tmp_path)


def test_slots_are_pushed_then_unchanged_then_refused(toy: Toy) -> None:
    assert toy.tick()["outcome"]["result"] == "pushed"
    (run,) = toy.json("runs")
    reason = {"trigger": "clock", "sentence": f"{toy.last.slot} is a slot"}
    assert run["trigger"]["reasons"] == [reason]
    assert "clock" in toy.call("runs") and reason["sentence"] in toy.call("show", "latest")

    second = toy.tick()
    assert second["outcome"]["result"] == "unchanged" and second["outcome"]["run"] is None
    assert second["outcome"]["sentence"] == "unchanged: up to date (v1 live)"
    assert len(toy.json("runs")) == 1

    (toy.folder / "in.txt").write_text("eight\n")
    refused = toy.tick(TOY_REFUSE="1", exit_code=3)
    assert refused["outcome"]["result"] == "not_blessed"
    assert refused["outcome"]["sentence"] == "not good enough"
    status = toy.json("schedule", "status", *OFTEN)
    assert [o["result"] for o in status["outcomes"]] == ["pushed", "unchanged", "not_blessed"]
    assert status["served"]["version"] == 1 and len(status["next_slots"]) == 5


def test_a_key_that_cannot_sign_is_named_by_the_slot(toy: Toy) -> None:
    time.sleep(1.1)
    sets = ("--set", "serving.signing_key=none.pem")
    toy.call("retrain", "--due", *OFTEN, *sets, exit_code=2)
    assert toy.last.result is Result.FAILED
    assert "serving.signing_key none.pem: expected a readable PEM file" in toy.last.sentence
    assert "bnpipe versions keygen KEY" in toy.last.sentence


def test_by_hand_with_a_reason(toy: Toy) -> None:
    assert "pushed" in toy.call("retrain", "--reason", "new scanner")
    assert toy.last.by_hand and toy.last.result is Result.PUSHED
    assert "hand: new scanner" in toy.call("show", "latest")
    assert "--reason TEXT" in toy.call("retrain", exit_code=2)
    assert "nothing is scheduled" in toy.call("retrain", "--due", exit_code=2)


def test_a_run_whose_tick_was_killed_ends_and_its_slot_is_finished(toy: Toy) -> None:
    time.sleep(1.1)
    tick = toy.start("retrain", "--due", *OFTEN, TOY_SLEEP="train")
    wait_for(lambda: (toy.home / "runs" / "0001" / "run.json").exists())
    tick.kill()
    tick.communicate()
    wait_for(lambda: not at_work(toy.home))
    done = toy.json("retrain", "--due", *OFTEN)
    assert (done["outcome"]["result"], done["outcome"]["attempt"]) == ("pushed", 2)
    assert toy.run_json("0002")["trigger"]["attempt"] == 2


def test_an_outcome_that_was_lost_is_read_off_the_run(toy: Toy) -> None:
    toy.tick()
    file = max(slots_folder(toy.home).glob("*.json"))
    slot = Slot.named(file.stem)
    assert slot is not None
    claim = Claim(slot=slot).begin("2026-01-01T00:00:00Z")
    before = toy.last
    file.unlink()
    Book(toy.home).claim(claim)
    done = toy.json("retrain", "--due", *OFTEN)
    assert (done["outcome"]["result"], done["outcome"]["version"]) == ("pushed", 1)
    assert done["outcome"]["run"] == before.run and len(toy.json("runs")) == 1


def test_what_an_attempt_published_before_it_failed_is_pushed(toy: Toy) -> None:
    """The server did not follow in time, say: the next attempt finds the version live."""
    toy.tick()
    file = max(slots_folder(toy.home).glob("*.json"))
    slot = Slot.named(file.stem)
    assert slot is not None
    file.unlink()
    begun = Claim(slot=slot).begin("2026-01-01T00:00:00Z")
    Book(toy.home).claim(begun.end(1, FAILED, sentence="did not follow", exit_code=7))
    done = toy.json("retrain", "--due", *OFTEN)["outcome"]
    assert (done["result"], done["version"], done["attempt"]) == ("pushed", 1, 2)
    assert done["sentence"] == "up to date (v1 live)"


@pytest.mark.slow
def test_a_time_limit_ends_the_run(toy: Toy) -> None:
    limit = ("--set", "schedule.time_limit=20s", "--set", "schedule.attempts=1")
    time.sleep(1.1)
    words = ("retrain", "--due", "--json", *OFTEN, *limit)
    toy.call(*words, TOY_SLEEP="train", exit_code=1)
    assert toy.last.result is Result.FAILED
    assert toy.last.sentence == "stopped at the time limit of 20 seconds"
    assert toy.run_json("0001")["status"] == "terminated"


def test_a_served_folder_that_vanished_is_not_begun_anew(toy: Toy) -> None:
    toy.tick()
    shutil.rmtree(toy.home / "served")
    (toy.folder / "in.txt").write_text("eight\n")
    done = toy.tick(exit_code=7)
    assert "the served folder is gone" in done["sentence"]
    assert not (toy.home / "served").exists()
    (claim,) = slots_folder(toy.home).glob("*.claim")
    claim.unlink()
    time.sleep(1.1)
    quiet = ("--set", "schedule.triggers=[new_span]")  # no trigger has to fire for that
    assert "is gone" in toy.call("retrain", "--due", *OFTEN, *quiet, exit_code=7)


@pytest.mark.slow
def test_status_says_by_its_exit_code_that_the_model_is_stale(toy: Toy) -> None:
    toy.tick()
    stale = ("--set", "schedule.cron=0 3 1 1 *", "--set", "schedule.stale_after=1s")
    time.sleep(1.1)
    told = toy.call("status", "--exit-code", *stale, exit_code=4)
    assert "stale after 1 second" in told
    toy.call("status", "--exit-code", "--set", "schedule.cron=0 3 1 1 *")
    (toy.folder / "in.txt").write_text("eight\n")
    toy.call("status", "--exit-code", exit_code=4)  # nothing is scheduled, and there is work


def test_the_scheduler_survives_failing_runs_and_stops_cleanly(toy: Toy) -> None:
    beat = ("--set", "schedule.tick_seconds=1", "--set", "schedule.attempts=1")
    daemon = toy.start("schedule", "run", *OFTEN, *beat, TOY_FAIL="train")
    wait_for(lambda: len(outcomes(toy.home)) >= 2)
    daemon.send_signal(signal.SIGTERM)
    out, err = daemon.communicate()
    assert daemon.returncode == 0, err
    lines = out.splitlines()
    assert sum("failed: train failed: the toy broke" in line for line in lines) >= 2
    assert lines[-1].endswith("stopped")


@pytest.mark.slow
def test_the_scheduler_stops_a_run_that_outlives_its_grace(toy: Toy) -> None:
    beat = ("--set", "schedule.tick_seconds=1", "--set", "schedule.grace_seconds=1")
    time.sleep(1.1)
    daemon = toy.start("schedule", "run", *OFTEN, *beat, TOY_SLEEP="train")
    wait_for(lambda: (toy.home / "runs" / "0001" / "run.json").exists())
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate()
    assert daemon.returncode == 0
    assert toy.run_json("0001")["status"] == "terminated"
    (claim,) = Book(toy.home).claims()
    assert claim.counted == 0  # to be stopped costs no attempt
    assert toy.tick()["outcome"]["result"] == "pushed"


def test_a_run_that_ends_without_a_record_has_failed_whatever_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "COMMAND", ("true",))
    config = from_values({"data": {"dataset": "rendered_digits"}})
    done = retrain(config, tmp_path / "home", reason="another program in its place")
    assert done.exit_code == 1 and done.outcome is not None
    assert (done.outcome.result, done.outcome.exit_code) == (Result.FAILED, 1)
    assert done.outcome.sentence == "the run ended with exit code 0 before it had a record"


@pytest.mark.parametrize(
    ("gate", "result"),
    [
        ("example_validator", Result.BLOCKED),
        ("label_validator", Result.BLOCKED),
        ("evaluator", Result.NOT_BLESSED),
    ],
)
def test_a_gate_that_refuses_data_blocks_and_one_that_refuses_the_model_does_not_bless(
    gate: str, result: Result
) -> None:
    summary = {
        **{"id": "0001", "exit_code": 3, "status": "stopped"},
        "steps": [{"name": gate, "component": gate}],
        "verdict": {"step": gate, "passed": False, "sentence": "no"},
    }
    assert _ran(summary).result is result
