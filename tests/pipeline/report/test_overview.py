"""The page over all runs: what it shows, what it leaves out and says so, the same bytes twice."""

import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report.overview import gather, write_overview
from bnpipe.pipeline.report.overview_charts import charts
from tests.pipeline.report.finished_run import NASTY, Home
from tests.pipeline.report.many_runs import FIRST, estimates, many_runs
from tests.pipeline.report.test_page import Page

RUNS = 14


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """Fourteen runs: 7 and 14 were refused, 11 failed, of 13 the data was; v8 was rolled back."""
    store = many_runs(tmp_path_factory.mktemp("overview") / "home", RUNS)
    estimates(store.home, RUNS)
    return store, write_overview(store)[0]


@pytest.fixture(scope="module")
def page(drawn: tuple[Store, Path]) -> Page:
    return Page(drawn[1].read_text())


def test_it_stands_in_the_home_and_leads_to_the_pages_of_runs(
    drawn: tuple[Store, Path], page: Page
) -> None:
    store, path = drawn
    assert path == store.home / "overview.html"
    links = [a["href"] for a in page.all("a") if not str(a["href"]).startswith("#")]
    assert links == [f"runs/{number:04d}/report.html" for number in range(RUNS, 0, -1)]
    assert all((path.parent / str(link)).exists() for link in links)


def test_what_was_pushed_refused_and_rolled_back_is_listed_with_the_reason(page: Page) -> None:
    text = page.text("table")
    for sentence in (
        "accuracy 0.1000 is below the floor 0.97",
        "no space left",
        "data blocked: of images by label, ink",
        "back to v7: complaints",
        "run 0001: blessed: accuracy of run 1",
    ):
        assert sentence in text
    outcomes = [s.strip() for s in page.texts["span"]]
    assert outcomes.count("✗ Not blessed") == 2
    assert outcomes.count("✗ Failed") == outcomes.count("✗ rolled back") == 1
    assert outcomes.count("✗ Stopped by example_validator") == 1
    assert outcomes.count("✓ live") == 10


def test_every_chart_has_its_numbers_and_says_what_it_shows(
    drawn: tuple[Store, Path], page: Page
) -> None:
    assert len(page.texts["figcaption"]) == 5
    labels = [str(svg["aria-label"]) for svg in page.all("svg")]
    assert "Crosses, 2: the run did not pass" in labels[0]
    assert labels[0].startswith("Accuracy on test images, by run. Newest: mnist 0.1000 [0.0970,")
    assert labels[2].startswith("Drift of the data, by run (1: the bound to block).")
    assert "Crosses, 1: the data gate said no" in labels[2]
    assert "Crosses, 1: requests that drifted" in labels[3]
    runs = {run.id: run for run in gather(drawn[0]).runs}
    assert str(runs["0001"].accuracy) in page.text("td")
    assert f"{runs['0001'].drift:.4f}" in page.text("td")
    assert f"{runs['0001'].steps['trainer']:.1f}" in page.text("td")
    named = [text for text in page.texts["text"] if text.strip() in {"v1", "v10"}]
    assert len(named) >= 5  # the oldest or the newest version stands above each chart


def test_nothing_is_loaded_from_elsewhere(drawn: tuple[Store, Path], page: Page) -> None:
    assert not page.all("script") and not page.all("img")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    ids = [str(a["id"]) for _, a in page.elements if a.get("id")]
    assert len(set(ids)) == len(ids)


def test_drawing_again_gives_the_same_bytes(drawn: tuple[Store, Path]) -> None:
    before = drawn[1].read_bytes()
    assert write_overview(drawn[0])[0].read_bytes() == before


def test_records_that_are_damaged_are_named_and_the_rest_is_drawn(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 4)
    shutil.rmtree(store.runs / "0002")
    (store.runs / "0002").mkdir()
    (store.runs / "0002" / "run.json").write_text('{"id": "0002", "sta')
    (store.runs / "0003" / "report.json").write_text("[]")  # its summary is left
    (store.runs / "0004" / "run.json").write_text("torn")  # its report is left
    (store.home / "served" / "mnist" / "ledger.jsonl").write_text('{"event": "published"}\n')
    path, found = write_overview(store)
    assert [run.id for run in found.runs] == ["0001", "0003", "0004"]
    assert found.runs[1].accuracy is None and found.runs[1].drift is not None
    ledger = store.home / "served" / "mnist" / "ledger.jsonl"
    assert found.unreadable == ["the report of run 0003", "run 0002", str(ledger)]
    assert f"Cannot be read, so not shown: the report of run 0003, run 0002, {ledger}." in Page(
        path.read_text()
    ).text("p")
    # Versions are then known by the runs that published them.
    assert list(found.versions) == ["v1", "v3", "v4"]


def test_runs_whose_objects_are_gone_are_drawn_as_before(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.finish("0001")
    path, found = write_overview(home.store)
    before = path.read_bytes()
    assert found.runs[0].accuracy is not None and found.runs[0].drift is None
    shutil.rmtree(home.store.object_path("ab").parents[1])
    assert write_overview(home.store)[0].read_bytes() == before


def test_runs_that_failed_or_were_killed_and_names_from_data_are_shown_as_text(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "home")
    home.fail("0001", error=NASTY[0])
    home.fail("0002", status="killed", error=None)
    page = Page(write_overview(home.store)[0].read_text())
    assert NASTY[0] in page.text("td")
    assert not page.all("script") and not page.all("svg")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [50, 160, 9_000, 250_000, 7_000_000])
def test_every_stretch_of_time_has_dates_below_it(tmp_path: Path, seconds: float) -> None:
    (chart, *_) = charts(gather(many_runs(tmp_path / "home", 2, timedelta(seconds=seconds))))
    dates = re.findall(r'id="overview-accuracy-xtick_', str(chart.svg))
    assert 3 <= len(dates) <= 9


def test_an_empty_home_is_one_clear_line(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    store.prepare()
    with pytest.raises(ConfigError, match="there is no run in") as caught:
        write_overview(store)
    assert caught.value.hint == "start one: bnpipe run"


def test_estimates_of_another_kind_are_counted_and_a_torn_last_line_is_passed_over(
    tmp_path: Path,
) -> None:
    store = many_runs(tmp_path / "home", 1)
    path = estimates(store.home, 3)
    lines = path.read_text().splitlines()
    naive = lines[0].replace("+00:00", "")
    no_number = lines[2].replace('"low": 0', '"low": NaN, "was": 0')
    ancient = lines[2].replace("2026", "0001")
    path.write_text("\n".join(["{}", "7", no_number, ancient, naive, lines[1], lines[2][:40]]))
    found = write_overview(store)[1]
    times = [estimate.at - FIRST for estimate in found.estimates]
    assert times == [timedelta(days=2)]
    assert found.unreadable == [f"5 of 6 lines of {path} cannot be read"]


def test_estimates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 1)
    (store.home / "schedule/estimates.jsonl").mkdir(parents=True)
    (named,) = gather(store).unreadable
    assert named.startswith(f"{store.home}/schedule/estimates.jsonl cannot be read")


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    store = many_runs(tmp_path / "home", 1)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write") as caught:
        write_overview(store, tmp_path / "file" / "page.html")
    assert "bnpipe report --all --out FILE" in caught.value.hint
