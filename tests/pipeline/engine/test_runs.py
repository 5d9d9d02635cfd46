"""Run folders: listed from their own files, newest first, and closed when their process died."""

import os
import signal
from pathlib import Path

import pytest

from bnpipe.pipeline.engine import execute
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.lock import alone_in, run_locks, try_lock
from bnpipe.pipeline.engine.runs import (
    find_run,
    new_run,
    newest_summaries,
    put_in_order,
    summaries,
)
from bnpipe.pipeline.engine.store import Store
from tests.pipeline.toy_home import ToyHome
from tests.waiting import wait_for


@pytest.fixture
def ran(tmp_path: Path) -> ToyHome:
    toy = ToyHome(tmp_path)
    toy.run()
    toy.run(rate=2)
    return toy


def die(ran: ToyHome) -> None:
    """Leave the newest run's record and its lock as a killed process leaves them."""
    summary = {**find_run(ran.store, "2").summary(), "status": "running"}
    write_json(ran.home / "runs" / "0002" / "run.json", summary)
    with try_lock(ran.home / "locks" / "runs" / "0002"):
        pass


def test_runs_are_listed_newest_first_with_their_whole_summary(ran: ToyHome) -> None:
    listed = list(summaries(ran.store))
    assert [r["id"] for r in listed] == ["0002", "0001"]
    assert listed[0] == find_run(ran.store, "2").summary()


def test_a_run_without_a_record_is_not_listed(ran: ToyHome) -> None:
    (ran.home / "runs" / "0002" / "run.json").unlink()
    assert [r["id"] for r in summaries(ran.store)] == ["0001"]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_unreadable_summary_does_not_hide_the_others(ran: ToyHome, text: str) -> None:
    (ran.home / "runs" / "0002" / "run.json").write_text(text)
    listed = {r["id"]: r["status"] for r in summaries(ran.store)}
    assert listed == {"0001": "succeeded", "0002": "unreadable"}
    assert [r["id"] for r in newest_summaries(ran.store)] == ["0001"]


def test_more_than_9999_runs_stay_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    for number in (9998, 9999, 10000):
        (store.runs / f"{number:04d}").mkdir()
        summary = {"id": f"{number:04d}", "status": "succeeded", "steps": []}
        write_json(store.runs / f"{number:04d}" / "run.json", summary)
    assert [r["id"] for r in summaries(store)] == ["10000", "9999", "9998"]
    assert find_run(store, "latest").id == "10000"
    assert new_run(store).id == "10001"


def test_a_run_that_died_is_told_as_killed(ran: ToyHome) -> None:
    die(ran)
    put_in_order(ran.store)
    assert '"status": "killed"' in (ran.home / "runs" / "0002" / "run.json").read_text()


def test_a_run_that_died_is_killed_for_all_who_look_before_the_next_run(ran: ToyHome) -> None:
    die(ran)
    assert find_run(ran.store, "2").summary()["status"] == "killed"
    assert [r["status"] for r in summaries(ran.store)] == ["killed", "succeeded"]
    assert ran.plan(rate=2).work == []  # looking has closed nothing
    assert '"status": "running"' in (ran.home / "runs" / "0002" / "run.json").read_text()


def test_a_run_lives_as_long_as_its_own_lock_is_held_whoever_else_is_at_work(ran: ToyHome) -> None:
    die(ran)
    with run_locks(ran.home) as locks:  # of the process that made the run, as while it is at work
        locks.begin("0002")
        assert find_run(ran.store, "2").summary()["status"] == "running"
    for other in (run_locks, alone_in):
        with other(ran.home) as locks:
            if locks is not None:
                locks.begin("0003")
            assert find_run(ran.store, "2").summary()["status"] == "killed"


def test_a_run_that_died_is_closed_behind_one_that_began_later_and_ended_first(
    ran: ToyHome,
) -> None:
    die(ran)
    with run_locks(ran.home):  # one that is still at work: nobody is alone
        ran.run(rate=3)
        assert '"status": "running"' in (ran.home / "runs" / "0002" / "run.json").read_text()
    ran.run(rate=3)
    assert '"status": "killed"' in (ran.home / "runs" / "0002" / "run.json").read_text()


def test_a_record_of_before_runs_had_locks_is_read_as_killed(ran: ToyHome) -> None:
    die(ran)
    (ran.home / "locks" / "runs" / "0002").unlink()
    assert [r["status"] for r in summaries(ran.store)] == ["killed", "succeeded"]


def test_two_that_begin_at_once_get_numbers_of_their_own(
    ran: ToyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, others = Path.mkdir, iter(["0003", "0004"])

    def later(path: Path, *args: object) -> None:
        if (other := next(others, None)) is not None:  # somebody else was faster
            mkdir(path.parent / other)
        mkdir(path, *args)

    monkeypatch.setattr(Path, "mkdir", later)
    assert new_run(ran.store).id == "0005"


def test_a_home_that_was_moved_tells_where_its_runs_are_now(ran: ToyHome, tmp_path: Path) -> None:
    moved = ran.home.rename(tmp_path / "elsewhere")
    assert find_run(Store(moved), "2").summary()["folder"] == str(moved / "runs" / "0002")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_a_run_that_a_signal_ended_is_not_shown_as_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    toy = ToyHome(tmp_path)
    child = toy.child(TOY_SLEEP="source")
    wait_for(lambda: any(r["status"] == "running" for r in summaries(toy.store)))
    child.send_signal(number)
    child.communicate()
    assert [r["status"] for r in summaries(toy.store)] == ["killed"]


def test_a_run_that_died_is_found_behind_a_damaged_record(ran: ToyHome) -> None:
    die(ran)
    new_run(ran.store).path.joinpath("run.json").write_text("{")
    put_in_order(ran.store)
    assert [r["status"] for r in summaries(ran.store)] == ["unreadable", "killed", "succeeded"]
    assert '"status": "killed"' in (ran.home / "runs" / "0002" / "run.json").read_text()


def test_a_home_that_is_not_there_has_no_runs_and_is_not_made(tmp_path: Path) -> None:
    assert list(summaries(Store(tmp_path / "none"))) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("record", "status", "code"), [(1, "terminated", 143), (2, "succeeded", 0)]
)
def test_a_signal_beside_the_first_or_the_last_record_leaves_it_closed(
    record: int, status: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy, written = ToyHome(tmp_path), []

    def write(path: Path, value: object) -> None:
        write_json(path, value)
        if path.name == "run.json":
            written.append(path)
            if len(written) == record:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(execute, "write_json", write)
    ended = toy.run()
    assert (ended.exit_code, ended.summary["status"]) == (code, status)
    (summary,) = summaries(toy.store)
    assert summary == ended.summary
