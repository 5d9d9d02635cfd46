"""What the data gate sees of real damage, to all images of a split and to a few of one span."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bnpipe.components.example_validator.gate import DRIFT_CHECKS, decide
from bnpipe.components.example_validator.params import Params
from bnpipe.components.example_validator.profile import Profile
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.record_ids import content_hashes, in_validation
from bnpipe.data.statistics.schema import schema_of
from bnpipe.data.statistics.summary import SplitSummary
from tests.components.example_validator.validator_data import (
    INFO,
    SPOILED,
    assembled,
    digits,
    profile,
    records,
    summary,
)

MNIST = DatasetInfo("mnist", "3.0.1", 28, 28, tuple(map(str, range(10))), {}, False)
SPANS = 5
"""How many spans are damaged, each with other images; all of them must be seen."""


@pytest.mark.parametrize("size", [500, 2000])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_damage_to_every_image_blocks_against_the_champion(spoiled: str, size: int) -> None:
    images, labels = digits(2 * size)
    now, before = slice(0, size), slice(size, 2 * size)
    train = records(SPOILED[spoiled](images[now]), labels[now])
    champion = summary(records(images[before], labels[before]))
    split = {"train": train, "validation": train, "test": train}
    decision = decide(profile(split, champion=champion, leak="off"))
    (drift,) = [c for c in decision.rulings if c.name == "image_drift"]
    assert drift.outcome == "block"


def test_undamaged_images_do_not_block_against_the_champion() -> None:
    images, labels = digits(4000)
    train = records(images[:2000], labels[:2000])
    champion = summary(records(images[2000:], labels[2000:]))
    decision = decide(profile(dict.fromkeys(("train", "validation", "test"), train),
                               champion=champion, leak="off"))  # fmt: skip
    assert decision.passed
    assert all(c.outcome == "ok" for c in decision.rulings if c.name in DRIFT_CHECKS)


def read_idx(path: Path) -> np.ndarray:
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_splits(archives: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST from its archives, split as example_gen does."""
    train, test = (
        tuple(
            read_idx(archives / f"{part}-{kind}-ubyte.gz")
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


@pytest.fixture(scope="module")
def mnist(mnist_archives: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return read_splits(mnist_archives)


def test_mnist_passes_and_has_neither_duplicates_nor_leaks(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    splits = {name: records(*data) for name, data in mnist.items()}
    decision = decide(profile(splits, champion=summary(splits["train"]), info=MNIST))
    assert decision.sentence == "data passed: 70,000 images of mnist, 17 checks"
    assert {c.outcome for c in decision.rulings} == {"ok"}
    found = {c.name: c.value for c in decision.rulings}
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
    decision = decide(profile(splits, info=MNIST))
    (found,) = [c for c in decision.rulings if c.name == "range"]
    assert found.outcome == "block"


def test_other_digits_called_mnist_are_blocked(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    splits = {name: records(*digits(len(data[1][:1000]))) for name, data in mnist.items()}
    decision = decide(profile(splits, info=MNIST, leak="off"))
    (found,) = [c for c in decision.rulings if c.name == "range"]
    assert found.outcome == "block"


class Source:
    """A data set with a champion, and images for spans that it has not seen."""

    def __init__(
        self, info: DatasetInfo, images: np.ndarray, labels: np.ndarray, sizes: tuple[int, int, int]
    ) -> None:
        cuts = np.cumsum(sizes)
        parts = np.split(np.arange(len(labels)), cuts)
        self.info, self.images, self.labels, self.rest = info, images, labels, parts[3]
        self.base: dict[str, SplitSummary] = {
            split: summary(records(images[rows], labels[rows]), info=info)
            for split, rows in zip(("train", "validation", "test"), parts[:3], strict=True)
        }
        self.rng = np.random.default_rng(0)

    def with_damaged_span(self, spoiled: str, share: float, size: int) -> Profile:
        """A span of which a share is damaged, added to train."""
        rows = self.rng.choice(self.rest, size, replace=False)
        images, damaged = self.images[rows].copy(), int(share * size)
        images[:damaged] = SPOILED[spoiled](images[:damaged])
        span = summary(records(images, self.labels[rows]), info=self.info)
        return assembled(
            self.base,
            {"1": {"train": span}},
            info=self.info,
            schema=schema_of(self.info, None)[0],
            champion=self.base["train"],
            params=Params(),
        )

    def with_labels(self, share: float, size: int) -> Profile:
        """A span of which the labels of a share are permuted, a twelfth of it for validation."""
        rows = self.rng.choice(self.rest, size, replace=False)
        images, labels, wrong = self.images[rows], self.labels[rows], int(share * size)
        labels[:wrong] = self.rng.permutation(labels[:wrong])
        order, cut = self.rng.permutation(size), size // 12
        parts = {"validation": order[:cut], "train": order[cut:]}
        span = {
            split: summary(records(images[of], labels[of]), info=self.info)
            for split, of in parts.items()
        }
        return assembled(
            self.base,
            {"1": span},
            info=self.info,
            schema=schema_of(self.info, None)[0],
            champion=self.base["train"],
            params=Params(),
        )


@pytest.fixture(scope="module")
def drawn() -> Source:
    return Source(INFO, *digits(12_000), (5500, 500, 1000))


# tests/benchmarks/bench_data_gate.py prints the whole table, and how often each is seen.
@pytest.mark.parametrize(
    ("spoiled", "share", "size", "blocks"),
    [
        ("inverted", 0.05, 1000, True),
        ("inverted", 0.1, 300, True),
        ("scaled twice", 0.1, 300, True),
        ("another data set", 0.05, 1000, True),
        ("another data set", 0.1, 300, True),
        ("noisy", 0.3, 1000, True),
        ("rotated", 0.3, 1000, True),
        ("rotated", 0.3, 300, False),
        ("shifted", 0.3, 300, False),
    ],
)
def test_damage_to_a_part_of_one_span_is_seen(
    drawn: Source, spoiled: str, share: float, size: int, blocks: bool
) -> None:
    for _ in range(SPANS):
        decision = decide(drawn.with_damaged_span(spoiled, share, size))
        found = [c for c in decision.rulings if c.outcome in ("warn", "block")]
        assert any("train/span-1" in check.sentence for check in found)
        assert not (blocks and decision.passed)


@pytest.mark.parametrize("spoiled", [name for name in SPOILED if name != "rotated"])
def test_damage_to_one_in_twenty_digits_of_a_small_span_of_mnist_blocks(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]], spoiled: str
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(mnist["train"][1]))[:25_000]
    images, labels = (column[rows] for column in mnist["train"])
    source = Source(MNIST, images, labels, (20_000, 1000, 2000))
    for _ in range(SPANS):
        assert not decide(source.with_damaged_span(spoiled, 0.05, 300)).passed


def test_permuted_labels_of_a_span_block_and_its_own_labels_do_not(drawn: Source) -> None:
    for share, blocked in ((1.0, True), (0.0, False)):
        for _ in range(20):
            decision = decide(drawn.with_labels(share, 300))
            assert decision.passed is not blocked
            sentence = decision.rulings[-1].sentence
            assert "of images by label, most of all label " in sentence
            assert "train/span-1" in sentence or not blocked


def test_permuted_labels_of_a_span_of_mnist_block_and_a_tenth_of_them_does_not(
    mnist: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    images, labels = (np.concatenate([mnist[s][i] for s in ("train", "test")]) for i in (0, 1))
    source = Source(MNIST, images, labels, (50_000, 2000, 5000))
    for share, blocked in ((1.0, True), (0.1, False), (0.0, False)):
        assert {decide(source.with_labels(share, 300)).passed for _ in range(20)} == {not blocked}
