"""The train and validation examples as the training loop takes them: from memory or from disk.

Both kinds hand out the same rows in the same order, so the trained weights do not depend on which
one is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import TransformedExamples
from bnpipe.components.network.params import TrainingError
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.examples import Column, read_batches

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

BLOCK_ROWS = 8192  # rows that are evaluated at a time
LEAST_HELD = 64_000
"""Rows. MNIST and most sets of its kind have fewer, so what is compiled for so many serves all."""


class Split(Protocol):
    """One split of the examples: N rows of D features in [0, 1], with labels in [0, K)."""

    @property
    def size(self) -> int:
        """Number of rows."""

    @property
    def labels(self) -> Integers:
        """The labels of all rows, int32[N]."""

    def rows(self, order: npt.NDArray[np.int64]) -> tuple[Floats, Integers]:
        """Features float32[n, D] and labels int32[n] of the rows int64[n], in the order given."""

    def blocks(self) -> Iterator[tuple[Floats, Integers]]:
        """All rows in order, some thousands at a time: float32[n, D] and int32[n]."""


def allocate(rows: int, features: int, memory_budget: int) -> Floats:
    """An array for the rows of a split and maybe more, float32[R, features], not filled.

    It has LEAST_HELD rows at least, as far as the budget of bytes allows: a program is compiled for
    R, so it can be ready before there are examples. On the CPU empty rows take no memory.
    """
    least = min(LEAST_HELD, memory_budget // (4 * features))
    return np.empty((max(rows, least), features), np.float32)


@dataclass(frozen=True)
class InMemory:
    """A split that is held in memory: features float32[N, D] in [0, 1], labels int32[N].

    Attributes:
        allocated: the array that `features` begins, float32[R, D], where there is one.
    """

    features: Floats
    labels: Integers
    allocated: Floats | None = None

    @property
    def held(self) -> Floats:
        """The features, and the empty rows behind them."""
        return self.features if self.allocated is None else self.allocated

    @classmethod
    def read(cls, split: str, shards: Sequence[Path], rows: int, held: Floats) -> InMemory:
        """Reads the shards of a split, which has `rows` rows, to the beginning of `held`.

        Raises:
            TrainingError: there are other than `rows` rows, one has another number of features, or
                one that is not finite.
        """
        labels, read = np.zeros(rows, np.int32), 0
        for columns in (c for shard in shards for c in _checked_batches(shard, held.shape[1])):
            start, read = read, read + len(columns["label"])
            if read <= rows:
                held[start:read], labels[start:read] = columns["features"], columns["label"]
        if read != rows:
            raise TrainingError(
                f"split {split}: expected {rows} examples as in dataset.json, received {read}",
                hint="run the transform step again: bnpipe run --force transform",
            )
        return cls(held[:rows], labels, held)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def rows(self, order: npt.NDArray[np.int64]) -> tuple[Floats, Integers]:
        """See `Split`."""
        return self.features[order], self.labels[order]

    def blocks(self) -> Iterator[tuple[Floats, Integers]]:
        """See `Split`."""
        for start in range(0, self.size, BLOCK_ROWS):
            yield self.features[start : start + BLOCK_ROWS], self.labels[start : start + BLOCK_ROWS]


@dataclass(frozen=True)
class OnDisk:
    """A split whose features lie in one file of float32 rows, so that any row can be fetched."""

    path: Path
    labels: Integers
    features: int

    @classmethod
    def write(
        cls, shards: list[Path], path: Path, features: int, limit: int | None = None
    ) -> OnDisk:
        """Copies the features of the shards into `path`, a batch of records at a time.

        At most `limit` rows, those that come first.

        Raises:
            TrainingError: a row has another number of features, or one that is not finite.
        """
        labels: list[Integers] = []
        with path.open("wb") as file:
            for shard in shards:
                for columns in _checked_batches(shard, features):
                    left = None if limit is None else limit - sum(len(part) for part in labels)
                    file.write(columns["features"][:left].tobytes())
                    labels.append(columns["label"][:left].astype(np.int32))
        return cls(path, np.concatenate(labels or [np.zeros(0, np.int32)]), features)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def rows(self, order: npt.NDArray[np.int64]) -> tuple[Floats, Integers]:
        """See `Split`."""
        features = np.empty((len(order), self.features), np.float32)
        # Not mapped into memory: the pages around every row would count as this process' memory.
        with self.path.open("rb", buffering=0) as file:
            for row, target in zip(order.tolist(), features, strict=True):
                file.seek(row * target.nbytes)
                file.readinto(target.data)
        return features, self.labels[order]

    def blocks(self) -> Iterator[tuple[Floats, Integers]]:
        """See `Split`."""
        with self.path.open("rb") as file:
            for start in range(0, self.size, BLOCK_ROWS):
                labels = self.labels[start : start + BLOCK_ROWS]
                features = np.fromfile(file, np.float32, len(labels) * self.features)
                yield features.reshape(-1, self.features), labels


def open_splits(
    examples: TransformedExamples,
    info: DatasetInfo,
    memory_budget: int,
    scratch: Path,
    limit: int | None = None,
) -> tuple[Split, Split]:
    """The train and the validation split, in memory if they fit.

    Args:
        examples: the artifact.
        info: its `dataset.json`.
        memory_budget: bytes of features that may be held in memory.
        scratch: folder for the features if they do not fit.
        limit: of those, the most rows of a split.

    Raises:
        TrainingError: the train split is empty, a label or a row does not fit `info`, or a feature
            is not finite.
        DataError: a file is damaged.
    """
    total = info.splits.get("train", 0) + info.splits.get("validation", 0)
    fits = total * info.features * 4 <= memory_budget

    def open_split(name: str, budget: int) -> Split:
        shards, rows = examples.shards(name), info.splits.get(name, 0)
        if not fits:
            return OnDisk.write(shards, scratch / f"{name}.float32", info.features, limit)
        return InMemory.read(name, shards, rows, allocate(rows, info.features, budget))

    train, validation = open_split("train", memory_budget), open_split("validation", 0)
    if not train.size:
        raise TrainingError("the train split is empty: expected at least one example")
    for name, split in (("train", train), ("validation", validation)):
        low, high = split.labels.min(initial=0), split.labels.max(initial=0)
        if low < 0 or high >= info.classes:
            raise TrainingError(
                f"split {name}: expected labels from 0 to {info.classes - 1}, received "
                f"{low if low < 0 else high}"
            )
    return train, validation


def epoch_order(seed: int, epoch: int, size: int) -> npt.NDArray[np.int64]:
    """The order of the examples in one epoch (from 0): int64[size], a permutation."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(size)


def feature_blocks(
    examples: TransformedExamples, splits: Sequence[str], info: DatasetInfo
) -> Iterator[Floats]:
    """The features of some splits, straight from their files.

    Yields:
        float32[n, D]; of small batches as many at once as are about BLOCK_ROWS rows, since asking
        a model costs milliseconds whatever the number.

    Raises:
        TrainingError: a row does not fit `info`, or a feature is not finite.
        DataError: a file is damaged.
    """
    parts: list[Floats] = []
    for split in splits:
        for shard in examples.shards(split):
            for columns in _checked_batches(shard, info.features):
                parts.append(columns["features"])
                if sum(map(len, parts)) >= BLOCK_ROWS:
                    yield np.concatenate(parts)
                    parts = []
    if parts:
        yield np.concatenate(parts)


def _checked_batches(shard: Path, features: int) -> Iterator[dict[str, Column]]:
    """The columns of a file, a batch of records at a time, with features that `_check` takes."""
    first_row = 0
    for batch in read_batches(shard):
        block = batch.columns["features"]
        _check(block, features, f"{shard.parent.name}/{shard.name}", first_row)
        first_row += len(block)
        yield batch.columns


def _check(features: Floats, expected: int, where: str, first_row: int) -> None:
    """Makes sure that there are as many features to a row as expected, and all are finite.

    A relu turns NaN into 0, so without a normalisation the loss may stay finite and say nothing.
    """
    if features.shape[1] != expected:
        raise TrainingError(f"{where}: expected {expected} features, received {features.shape[1]}")
    for start in range(0, len(features), BLOCK_ROWS):
        block = features[start : start + BLOCK_ROWS]
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            row, column = bad[0]
            raise TrainingError(
                f"{where}: expected finite features, received {block[row, column]} in row "
                f"{first_row + start + row}, feature {column}",
                hint="run the transform step again on examples without such values",
            )
