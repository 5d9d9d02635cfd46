"""The live model's answers beside those of its evaluation, over files as a run leaves them."""

import json
from pathlib import Path

import numpy as np
import pytest

from bnpipe.components.label_validator.answer_drift import MOST
from bnpipe.data.errors import DataError
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule import answers
from bnpipe.pipeline.schedule.answers import LiveAnswers
from tests.components.label_validator.test_answer_drift import answers as drawn

REFERENCE = drawn(1000)
CANDIDATE = "probabilities/candidate"
DIGEST = "0" * 64


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveAnswers:
    """A version whose images are numbers: of rows of what it answers."""
    sample = drawn(10_000, seed=1)
    monkeypatch.setattr(answers, "probabilities", lambda path, rows, k: sample[rows[:, 0, 0]])
    monkeypatch.setattr(answers, "evaluation_behind", lambda *a: tmp_path)
    provenance = {"inputs": {"model": DIGEST}}
    monkeypatch.setattr(answers.versions, "provenance_of", lambda *a: provenance)
    labels = REFERENCE.argmax(axis=1)
    np.savez(tmp_path / "predictions.npz", label=labels, **{"probabilities/candidate": REFERENCE})
    return LiveAnswers(Store(tmp_path / "home"), tmp_path / "served", 1, REFERENCE.shape[1])


def rows(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(numbers).reshape(-1, 1, 1)


def test_of_many_images_some_are_asked_for_evenly_spread(
    live: LiveAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[np.ndarray] = []
    original = answers.probabilities

    def probabilities(path: Path, images: np.ndarray, classes: int) -> np.ndarray:
        asked.append(images[:, 0, 0])
        return original(path, images, classes)

    monkeypatch.setattr(answers, "probabilities", probabilities)
    look = live.look(rows(np.arange(10_000)))
    assert look is not None and look.images == MOST == len(asked[0])
    assert set(np.diff(asked[0])) <= {4, 5, 6}
    assert (asked[0][0], asked[0][-1]) == (0, 9999)


def test_with_few_images_drift_is_looked_for_and_nothing_estimated(live: LiveAnswers) -> None:
    look = live.look(rows(np.arange(99)))
    assert look is not None and look.estimate is None and not look.drift.drifted
    assert look.sentence == "has answered only 99 logged requests"
    enough = live.look(rows(np.arange(100)))
    assert enough is not None and enough.estimate is not None
    assert enough.sentence.endswith("on 100 logged requests, no drift")


@pytest.mark.parametrize(
    ("served_calibrated", "scaled"), [(False, True), (True, False), (None, False)]
)
def test_what_is_served_calibrated_is_not_scaled_again(
    live: LiveAnswers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    served_calibrated: bool | None,
    scaled: bool,
) -> None:
    if served_calibrated is not None:  # None: the card was collected
        folder = Store(tmp_path / "home").object_path(DIGEST)
        folder.mkdir(parents=True)
        card = {"params": {"calibrated": served_calibrated}, "metrics": {"temperature": 3.0}}
        (folder / "model_card.json").write_text(json.dumps(card))
    used: list[float] = []
    original = answers.estimate_accuracy
    monkeypatch.setattr(
        answers, "estimate_accuracy", lambda *a: (used.append(a[3]), original(*a))[1]
    )
    live.look(rows(np.arange(200)))
    assert used == [3.0 if scaled else 1.0]


def test_without_the_answers_of_the_evaluation_nothing_is_said(
    live: LiveAnswers, tmp_path: Path
) -> None:
    (tmp_path / "predictions.npz").unlink()
    assert live.look(rows(np.arange(200))) is None


DAMAGES: dict[str, dict[str, np.ndarray]] = {
    "of another kind": {"label": np.zeros(3)},
    "no rows": {"label": np.zeros(0), CANDIDATE: REFERENCE[:0]},
    "one axis": {"label": np.zeros(1000), CANDIDATE: REFERENCE[:, 0]},
    "one class more": {"label": np.zeros(1000), CANDIDATE: np.pad(REFERENCE, ((0, 0), (0, 1)))},
    "fewer labels": {"label": np.zeros(999), CANDIDATE: REFERENCE},
    "no numbers": {"label": np.zeros(1000), CANDIDATE: REFERENCE * np.nan},
}


@pytest.mark.parametrize("damage", ["empty", "cut", *DAMAGES])
def test_answers_of_the_evaluation_that_cannot_be_used_are_named(
    live: LiveAnswers, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "predictions.npz"
    if damage in DAMAGES:
        np.savez(path, **DAMAGES[damage])
    else:
        path.write_bytes(path.read_bytes()[: 500 * (damage == "cut")])
    with pytest.raises(DataError, match=r"predictions\.npz cannot be read: ") as raised:
        live.look(rows(np.arange(200)))
    assert "\n" not in str(raised.value)


def test_a_model_that_answers_with_no_number_has_drifted(
    live: LiveAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = drawn(200)
    sample[3, 1] = np.nan
    monkeypatch.setattr(answers, "probabilities", lambda *a: sample)
    look = live.look(rows(np.arange(200)))
    assert look is not None and look.drift.drifted and look.estimate is None
    assert look.drift.sentence == "v1 answers 1 of 200 images with no number"


@pytest.mark.parametrize(
    "card",
    [
        '{"params": null, "metrics": {"temperature": 3}}',
        '{"params": {}, "metrics": []}',
        '{"params": {}, "metrics": {"temperature": NaN, "temperature_error": NaN}}',
        '{"params": {}, "metrics": {"temperature": -1, "temperature_error": -1}}',
        "[]",
    ],
)
def test_a_damaged_card_is_like_none(live: LiveAnswers, tmp_path: Path, card: str) -> None:
    expected = live.look(rows(np.arange(200)))
    folder = Store(tmp_path / "home").object_path(DIGEST)
    folder.mkdir(parents=True)
    (folder / "model_card.json").write_text(card)
    again = LiveAnswers(Store(tmp_path / "home"), tmp_path / "served", 1, REFERENCE.shape[1])
    assert again.look(rows(np.arange(200))) == expected


def test_how_uncertain_the_temperature_is_widens_the_interval(
    live: LiveAnswers, tmp_path: Path
) -> None:
    known = live.look(rows(np.arange(200)))
    folder = Store(tmp_path / "home").object_path(DIGEST)
    folder.mkdir(parents=True)
    metrics = {"temperature": 1.0, "temperature_error": 0.3}
    (folder / "model_card.json").write_text(json.dumps({"params": {}, "metrics": metrics}))
    again = LiveAnswers(Store(tmp_path / "home"), tmp_path / "served", 1, REFERENCE.shape[1])
    less = again.look(rows(np.arange(200)))
    assert known is not None and known.estimate is not None
    assert less is not None and less.estimate is not None
    assert less.estimate.accuracy == known.estimate.accuracy
    width = less.estimate.high - less.estimate.low
    assert width > known.estimate.high - known.estimate.low
