"""The models' answers, image by image: the arrays that everything else is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.errors import DataError

MAX_SLICE_VALUES = 100
"""A column with more distinct values than this is a measurement, not a slicing."""

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Slice:
    """A part of the images.

    Attributes:
        name: `overall`, `label:3` or `ink_quartile_X_label:0_X_3`, spelt as TFMA spells it.
        columns: the columns it is cut by, sorted; empty for `overall`.
        rows: bool[N], true for its images.
    """

    name: str
    columns: tuple[str, ...]
    rows: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Predictions:
    """Answers of one or more models for the same N images.

    Attributes:
        ids: bytes[N], the record ids.
        labels: int64[N], the true classes.
        columns: slice columns by name, each [N]; `label` is not among them.
        probabilities: float32[N, K] by model name.
    """

    ids: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[Any]]
    probabilities: Mapping[str, npt.NDArray[np.float32]]

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All arrays by their names in a file."""
        arrays: dict[str, npt.NDArray[Any]] = {"id": self.ids, "label": self.labels}
        arrays |= {f"column/{n}": v for n, v in sorted(self.columns.items())}
        return arrays | {f"probabilities/{n}": v for n, v in sorted(self.probabilities.items())}

    def write(self, path: Path) -> None:
        """Writes `predictions.npz`: `id`, `label`, `column/<name>`, `probabilities/<model>`."""
        # numpy's zip entries carry the constant date 1980-01-01, so equal arrays are equal bytes.
        np.savez(path, **self._arrays())  # type: ignore[arg-type]

    @classmethod
    def read(cls, *paths: Path) -> Predictions:
        """Reads files that `write` wrote, one after the other.

        Raises:
            OSError, ValueError, KeyError: a file is missing or holds something else.
        """
        files = []
        for path in paths:
            with np.load(path, allow_pickle=False) as stored:
                files.append({name: stored[name] for name in stored.files})
        return cls._joined(files)

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """The answers of one part after the other."""
        return cls._joined([part._arrays() for part in parts])

    @classmethod
    def _joined(cls, parts: Sequence[dict[str, npt.NDArray[Any]]]) -> Predictions:
        # Taken out of the parts one by one: what was read from files is not twice in memory.
        names = [*parts[0]] if parts else []
        named = {name: np.concatenate([part.pop(name) for part in parts]) for name in names}

        def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}

        return cls(named["id"], named["label"], under("column/"), under("probabilities/"))

    def without(self, models: Iterable[str]) -> Predictions:
        """The same images without the answers of some models."""
        left_out = set(models)
        kept = {n: p for n, p in self.probabilities.items() if n not in left_out}
        return replace(self, probabilities=kept)

    def rows(self, chosen: npt.NDArray[np.bool_] | slice) -> Predictions:
        """The answers for some of the images."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        answers = {name: values[chosen] for name, values in self.probabilities.items()}
        return Predictions(self.ids[chosen], self.labels[chosen], columns, answers)

    def correct(self, model: str) -> npt.NDArray[np.bool_]:
        """bool[N]: true where the model's most probable class is the true one."""
        return np.asarray(self.probabilities[model].argmax(axis=1) == self.labels)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A slice column, [N].

        Raises:
            DataError: there is no such column, or it has too many values to slice by.
        """
        if name == "label":
            return self.labels
        if name not in self.columns:
            known = ", ".join(sorted((*self.columns, "label")))
            raise DataError(
                f"evaluator.slices: expected a column of the examples ({known}), received {name!r}",
                hint="bnpipe run --set 'evaluator.slices=[label]'",
            )
        values = self.columns[name]
        distinct = np.unique(values).size
        if distinct > MAX_SLICE_VALUES:
            raise DataError(
                f"evaluator.slices: expected a column of at most {MAX_SLICE_VALUES} values, "
                f"received {name!r} with {distinct}",
                hint="slice by a column that holds categories or buckets",
            )
        return values

    def slices(
        self,
        slicings: Sequence[str],
        classes: int,
        expected: Mapping[str, Sequence[int]] | None = None,
    ) -> list[Slice]:
        """`overall` and every slice of the given slicings.

        A slicing by one column alone has a slice for each value that the column must have, also
        for those of which there is no image: the `expected` values, or every class where they are
        not named. Every other slicing has the combinations that occur.

        Raises:
            DataError: a slicing names a column that cannot be sliced by.
        """
        slices = [Slice("overall", (), np.ones(self.labels.size, dtype=bool))]
        for names in distinct_slicings(slicings):
            arrays = [self.column(name) for name in names]
            keys = set(zip(*(a.tolist() for a in arrays), strict=True))
            if len(names) == 1:
                default = range(classes) if names == ("label",) else ()
                keys |= {(value,) for value in (expected or {}).get(names[0], default)}
            for key in sorted(keys):
                rows = np.logical_and.reduce(
                    [np.asarray(a == v) for a, v in zip(arrays, key, strict=True)]
                )
                slices.append(Slice(slice_name(names, key), names, rows))
        return slices


def distinct_slicings(slicings: Sequence[str]) -> list[tuple[str, ...]]:
    """The columns of each slicing, sorted.

    Raises:
        DataError: a column stands twice in a slicing, or a slicing twice in the list.
    """
    columns = [tuple(sorted(slicing.split("*"))) for slicing in slicings]
    for names, slicing in zip(columns, slicings, strict=True):
        if len(set(names)) < len(names) or columns.count(names) > 1:
            raise DataError(
                f"evaluator.slices: expected different columns and slicings, received {slicing!r} "
                f"in {', '.join(slicings)}",
                hint="name each column once in a slicing, and each slicing once",
            )
    return columns


def slice_name(columns: Sequence[str], values: Sequence[Any]) -> str:
    """The name of a slice as TFMA's `stringify_slice_key` spells it."""
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return f"{'_X_'.join(columns)}:{'_X_'.join(texts)}"


def problem(probabilities: npt.NDArray[np.float32], images: int, classes: int) -> str:
    """The fault that makes a model's answers unusable, in words; empty when they are usable.

    Args:
        probabilities: what it answered, expected float32[images, classes] with rows that sum to 1.
        images: number of images that it was asked for.
        classes: number of the data set's classes.
    """
    if probabilities.shape != (images, classes):
        return (
            f"it answered with shape {probabilities.shape}, expected {images} images x "
            f"{classes} classes"
        )
    if not images:
        return "there are no images to evaluate it on"
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        return f"its answers are not finite numbers (NaN or infinite) for {bad} of {images} images"
    off = float(np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1.0).max())
    if off > _SUM_TOLERANCE or float(probabilities.min()) < -_SUM_TOLERANCE:
        return f"its answers are not probabilities: a row's sum differs from 1 by {off:.3g}"
    return ""
