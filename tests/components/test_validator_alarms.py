"""The gate's two numbers: how often it cries wolf, and what it sees of real damage."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.example_validator.gate import DRIFT_CHECKS, decide
from data.dataset_info import DatasetInfo
from data.record_ids import content_hashes, in_validation
from data.statistics import SplitSummary
from tests.components.validator_data import (
    SPOILED,
    digits,
    evidence,
    image_steps,
    records,
    resampled,
    summary,
)

RESAMPLES = 1000
MNIST = DatasetInfo("mnist", "3.0.1", 28, 28, tuple(map(str, range(10))), {}, False)


@pytest.mark.parametrize(("size", "champion_size"), [(400, 400), (3000, 3000)])
def test_the_gate_cries_wolf_at_most_once_in_a_hundred(size: int, champion_size: int) -> None:
    images, labels = digits(4000)
    steps = image_steps(images)
    base = records(images[:400], labels[:400])
    # What a resample does not change is counted once, not a thousand times.
    unchanged = dict.fromkeys(
        ("count", "range", "constant_images", "duplicates", "label_conflicts", "leak"), "off"
    )
    seen = evidence(dict.fromkeys(("train", "validation", "test"), base), **unchanged)
    train, rng = seen.splits["train"], np.random.default_rng(0)

    def draw(count: int) -> SplitSummary:
        return resampled(train, steps, labels, rng.integers(0, len(labels), count))

    drifted = blocked = 0
    for _ in range(RESAMPLES):
        splits = {"train": draw(size), "validation": draw(50), "test": draw(100)}
        decision = decide(replace(seen, splits=splits, champion=draw(champion_size)))
        levels = {check.name: check.level for check in decision.checks}
        drifted += any(levels[name] != "ok" for name in DRIFT_CHECKS)
        blocked += not decision.passed
    assert drifted <= 0.01 * RESAMPLES
    assert blocked <= 0.01 * RESAMPLES


@pytest.mark.parametrize("size", [500, 2000])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_damage_to_every_image_blocks_against_the_champion(spoiled: str, size: int) -> None:
    images, labels = digits(2 * size)
    now, before = slice(0, size), slice(size, 2 * size)
    train = records(SPOILED[spoiled](images[now]), labels[now])
    champion = summary(records(images[before], labels[before]))
    split = {"train": train, "validation": train, "test": train}
    decision = decide(evidence(split, champion=champion, leak="off"))
    (drift,) = [c for c in decision.checks if c.name == "image_drift"]
    assert drift.level == "block"


def test_undamaged_images_do_not_block_against_the_champion() -> None:
    images, labels = digits(4000)
    train = records(images[:2000], labels[:2000])
    champion = summary(records(images[2000:], labels[2000:]))
    decision = decide(evidence(dict.fromkeys(("train", "validation", "test"), train),
                               champion=champion, leak="off"))  # fmt: skip
    assert decision.passed
    assert all(c.level == "ok" for c in decision.checks if c.name in DRIFT_CHECKS)


def read_idx(path: Path) -> np.ndarray:
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@pytest.fixture(scope="module")
def mnist(mnist_archives: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    train, test = (
        tuple(
            read_idx(mnist_archives / f"{part}-{kind}-ubyte.gz")
            for kind in ("images-idx3", "labels-idx1")
        )
        for part in ("train", "t10k")
    )
    held_out = in_validation(content_hashes(train[0]), 1 / 12)
    return {
        "train": (train[0][~held_out], train[1][~held_out].astype(np.int64)),
        "validation": (train[0][held_out], train[1][held_out].astype(np.int64)),
        "test": (test[0], test[1].astype(np.int64)),
    }


def test_mnist_passes_and_has_neither_duplicates_nor_leaks(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    splits = {name: records(*data) for name, data in mnist.items()}
    decision = decide(evidence(splits, champion=summary(splits["train"]), info=MNIST))
    assert decision.sentence == "data passed: 70,000 images of mnist, 15 checks"
    assert {c.level for c in decision.checks} == {"ok"}
    found = {c.name: c.value for c in decision.checks}
    assert found["duplicates"] == found["leak"] == found["label_conflicts"] == 0
    assert found["constant_images"] == 0


@pytest.mark.parametrize("spoiled", [name for name in SPOILED if name != "rotated"])
def test_damaged_mnist_is_blocked_without_a_champion(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]], spoiled: str
) -> None:
    splits = {
        name: records(SPOILED[spoiled](images[:1000]), labels[:1000])
        for name, (images, labels) in mnist.items()
    }
    decision = decide(evidence(splits, info=MNIST))
    (found,) = [c for c in decision.checks if c.name == "range"]
    assert found.level == "block"


def test_other_digits_called_mnist_are_blocked(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    splits = {name: records(*digits(len(data[1][:1000]))) for name, data in mnist.items()}
    decision = decide(evidence(splits, info=MNIST, leak="off"))
    (found,) = [c for c in decision.checks if c.name == "range"]
    assert found.level == "block"
