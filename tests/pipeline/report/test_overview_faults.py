"""What the page over all runs says of many, of several models, and of records that are odd."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report.charts import Chart
from bnpipe.pipeline.report.overview import gather, write_overview
from bnpipe.pipeline.report.overview_charts import charts
from tests.pipeline.report.many_runs import estimates, many_runs
from tests.pipeline.report.test_page import Page

LEDGER = Path("served/mnist/ledger.jsonl")


def chart_of(store: Store, title: str) -> Chart:
    return next(chart for chart in charts(gather(store)) if chart.title.startswith(title))


def change(store: Store, run: str, edit: Callable[[Any], object]) -> None:
    for name in ("report.json", "run.json"):
        path = store.runs / run / name
        record = json.loads(path.read_text())
        edit(record)
        path.write_text(json.dumps(record))


def tiles(store: Store) -> dict[str, str]:
    spans = Page(write_overview(store)[0].read_text()).texts["span"]
    return {
        name: f"{value} {note}"
        for name, value, note in zip(spans, spans[1:], spans[2:], strict=False)
    }


def test_of_many_estimates_the_newest_are_drawn_whole_and_the_title_says_so(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 2)
    path = estimates(store.home, 801)
    stored = [json.loads(line) for line in path.read_text().splitlines()]
    drifted = (
        json.dumps(made | {"drift": i % 3 == 1, "model": "m1"}) for i, made in enumerate(stored)
    )
    path.write_text("".join(f"{line}\n" for line in drifted))
    chart = chart_of(store, "Estimated")
    assert chart.title.endswith("live version, 99 % band (the newest 400 of 801)")
    assert "Crosses, 133: requests that drifted" in chart.alt
    assert len(chart.table.rows) == 400


def test_a_run_that_did_not_pass_counts_once_in_every_chart(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 3)
    change(store, "0003", lambda run: run.update(status="failed", error="disk full"))
    crosses = [chart.alt.partition("Crosses, ")[2] for chart in charts(gather(store))]
    assert crosses == [said := "1: the run did not pass.", said, "", said]


def test_models_are_told_apart_and_live_versions_have_tiles(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 4)
    path = estimates(store.home, 11)  # of v1 to v4, which is live
    shutil.copytree(store.home / "served/mnist", store.home / "served/other")
    ledger = store.home / "served/other/ledger.jsonl"
    ledger.write_text(
        ledger.read_text().replace('"mnist"', '"$x_$"').replace('"model": "m', '"model": "x')
    )
    mine = path.read_text()
    path.write_text(mine + mine.replace('"model": "m', '"model": "x').replace("0.96", "0.70"))
    chart, found = chart_of(store, "Estimated"), gather(store)
    assert "Newest: $x_$ 0.7089 [0.7009, 0.9769], 2026-01-16; mnist 0.9689 [0.9609," in chart.alt
    assert set(found.versions) == {f"{m} v{n}" for m in ("mnist", "$x_$") for n in range(1, 5)}
    assert ">$x_$ v4<" in re.sub(r"\s*([<>])\s*", r"\1", str(chart.svg))
    estimated = {name: text[:6] for name, text in tiles(store).items() if "Estimated, " in name}
    assert estimated == {"Estimated, $x_$ v4": "0.7089", "Estimated, mnist v4": "0.9689"}


def test_a_version_that_is_no_longer_live_has_no_tile(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 9)
    estimates(store.home, 23)  # of v1 to v8, which was rolled back
    tile = {name: text[:6] for name, text in tiles(store).items() if "Estimated, " in name}
    assert tile == {"Estimated, v7": "0.9680"}


def test_estimates_of_a_model_that_no_ledger_tells_are_named_by_its_digest(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 1)
    path = estimates(store.home, 2)
    path.write_text(path.read_text().replace('"m1"', f'"{"abc" * 9}"'))
    assert {made.model for made in gather(store).estimates} == {"abcabcab"}


def test_a_number_that_was_abandoned_is_no_version_and_taken_back_counts_once(
    tmp_path: Path,
) -> None:
    store = many_runs(tmp_path / "home", 9)
    with (store.home / LEDGER).open("a") as ledger:
        first = json.loads((store.home / LEDGER).read_text().splitlines()[0])
        at = {"at": "2026-01-20T03:00:00+00:00"}
        gone = {"event": "withdrawn", "version": 8, "digest": "d8", "reason": "worse"}
        for line in (first | {"version": 99}, {"event": "abandoned", "version": 99}, gone):
            ledger.write(json.dumps(line | at) + "\n")
    assert tiles(store)["Versions"] == "8 1 taken back"


def test_intervals_are_called_what_they_are(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 1)
    estimates(store.home, 3)
    page = write_overview(store)[0].read_text()
    assert "99 % band" in page and "95 %" not in page


def test_a_ledger_that_is_damaged_in_the_middle_is_left_out_whole(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 6)
    lines = (store.home / LEDGER).read_text().splitlines()
    lines[5] = lines[5][:20]
    (store.home / LEDGER).write_text("\n".join(lines) + "\n")
    found = gather(store)
    assert found.unreadable == [str(store.home / LEDGER)]
    assert {event.headline.title for event in found.events} == {"pushed"}
    assert list(found.versions) == ["v1", "v2", "v3", "v4", "v5", "v6"]


def test_versions_of_a_home_that_was_moved_are_listed_once(tmp_path: Path) -> None:
    home = many_runs(tmp_path / "home", 2).home.rename(tmp_path / "moved")
    for run in ("0001", "0002"):
        change(Store(home), run, lambda run: run.update(dataset="Mnist/all"))
    assert [event.headline.title for event in gather(Store(home)).events] == ["live"] * 2


def test_of_more_data_sets_than_can_be_told_apart_the_newest_are_drawn(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 6)
    for number in range(1, 7):
        change(store, f"{number:04d}", lambda run, n=number: run.update(dataset=f"set{n}"))
    chart = chart_of(store, "Accuracy")
    assert chart.title.endswith("by run (1 more below, in numbers)")
    assert "set6" in chart.alt and "set1" not in chart.alt
    assert "set1" in chart.table.columns


def _gate(run: Any, **fields: Any) -> None:
    next(s for s in run["steps"] if s["component"] == "example_validator").update(fields)


def _candidate(run: Any, **fields: Any) -> None:
    if "evaluation" in run:
        run["evaluation"]["models"]["candidate"].update(fields)


@pytest.mark.parametrize(
    "edit",
    [
        lambda run: _gate(run, facts={"worst_drift": "x"}),
        lambda run: _candidate(run, accuracy="high"),
        lambda run: run["pushed"].update(version="x"),
        lambda run: run["pushed"].update(base_path="a\0b"),
        lambda run: run.update(started=-62_000_000_000),
    ],
)
def test_an_odd_run_is_left_out_and_named(tmp_path: Path, edit: Callable[[Any], object]) -> None:
    store = many_runs(tmp_path / "home", 3)
    change(store, "0002", edit)
    found = write_overview(store)[1]
    assert [run.id for run in found.runs] == ["0001", "0003"]
    assert found.unreadable == ["run 0002"]


def test_an_interval_without_ends_leaves_the_value(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 3)
    change(store, "0002", lambda run: _candidate(run, accuracy_interval=[None, None]))
    found = write_overview(store)[1]
    assert found.runs[1].accuracy is not None and found.runs[1].accuracy.interval is None
    assert found.unreadable == []


def test_a_link_to_itself_among_served_folders_is_named(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 1)
    (store.home / "served/loop").symlink_to("loop")
    assert write_overview(store)[1].unreadable == [str(store.home / "served/loop")]
