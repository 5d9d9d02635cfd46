"""The layout of a span's folder: the sources of its splits."""

from __future__ import annotations

import difflib
from pathlib import Path

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.records.tfrecord import BrokenFramingError, count_records
from bnpipe.data.sources.image_folder import ImageFolder, image_names
from bnpipe.data.sources.source import ImageSource, Source
from bnpipe.data.sources.spans import Span, is_data

SPLITS = ("train", "test")
_GZIP = b"\x1f\x8b\x08"
_LAYOUT = "the layout of a span is {train,test}/<label>/*.png or {train,test}/* (TFRecords)"


def span_sources(span: Span, info: DatasetInfo) -> dict[str, ImageSource]:
    """The source of every split that a span has.

    Args:
        span: the span.
        info: the data set that it is added to; labels and image size must be the same.

    Returns:
        by split, `train` first; without splits that hold no record.

    Raises:
        DataError: another layout, a label that the data set does not have, or a file without a
            single record that can be read.
    """
    entries = _data(span.folder)
    unknown = [path for path in entries if path.name not in SPLITS or not path.is_dir()]
    if unknown:
        raise DataError(
            f"span {span.name}: expected the folders {' and '.join(SPLITS)}, received {unknown[0]}",
            hint=f"{_LAYOUT}; names that begin with _ are left alone",
        )
    present = [split for split in SPLITS if span.folder / split in entries]
    sources = {split: _source(span, split, info) for split in present}
    sources = {split: source for split, source in sources.items() if source.size}
    if not sources:
        raise DataError(f"span {span.name} is empty: {span.folder} holds no record", hint=_LAYOUT)
    return sources


def _source(span: Span, split: str, info: DatasetInfo) -> ImageSource:
    folder = span.folder / split
    hint = f"write span {span.name} again, or rename its folder to _{span.name}: it is left out"
    entries = _data(folder)
    folders = [path for path in entries if path.is_dir()]
    if not folders:
        return Source(
            files=tuple(map(str, entries)),
            lengths=tuple(_records(path, hint) for path in entries),
            image="image",
            label="label",
            height=info.height,
            width=info.width,
            classes=info.classes,
            raw=True,
            hint=hint,
        )
    if len(folders) < len(entries):
        strange = next(path for path in entries if path not in folders)
        raise DataError(
            f"span {span.name}: {folder} holds label folders, but also the file {strange.name}",
            hint=_LAYOUT,
        )
    labelled = sorted((_label(path, span, info), path) for path in folders)
    return ImageFolder(
        folders=tuple(str(path) for _, path in labelled),
        labels=tuple(label for label, _ in labelled),
        lengths=tuple(len(image_names(path)) for _, path in labelled),
        height=info.height,
        width=info.width,
        hint=hint,
    )


def _data(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_data(path.name))


def _label(folder: Path, span: Span, info: DatasetInfo) -> int:
    names = [name.replace("/", "_") for name in info.label_names]  # e.g. T-shirt/top
    if folder.name in names:
        return names.index(folder.name)
    near = difflib.get_close_matches(folder.name, names, n=1)
    raise DataError(
        f"span {span.name}: expected a label of {info.name} ({', '.join(names[:20])}), "
        f"received the folder {folder}",
        hint=f"did you mean {near[0]}?" if near else "rename it to its label",
    )


def _records(path: Path, hint: str) -> int:
    """The number of records in a file; those behind a broken one are estimated."""
    try:
        with path.open("rb") as file:
            if file.read(3) == _GZIP:
                raise DataError(
                    f"{path} is compressed: expected plain TFRecords", hint=f"gunzip it, or {hint}"
                )
        return count_records(path)
    except BrokenFramingError as error:
        if not error.row:  # no record at all: it may be anything
            raise DataError(error.headline, hint=hint) from error
        return error.row + error.lost
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", hint=hint) from error
