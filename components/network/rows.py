"""All images of all splits with their labels; pixels and ids stay on disk: memory hardly grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import SPLITS, Examples
from bnpipe.components.network.examples import BLOCK_ROWS
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import read_batches

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rows:
    """N images, in the order of splits and shards.

    Attributes:
        path: their pixels, one image after another; their ids lie beside it.
        info: the data set.
        labels: int64[N].
        spans: the span that each came with, 0 for the data set's own, int64[N].
        splits: the place of each one's split in `SPLITS`, int8[N].
        id_lengths: of the record ids, uint16[N].
    """

    path: Path
    info: DatasetInfo
    labels: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int8]
    id_lengths: npt.NDArray[np.uint16]

    @classmethod
    def read(cls, examples: Examples, info: DatasetInfo, path: Path) -> Rows:
        """Reads a whole artifact once.

        Raises:
            DataError: a file is damaged or missing, or holds other records.
        """
        kinds = {"label": np.int64, "span": np.int64, "split": np.int8, "id_length": np.uint16}
        columns: dict[str, list[Any]] = {name: [np.zeros(0, kind)] for name, kind in kinds.items()}
        with path.open("wb") as file, _ids(path).open("wb") as names:
            shards = [(n, s) for n, split in enumerate(SPLITS) for s in examples.shards(split)]
            for number, shard in shards:
                for batch in read_batches(shard):
                    found = batch.columns
                    if found["image"].shape[1] != info.features:
                        raise DataError(f"{shard}: expected {info.features} pixels to an image")
                    file.write(found["image"].tobytes())
                    names.write(found["id"].tobytes())
                    count, length = found["id"].shape
                    columns["label"].append(found["label"])
                    columns["span"].append(found["span"])
                    columns["split"].append(np.full(count, number, np.int8))
                    columns["id_length"].append(np.full(count, length, np.uint16))
        # Taken out one by one, so that they are not twice in memory.
        joined = {name: np.concatenate(columns.pop(name)) for name in kinds}
        labels = joined["label"]
        if labels.size and not 0 <= labels.min() <= labels.max() < info.classes:
            raise DataError(f"expected labels from 0 to {info.classes - 1}, received others")
        return cls(path, info, labels, joined["span"], joined["split"], joined["id_length"])

    def blocks(self) -> Iterator[tuple[slice, Bytes]]:
        """All images, some thousands at a time: which rows they are, and uint8[n, D]."""
        with self.path.open("rb") as file:
            for start in range(0, len(self.labels), BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, len(self.labels))
                pixels = np.fromfile(file, np.uint8, (stop - start) * self.info.features)
                yield slice(start, stop), pixels.reshape(stop - start, -1)

    def ids(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bytes_]:
        """The record ids of some rows, bytes[n]."""
        ends, longest = np.cumsum(self.id_lengths, dtype=np.int64), self.id_lengths.max(initial=1)
        found = []
        with _ids(self.path).open("rb") as file:
            for end, length in zip(
                ends[rows].tolist(), self.id_lengths[rows].tolist(), strict=True
            ):
                file.seek(end - length)
                found.append(file.read(length))
        return np.array(found, f"S{longest}")

    def images(self, rows: npt.NDArray[np.int64]) -> Bytes:
        """The images of some rows, uint8[n, H, W]."""
        height, width = self.info.height, self.info.width
        images = np.empty((len(rows), height, width), np.uint8)
        with self.path.open("rb", buffering=0) as file:
            for row, image in zip(rows.tolist(), images, strict=True):
                file.seek(row * image.nbytes)
                file.readinto(image.data)
        return images


def _ids(path: Path) -> Path:
    return path.with_name(f"{path.name}.ids")
