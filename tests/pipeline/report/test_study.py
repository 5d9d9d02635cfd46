"""The page of a study: its verdicts come first, it is one file, and it is the same bytes twice."""

import re
from pathlib import Path

import pytest

from bnpipe.components.study.claims import LEVELS, claims_of
from bnpipe.components.study.results import Training
from bnpipe.components.study.verdicts import judge
from bnpipe.components.study.verdicts import text as verdict_text
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.engine.errors import ConfigError, StoreError
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.launch import Request
from bnpipe.pipeline.report.study import Judged, judged, render, write_study
from tests.components.study import synthetic_step
from tests.components.study.synthetic import DEPTHS, Synthetic
from tests.pipeline.report.test_page import Page
from tests.pipeline.toy_home import ToyHome


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Judged]:
    home = tmp_path_factory.mktemp("study")
    run = synthetic_step.launch(Config(), home, Request()).folder
    return Store(home), judged(Store(home), run)


@pytest.fixture(scope="module")
def text(study: tuple[Store, Judged]) -> str:
    return write_study(study[1]).read_text()


def test_every_verdict_stands_there_with_its_sentence(
    study: tuple[Store, Judged], text: str
) -> None:
    page = Page(text)
    for finding in study[1].findings:
        claim = finding.claim
        assert f"{finding.verdict} · {claim.letter}: {claim.title}" in page.text("h3")
        assert finding.sentence in page.text("p")
        for name, pair, _ in finding.rows():
            assert name in page.text("th")
            assert verdict_text(pair) in page.text("td")


def test_all_that_was_asked_for_is_drawn(text: str) -> None:
    drawn = " ".join(Page(text).texts["figcaption"])
    for what in (
        "Validation error",
        f"reached {LEVELS[-1]:.0%}",
        "Accuracy over learning rate, adam",
        "Accuracy over learning rate, sgd",
        f"gradient at the start, {DEPTHS[-1]} hidden layers",
        "Covariate shift",
        "images per batch at inference",
    ):
        assert what in drawn


def test_it_says_what_was_chosen_before_looking_and_what_limits_it(text: str) -> None:
    page = Page(text)
    assert "95% and 97%" in page.text("dd")
    assert "0.1 points" in page.text("dd")
    assert "Another data set changes" in page.text("li")
    assert "label of 15 of MNIST's test images" in page.text("li")


def test_it_needs_nothing_from_elsewhere(text: str) -> None:
    page = Page(text)
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    loaded = [found.get(a) for _, found in page.elements for a in ("src", "href", "xlink:href")]
    assert all(url.startswith(("data:", "#")) for url in loaded if url is not None)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_study_is_the_same_page_twice(study: tuple[Store, Judged], text: str) -> None:
    again = study[1]
    assert render(again.trainings, again.findings, again.dataset) == text


def test_seconds_of_the_step_are_in_the_details(study: tuple[Store, Judged]) -> None:
    assert "processor seconds to 97%, own rates" in {
        name for name, *_ in study[1].findings[0].rows()
    }


def test_parts_of_a_study_that_were_not_trained_are_not_drawn() -> None:
    only: list[Training] = [t for t in Synthetic().study() if t.experiment == "main"]
    page = Page(render(only, judge(claims_of(only)), "<b>nasty</b>"))
    assert "over learning rate" not in page.text("figcaption")
    assert "f: a layer that normalises by the batch at inference" in page.text("h3")
    assert "<b>nasty</b>" in page.text("h1")


def test_a_run_without_a_study_and_a_damaged_one_are_said(
    study: tuple[Store, Judged], tmp_path: Path
) -> None:
    toy = ToyHome(tmp_path)
    with pytest.raises(ConfigError, match="made no study"):
        judged(toy.store, toy.run().folder)
    with pytest.raises(ConfigError, match="cannot write"):
        write_study(study[1], tmp_path)
    home = tmp_path / "damaged"
    run = synthetic_step.launch(Config(), home, Request()).folder
    (file,) = home.rglob("trainings.jsonl")
    file.unlink()
    with pytest.raises(StoreError):
        judged(Store(home), run)
