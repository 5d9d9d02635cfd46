"""The data set in a folder of examples: `dataset.json`, which example_gen and transform write."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnpipe.data.errors import DataError
from bnpipe.data.json_text import json_text

FILE_NAME = "dataset.json"


@dataclass(frozen=True)
class DatasetInfo:
    """A one-channel image classification data set, as it was ingested.

    Attributes:
        name: the TFDS name, e.g. `mnist` or `emnist/digits`.
        version: the TFDS version, e.g. `3.0.1`.
        height: image height in pixels.
        width: image width in pixels.
        label_names: the class names in label order.
        splits: number of records by split.
        synthetic: whether a program drew the images; reports say so.
    """

    name: str
    version: str
    height: int
    width: int
    label_names: tuple[str, ...]
    splits: dict[str, int]
    synthetic: bool

    @property
    def features(self) -> int:
        """Length of a flattened image, height * width."""
        return self.height * self.width

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.label_names)

    @classmethod
    def read(cls, folder: Path) -> DatasetInfo:
        """Reads `dataset.json` from a folder of examples.

        Raises:
            DataError: the file is missing or not what example_gen writes.
        """
        path = folder / FILE_NAME
        try:
            stored = json.loads(path.read_text())
            return cls(
                name=str(stored["name"]),
                version=str(stored["version"]),
                height=int(stored["height"]),
                width=int(stored["width"]),
                label_names=tuple(map(str, stored["label_names"])),
                splits={str(k): int(v) for k, v in stored["splits"].items()},
                synthetic=bool(stored["synthetic"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} does not describe a data set: {type(error).__name__}: {error}",
                hint="run example_gen again: bnpipe run --force example_gen",
            ) from error

    def to_json(self, **extra: Any) -> str:
        """The text of `dataset.json`; `extra` adds keys such as `shards`."""
        return json_text(asdict(self) | extra, indent=2, sort_keys=True) + "\n"
