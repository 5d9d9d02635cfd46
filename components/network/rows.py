"""All images of all splits with their labels; pixels stay on disk, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import SPLITS, Examples
from bnpipe.components.network.examples import BLOCK_ROWS
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import as_strings, read_batches

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rows:
    """N images, in the order of splits and shards.

    Attributes:
        path: their pixels, one image after another.
        info: the data set.
        labels: int64[N].
        spans: the span that each came with, 0 for the data set's own, int64[N].
        ids: record ids, bytes[N].
        splits: the place of each one's split in `SPLITS`, int64[N].
    """

    path: Path
    info: DatasetInfo
    labels: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]
    splits: npt.NDArray[np.int64]

    @classmethod
    def read(cls, examples: Examples, info: DatasetInfo, path: Path) -> Rows:
        """Reads a whole artifact once.

        Raises:
            DataError: a file is damaged or missing, or holds other records.
        """
        columns: dict[str, list[npt.NDArray[np.int64]]] = {"label": [], "span": [], "split": []}
        ids: list[npt.NDArray[np.bytes_]] = [np.zeros(0, "S1")]
        with path.open("wb") as file:
            shards = [(n, s) for n, split in enumerate(SPLITS) for s in examples.shards(split)]
            for number, shard in shards:
                for batch in read_batches(shard):
                    found = batch.columns
                    if found["image"].shape[1] != info.features:
                        raise DataError(f"{shard}: expected {info.features} pixels to an image")
                    file.write(found["image"].tobytes())
                    columns["label"].append(found["label"])
                    columns["span"].append(found["span"])
                    columns["split"].append(np.full(len(found["label"]), number))
                    ids.append(as_strings(found["id"]))
        none = np.zeros(0, np.int64)
        joined = {name: np.concatenate([none, *parts]) for name, parts in columns.items()}
        labels = joined["label"]
        if labels.size and not 0 <= labels.min() <= labels.max() < info.classes:
            raise DataError(f"expected labels from 0 to {info.classes - 1}, received others")
        return cls(path, info, labels, joined["span"], np.concatenate(ids), joined["split"])

    def blocks(self) -> Iterator[tuple[slice, Bytes]]:
        """All images, some thousands at a time: which rows they are, and uint8[n, D]."""
        with self.path.open("rb") as file:
            for start in range(0, len(self.labels), BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, len(self.labels))
                pixels = np.fromfile(file, np.uint8, (stop - start) * self.info.features)
                yield slice(start, stop), pixels.reshape(stop - start, -1)

    def images(self, rows: npt.NDArray[np.int64]) -> Bytes:
        """The images of some rows, uint8[n, H, W]."""
        height, width = self.info.height, self.info.width
        images = np.empty((len(rows), height, width), np.uint8)
        with self.path.open("rb", buffering=0) as file:
            for row, image in zip(rows.tolist(), images, strict=True):
                file.seek(row * image.nbytes)
                file.readinto(image.data)
        return images
