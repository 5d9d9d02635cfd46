"""The layout of a span's folder: the sources of its splits."""

from __future__ import annotations

from pathlib import Path

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.records.tfrecord import BrokenFramingError, count_records
from bnpipe.data.sources.image_folder import ImageFolder, image_names
from bnpipe.data.sources.source import ImageSource, Source
from bnpipe.data.sources.spans import LAYOUT, SPLITS, Span, check_layout, is_data


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
    check_layout(span)
    present = [split for split in SPLITS if (span.folder / split).is_dir()]
    sources = {split: _source(span, split, info) for split in present}
    sources = {split: source for split, source in sources.items() if source.size}
    if not sources:
        raise DataError(f"span {span.name} is empty: {span.folder} holds no record", hint=LAYOUT)
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
            hint=LAYOUT,
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
    raise DataError(
        f"span {span.name}: expected a label of {info.name} ({', '.join(names[:20])}), "
        f"received the folder {folder}",
        # No label that looks alike: whoever took it would train on wrong labels.
        hint=f"rename it to its label, or to _{folder.name}: it is left out",
    )


def _records(path: Path, hint: str) -> int:
    """The number of records in a file; those behind a broken one are estimated."""
    try:
        return count_records(path)
    except BrokenFramingError as error:
        if not error.row:  # no record at all: it may be anything
            raise DataError(error.headline, hint=hint) from error
        return error.row + error.lost
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", hint=hint) from error
