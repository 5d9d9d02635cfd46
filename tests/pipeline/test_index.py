"""The index: it says what the files say, whatever happens to it."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bnpipe.pipeline.files import write_json
from bnpipe.pipeline.index import Index
from bnpipe.pipeline.runs import close_dead_runs, find_run, new_run
from bnpipe.pipeline.store import Store
from tests.child import environment
from tests.pipeline.toy_home import ToyHome


@pytest.fixture
def ran(tmp_path: Path) -> ToyHome:
    toy = ToyHome(tmp_path)
    toy.run()
    toy.run(rate=2)
    return toy


def test_runs_are_listed_newest_first_with_their_whole_summary(ran: ToyHome) -> None:
    runs = Index(ran.store).runs()
    assert [r["id"] for r in runs] == ["0002", "0001"]
    assert runs[0] == find_run(ran.store, "2").summary()


def test_the_newest_record_of_a_step_is_found(ran: ToyHome) -> None:
    index = Index(ran.store)
    found = {name: index.latest(name) for name in ("source", "train", "pusher")}
    assert found["source"] is not None and found["source"].run == "0001"
    assert found["train"] is not None and found["train"].run == "0002"
    assert found["pusher"] is None  # an effect is never answered from the cache


@pytest.mark.parametrize("damage", [b"", b"not SQLite at all" * 500, None])
def test_it_is_made_anew_when_it_is_damaged_or_gone(ran: ToyHome, damage: bytes | None) -> None:
    before = Index(ran.store).runs()
    path = ran.home / "index.db"
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert Index(ran.store).runs() == before
    latest = Index(ran.store).latest("train")
    assert latest is not None and latest.run == "0002"


def test_a_half_overwritten_file_is_made_anew(ran: ToyHome) -> None:
    before = Index(ran.store).runs()
    path = ran.home / "index.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert Index(ran.store).runs() == before


@pytest.mark.parametrize("gone", ["steps", "runs"])
def test_it_notices_files_that_came_or_went(ran: ToyHome, gone: str) -> None:
    Index(ran.store).runs()
    if gone == "runs":
        (ran.home / "runs" / "0002" / "run.json").unlink()
        assert [r["id"] for r in Index(ran.store).runs()] == ["0001"]
    else:
        train = Index(ran.store).latest("train")
        assert train is not None
        (ran.home / "steps" / f"{train.key}.json").unlink()
        left = Index(ran.store).latest("train")
        assert left is not None and left.run == "0001"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_unreadable_summary_does_not_hide_the_others(ran: ToyHome, text: str) -> None:
    (ran.home / "runs" / "0001" / "run.json").write_text(text)
    Index(ran.store).rebuild()
    listed = {r["id"]: r["status"] for r in Index(ran.store).runs()}
    assert listed == {"0001": "unreadable", "0002": "succeeded"}


def test_more_than_9999_runs_stay_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    for number in (9998, 9999, 10000):
        (store.runs / f"{number:04d}").mkdir()
        summary = {"id": f"{number:04d}", "status": "succeeded", "steps": []}
        write_json(store.runs / f"{number:04d}" / "run.json", summary)
    assert [r["id"] for r in Index(store).runs()] == ["10000", "9999", "9998"]
    assert find_run(store, "latest").id == "10000"
    assert new_run(store).id == "10001"


def test_a_run_that_died_between_file_and_index_is_told_as_it_ended(ran: ToyHome) -> None:
    summary = find_run(ran.store, "2").summary()
    Index(ran.store).add_run({**summary, "status": "running", "steps": []})
    close_dead_runs(ran.store)
    assert Index(ran.store).runs()[0] == summary


def test_a_run_that_died_is_told_as_killed(ran: ToyHome) -> None:
    summary = {**find_run(ran.store, "2").summary(), "status": "running"}
    write_json(ran.home / "runs" / "0002" / "run.json", summary)
    Index(ran.store).add_run(summary)
    close_dead_runs(ran.store)
    assert Index(ran.store).runs()[0]["status"] == "killed"
    assert find_run(ran.store, "2").summary()["status"] == "killed"


def test_a_run_that_died_and_left_no_record_does_not_stop_the_next(ran: ToyHome) -> None:
    summary = {**find_run(ran.store, "2").summary(), "status": "running"}
    Index(ran.store).add_run(summary)
    (ran.home / "runs" / "0002" / "run.json").write_text("{")
    close_dead_runs(ran.store)
    assert Index(ran.store).runs()[0]["status"] == "unreadable"


def test_a_home_that_is_not_there_has_no_runs_and_is_not_made(tmp_path: Path) -> None:
    index = Index(Store(tmp_path / "none"))
    assert index.runs() == [] and index.latest("train") is None
    assert not (tmp_path / "none").exists()


def test_no_write_ahead_log_is_used(ran: ToyHome) -> None:
    with sqlite3.connect(ran.home / "index.db") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert not list(ran.home.glob("index.db-*"))


def test_readers_and_a_writer_at_once_do_not_break_it(ran: ToyHome) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from bnpipe.pipeline.index import Index\n"
        "from bnpipe.pipeline.store import Store\n"
        "for _ in range(60):\n"
        "    index = Index(Store(Path(sys.argv[1])))\n"
        "    assert index.runs() and index.latest('train')\n"
    )
    words = [sys.executable, "-c", code, str(ran.home)]
    readers = [
        subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    rate = 3
    while any(r.poll() is None for r in readers):
        ran.run(rate=rate)
        rate += 1
    for reader in readers:
        assert reader.stderr is not None
        told = reader.stderr.read()
        reader.stderr.close()
        assert reader.returncode == 0, told
    assert len(Index(ran.store).runs()) == rate - 1
