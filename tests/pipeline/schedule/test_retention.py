"""What scheduled runs leave behind stays bounded, and what is served keeps its history."""

from pathlib import Path

from bnpipe.pipeline.engine.collect import drop_runs, size_of
from bnpipe.pipeline.engine.lock import run_locks
from bnpipe.pipeline.schedule.retention import keep_newest
from bnpipe.serving.folder import publish
from tests.pipeline.toy_home import ToyHome


def runs(toy: ToyHome) -> list[str]:
    return sorted(p.name for p in (toy.home / "runs").iterdir())


def test_the_newest_runs_and_those_behind_served_versions_stay(tmp_path: Path) -> None:
    toy = ToyHome(tmp_path)
    sizes = []
    for rate in range(1, 9):
        toy.run(rate=rate)
        publish.prune(toy.served, 2)
        keep_newest(toy.store, toy.served, 2)
        sizes.append(size_of(toy.home / "objects"))
    assert runs(toy) == ["0007", "0008"]
    assert sizes[-1] == sizes[-2] == sizes[-3]
    assert toy.run(rate=8).exit_code == 0
    assert runs(toy)[-1] == "0009"


def test_nothing_is_removed_while_a_run_is_at_work(tmp_path: Path) -> None:
    toy = ToyHome(tmp_path)
    for rate in (1, 2, 3):
        toy.run(rate=rate)
    publish.prune(toy.served, 1)
    with run_locks(toy.home):
        keep_newest(toy.store, toy.served, 1)
    assert len(runs(toy)) == 3
    assert drop_runs(toy.store, 1, {"0001"}) == ["0002"]
    assert runs(toy) == ["0001", "0003"]
