"""The data gate where spans were added: every part is judged by itself."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnpipe.components.base import Decision, Ruling
from bnpipe.components.example_validator.gate import decide
from tests.components.example_validator.validator_data import (
    INFO,
    SPOILED,
    Columns,
    digits,
    healthy,
    profile,
    records,
    spans_of,
    summary,
)

Spans = dict[str, dict[str, Columns]]


def check(decision: Decision, name: str) -> Ruling:
    (found,) = [c for c in decision.rulings if c.name == name]
    return found


@pytest.fixture(scope="module")
def base() -> Mapping[str, Columns]:
    """A data set whose spans are small beside it."""
    images, labels = digits(7000)
    edges = {"train": (0, 5500), "validation": (5500, 6000), "test": (6000, 7000)}
    return {name: records(images[a:b], labels[a:b]) for name, (a, b) in edges.items()}


@pytest.fixture
def spans() -> Spans:
    return spans_of(300, 300, 250)


def test_healthy_spans_pass_without_a_warning(base: Any, spans: Spans) -> None:
    decision = decide(profile(base, spans=spans, champion=summary(base["train"])))
    assert decision.sentence == "data passed: 7,850 images of rendered_digits, 17 checks"
    assert {c.outcome for c in decision.rulings} == {"ok"}


@pytest.mark.parametrize("spoiled", [name for name in SPOILED if name != "mirrored"])
def test_a_bad_span_in_a_large_train_split_blocks_and_is_named(
    base: Any, spans: Spans, spoiled: str
) -> None:
    train = spans["2"]["train"]  # 240 of 6,180 images
    train["image"] = SPOILED[spoiled](train["image"].reshape(-1, 28, 28)).reshape(
        len(train["label"]), -1
    )
    decision = decide(profile(base, spans=spans, champion=summary(base["train"])))
    assert not decision.passed
    found = check(decision, "image_drift")
    assert found.outcome == "block"
    assert "train/span-2" in found.sentence


def test_labels_of_one_span_that_are_wrong_block(base: Any, spans: Spans) -> None:
    spans["3"]["train"]["label"][:] = 3
    decision = decide(profile(base, spans=spans))
    assert check(decision, "label_drift").outcome == "block"
    assert "label 3 makes up 100.0% of train/span-3" in check(decision, "label_drift").sentence
    assert "of train/base" in check(decision, "label_drift").sentence


def test_a_span_that_is_delivered_twice_blocks(base: Any, spans: Spans) -> None:
    spans["3"] = spans["2"]
    found = check(decide(profile(base, spans=spans)), "duplicates")
    assert found.outcome == "block"
    assert found.sentence.startswith("240 of 240 images in train/span-3 repeat another one")


def test_one_test_image_in_a_new_span_blocks(base: Any, spans: Spans) -> None:
    for column in ("image", "label"):
        spans["1"]["train"][column][7] = base["test"][column][0]
    decision = decide(profile(base, spans=spans))
    assert decision.sentence == (
        "data blocked: 1 of 1,000 images in test/base also occur in train/span-1, tolerated are 0"
    )


def test_a_record_of_one_span_that_is_no_record_is_named(base: Any, spans: Spans) -> None:
    spans["1"]["test"]["label"][0] = 10
    found = check(decide(profile(base, spans=spans)), "labels")
    assert found.sentence.startswith("1 labels in test/span-1 are out of range")


def with_published_leaks(leaks: int) -> Callable[..., Any]:
    splits = healthy()
    for column in ("image", "label"):
        splits["test"][column][:leaks] = splits["train"][column][:leaks]
    return profile(splits, info=replace(INFO, name="fashion_mnist"))


@pytest.mark.parametrize(("leaks", "level"), [(10, "warn"), (11, "block")])
def test_what_a_data_set_is_published_with_is_warned_of(leaks: int, level: str) -> None:
    found = check(decide(with_published_leaks(leaks)), "leak")
    assert found.outcome == level
    assert found.sentence.startswith(f"{leaks} of 100 images in test also occur")


@pytest.mark.parametrize("sizes", [(200,), (200, 150), (10, 4), (40, 150, 700)])
def test_spans_of_about_the_same_size_are_fine(sizes: tuple[int, ...]) -> None:
    assert check(decide(profile(healthy(), spans=spans_of(*sizes))), "count").outcome == "ok"


def test_a_smaller_span_is_warned_of_before_it_blocks() -> None:
    found = check(decide(profile(healthy(), spans=spans_of(500, 200))), "count")
    assert found.outcome == "warn"
    assert found.sentence.startswith("span 2 has 200 examples, span 1 before it has 500")


def test_a_bound_of_the_config_counts() -> None:
    seen = profile(healthy(), spans=spans_of(300, 60), min_span_ratio=0.5)
    assert check(decide(seen), "count").outcome == "block"


def test_an_inverted_test_split_of_any_data_set_blocks_on_its_first_run() -> None:
    splits = healthy()
    splits["test"]["image"] = 255 - splits["test"]["image"]
    found = check(decide(profile(splits)), "image_drift")
    assert found.outcome == "block"
    assert "in test" in found.sentence
    assert "in train" in found.sentence


def test_parts_are_told_in_the_order_of_their_sources(base: Any, spans: Spans) -> None:
    names = [part.name for part in profile(base, spans=spans).parts]
    assert names[:4] == ["train/base", "train/span-1", "train/span-2", "train/span-3"]
    assert names[4] == "validation"
    assert np.sum([p.summary.records for p in profile(base, spans=spans).parts]) == 7850
