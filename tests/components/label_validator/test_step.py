"""The step on small data: who answers, what is found, what is written."""

import dataclasses

import numpy as np
import pytest

from bnpipe.components import cross_validation
from bnpipe.components.artifacts import ArtifactError, LabelQuality, ServedModel, Statistics
from bnpipe.components.label_validator import COMPONENT, Inputs, Params
from bnpipe.components.label_validator.params import Checks
from bnpipe.data.sources.digit_renderer import draw_chunk
from tests.components.label_validator import label_data

SPLITS = {"train": (0, 1600), "validation": (1600, 1800), "test": (1800, 2000)}


@pytest.fixture(scope="module")
def digits():
    drawn = [draw_chunk(5, "train", chunk) for chunk in range(3)]
    images, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return images, labels


@pytest.fixture(scope="session")
def judged(run_component):
    """Runs both steps; the answers for the same examples are made once."""
    answered = {}

    def run(inputs, params, folder):
        path = inputs.examples.path
        if path not in answered:
            given = cross_validation.Inputs(examples=inputs.examples)
            made = run_component(
                cross_validation.COMPONENT, given, cross_validation.Params(), folder / "answered"
            )
            answered[path] = made.outputs.answers
        inputs = dataclasses.replace(inputs, answers=answered[path])
        return run_component(COMPONENT, inputs, params, folder / "judged")

    return run


@pytest.fixture(scope="module")
def spoiled(digits, judged, tmp_path_factory):
    """2 % of train and test flipped, a sound span, and one with permuted labels."""
    images, labels = digits
    folder = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(1)
    splits = {name: (images[a:b], labels[a:b]) for name, (a, b) in SPLITS.items()}
    planted = set()
    for split in ("train", "test"):
        given = splits[split][1]
        bad = label_data.flipped(given, 0.02, rng)
        planted |= {f"{split}/0/{row:06}".encode() for row in np.flatnonzero(bad != given)}
        splits[split] = splits[split][0], bad
    sound, bad = images[2000:2300], images[2300:2600]
    spans = {
        "sound": {"train": (sound, labels[2000:2300])},
        "permuted": {"train": (bad, label_data.permuted(labels[2300:2600], 1.0, rng))},
    }
    examples = label_data.write(folder / "examples", splits, spans)
    return judged(Inputs(examples=examples), Params(), folder), planted


@pytest.fixture(scope="module")
def suspects(spoiled):
    with np.load(spoiled[0].outputs.quality.path / "suspects.npz") as stored:
        return dict(stored)


def test_a_span_with_permuted_labels_is_refused_and_a_sound_one_is_not(spoiled):
    ran, _ = spoiled
    quality = ran.outputs.quality
    assert COMPONENT.gate
    assert not quality.verdict().passed
    assert "in train/span-permuted are wrong" in quality.verdict().sentence
    parts = quality.read_json("verdict.json")["parts"]
    assert parts["train/span-permuted"]["wrong_share"] > 0.5
    assert parts["train/span-sound"]["wrong_share"] < 0.1
    low, high = parts["train/base"]["interval"]
    assert low < parts["train/base"]["wrong_share"] < high
    assert {"test/base", "validation/base"} <= set(parts)


def test_planted_labels_are_among_the_suspects_with_what_they_were(spoiled, suspects):
    _, planted = spoiled
    sure = suspects["train/id"][suspects["train/confident"]].tolist()
    own = {name for name in planted if name.startswith(b"train/0")}
    assert len(own & set(sure)) >= 0.6 * len(own)
    scores = suspects["train/score"]
    assert (np.diff(scores) >= 0).all() and scores.max() < 0.5
    assert (suspects["train/suggested"] != suspects["train/label"]).all()


def test_the_first_suspects_have_their_pixels(suspects, digits):
    images, _ = digits
    first = suspects["test/id"][0].decode()
    row = SPLITS["test"][0] + int(first.rpartition("/")[2])
    np.testing.assert_array_equal(suspects["test/image"][0], images[row])
    assert len(suspects["train/image"]) == Params().pictures


def test_switched_off_nothing_is_trained_and_nothing_found(digits, run_component, tmp_path):
    images, labels = digits
    splits = {name: (images[a:b], labels[a:b]) for name, (a, b) in SPLITS.items()}
    examples = label_data.write(tmp_path / "examples", splits)
    off = Params(checks=Checks(own_labels="off", part_labels="off"))
    ran = run_component(COMPONENT, Inputs(examples=examples), off, tmp_path / "run")
    assert ran.outputs.quality.verdict().passed
    assert ran.facts["suspects"] == 0
    ran.outputs.quality.check()


def test_too_few_images_are_not_judged(digits, judged, tmp_path):
    images, labels = digits
    examples = label_data.write(tmp_path / "examples", {"train": (images[:60], labels[:60])})
    ran = judged(Inputs(examples=examples), Params(), tmp_path)
    assert ran.facts["verdict"] == "labels not checked: too few images to train a network on"


def test_a_folder_without_suspects_is_no_label_quality(tmp_path):
    (tmp_path / "verdict.json").write_text('{"passed": true, "sentence": "fine"}')
    with pytest.raises(ArtifactError, match=r"suspects\.npz"):
        LabelQuality("label_validator.quality", tmp_path).check()


@pytest.fixture(scope="module")
def with_champion(digits, tmp_path_factory):
    """What the step is given: two spans, of which the champion, a linear model, knows the first."""
    from bnpipe.data.statistics.summary import SplitSummary
    from bnpipe.serving.export.classifier import export
    from bnpipe.serving.export.folding import Dense

    images, labels = digits
    folder = tmp_path_factory.mktemp("champion")
    splits = {name: (images[a:b], labels[a:b]) for name, (a, b) in SPLITS.items()}
    new = images[2200:2500], labels[2200:2500]
    wrong = new[0], label_data.permuted(new[1], 0.3, np.random.default_rng(0))
    given = {}
    for name, train in (("sound", new), ("permuted", wrong)):
        known = {"train": (images[2000:2200], labels[2000:2200])}
        spans = {"known": known, "new": {"train": train, "test": (images[2500:], labels[2500:])}}
        given[name] = label_data.write(folder / name, splits, spans)
    statistics = folder / "statistics" / "Split-train"
    for source in ("base", "span-known"):
        (statistics / source).mkdir(parents=True)
        SplitSummary(28, 28, 10).write(statistics / source)
    x = images[:1600].reshape(1600, -1) / 255.0
    kernel = np.linalg.solve(x.T @ x + 10 * np.eye(784), x.T @ np.eye(10)[labels[:1600]]) * 8
    without_nines = np.where(np.arange(10) == 9, -1.0, kernel)
    for number, weights in ((3, kernel), (4, kernel[::-1, ::-1]), (5, without_nines)):
        dense = Dense("logits", weights.astype(np.float32), np.zeros(10, np.float32))
        export(folder / str(number), [dense], label_data.info({}))

    def inputs(data: str, version: int) -> Inputs:
        return Inputs(
            examples=given[data],
            champion=ServedModel("champion", folder / str(version)),
            champion_statistics=Statistics("champion_data", folder / "statistics"),
        )

    return inputs


@pytest.mark.parametrize(("data", "version"), [("permuted", 3), ("sound", 4)])
def test_the_champion_has_a_say_for_a_span_that_it_was_not_trained_on(
    data, version, with_champion, judged, tmp_path
):
    """Version 4 knows nothing, as one that the images have drifted away from: it accuses nobody."""
    ran = judged(with_champion(data, version), Params(), tmp_path)
    assert ran.facts["images_answered_by_champion"] == 300  # not the test images
    quality = ran.outputs.quality
    parts = quality.read_json("verdict.json")["parts"]
    assert parts["train/span-known"]["wrong_share"] < 0.1
    assert quality.verdict().passed is (data == "sound")
    assert ("train/span-new are wrong" in quality.verdict().sentence) is (data == "permuted")


def test_rare_classes_accuse_no_labels_that_are_right(with_champion, judged, digits, tmp_path):
    """Few nines to learn, none in validation, and a new span that has many."""
    images, labels = digits
    nines, others = np.flatnonzero(labels == 9), np.flatnonzero(labels != 9)
    rows = {
        "train": np.concatenate([nines[:12], others[:1500]]),
        "validation": others[1500:1700],
        "test": np.concatenate([nines[12:14], others[1700:1900]]),
    }
    splits = {name: (images[of], labels[of]) for name, of in rows.items()}
    new = np.random.default_rng(0).permutation(np.concatenate([nines[14:114], others[1900:2100]]))
    spans = {"new": {"train": (images[new], labels[new])}}
    examples = label_data.write(tmp_path / "examples", splits, spans)
    given = dataclasses.replace(with_champion("sound", 5), examples=examples)
    quality = judged(given, Params(), tmp_path).outputs.quality
    assert quality.verdict().passed, quality.verdict().sentence


def test_a_new_span_that_the_champion_answers_otherwise_is_warned_of(
    with_champion, judged, digits, tmp_path
):
    images, labels = digits
    given = with_champion("sound", 3)
    splits = {name: (images[a:b], labels[a:b]) for name, (a, b) in SPLITS.items()}
    spans = {"new": {"train": (255 - images[2200:2500], labels[2200:2500])}}
    inverted = label_data.write(tmp_path / "examples", splits, spans)
    outcomes = []
    for name, inputs in (("sound", given), ("odd", dataclasses.replace(given, examples=inverted))):
        ran = judged(inputs, Params(), tmp_path / name)
        checks = ran.outputs.quality.read_json("verdict.json")["checks"]
        drift = next(check for check in checks if check["name"] == "answer_drift")
        assert "in span-new" in drift["sentence"]
        outcomes.append(drift["outcome"])
    assert outcomes == ["ok", "warn"]


def test_without_the_champions_statistics_it_is_not_asked(with_champion, tmp_path):
    from bnpipe.components.label_validator import work
    from bnpipe.components.network.rows import Rows

    given = with_champion("sound", 3)
    rows = Rows.read(given.examples, label_data.info({}), tmp_path / "pixels")
    for missing in ("champion", "champion_statistics"):
        inputs = dataclasses.replace(given, **{missing: None})
        new, beside, drifts = work._asked(inputs, rows, None, None, None)
        assert not new.any() and beside is None and not drifts
