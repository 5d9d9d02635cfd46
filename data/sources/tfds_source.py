"""Data sets from TensorFlow Datasets: find, check, prepare.

Everything is prepared below one cache folder, by one process at a time. TFDS publishes a prepared
data set by renaming a folder, so a prepare that was killed leaves only a folder that the next one
removes.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.durable import make_folder
from bnpipe.data.errors import BnpipeError, DataError, DataRequestError
from bnpipe.data.flock import is_locked, locked
from bnpipe.data.sources.checksums import (
    ARCHIVES_HINT,
    RENDERED_HINT,
    LocalArchives,
    check_archives,
    check_dataset_name,
)
from bnpipe.data.sources.source import Source

_DOWNLOADS = "downloads"
_CONNECT_SECONDS = 10.0
_SHARDS = 4
"""Files per prepared split: read instructions then begin at the start of a file."""


def prepare(
    dataset: str,
    archives: Path | None,
    cache: Path,
    *,
    log: logging.Logger | None = None,
    tell: Callable[[str], None] = lambda note: None,
) -> Any:
    """Prepares a data set through TFDS, once per cache folder.

    Args:
        dataset: TFDS name, e.g. `mnist` or `emnist/digits`.
        archives: folder with the original archives, or with a folder of them per data set; what
            it lacks TFDS downloads.
        cache: prepared data goes to `<cache>/tfds`.
        log: where to say what is done.
        tell: moves the progress line.

    Returns:
        the prepared tfds.core.DatasetBuilder.

    Raises:
        DataError: unknown data set; not labelled one-channel images; a damaged archive; archives
            that can neither be found nor downloaded.
    """
    check_dataset_name(dataset)
    # Also when prepared data exists: say it now, not later.
    local = check_archives(dataset, archives)
    builder = find(dataset, cache / "tfds")
    image_and_label(builder)
    if not builder.is_prepared():
        lock = cache / f"{'-'.join(Path(builder.data_dir).parent.parts[-2:])}.lock"
        make_folder(cache)
        if is_locked(lock):
            tell(f"waiting for another process, which prepares {dataset}")
            if log:
                log.info("waiting for another process, which prepares it: it has %s", lock)
        with locked(lock, wait=math.inf):
            tell(f"preparing {dataset}")
            builder = find(dataset, cache / "tfds")  # by another, meanwhile?
            if not builder.is_prepared():
                _prepare(builder, dataset, local, cache / "tfds", log)
    return builder


def describe(builder: Any) -> DatasetInfo:
    """The data set of a builder, in its own splits.

    Raises:
        DataError: as `image_and_label`.
    """
    image, label = image_and_label(builder)
    features = builder.info.features
    return DatasetInfo(
        name=dataset_name(builder),
        version=str(builder.version),
        height=features[image].shape[0],
        width=features[image].shape[1],
        label_names=tuple(features[label].names),
        splits={str(key): split.num_examples for key, split in builder.info.splits.items()},
        synthetic=False,
    )


def dataset_name(builder: Any) -> str:
    """`mnist`, `emnist/digits`."""
    config = builder.builder_config
    return str(builder.name) if config is None else f"{builder.name}/{config.name}"


def source(builder: Any, split: str) -> Source:
    """The source of a prepared split: its files, and what their records hold.

    Raises:
        DataError: the data set has no such split.
    """
    info = describe(builder)
    if split not in info.splits:
        raise DataError(
            f"data set {info.name}: expected the split {split}, "
            f"received {', '.join(sorted(info.splits)) or 'none'}",
            hint=RENDERED_HINT,
        )
    image, label = image_and_label(builder)
    prepared = builder.info.splits[split]
    return Source(
        files=tuple(str(path) for path in prepared.filepaths),
        lengths=tuple(prepared.shard_lengths),
        image=image,
        label=label,
        height=info.height,
        width=info.width,
        classes=info.classes,
        hint=f"delete {builder.data_dir} and run again: it is prepared anew",
    )


def image_and_label(builder: Any) -> tuple[str, str]:
    """The names of the image and label features.

    Raises:
        DataError: there is no label, or the images are not of one channel and one size.
    """
    import numpy as np
    import tensorflow_datasets as tfds

    keys = builder.info.supervised_keys
    features = builder.info.features
    name = dataset_name(builder)
    if not keys or len(keys) != 2 or not isinstance(features[keys[1]], tfds.features.ClassLabel):
        raise DataError(
            f"data set {name}: expected images with a class label, received the features "
            f"{', '.join(features)} with the supervised keys {keys}",
            hint=RENDERED_HINT,
        )
    image = features[keys[0]]
    shape: Any = getattr(image, "shape", None)
    is_image = isinstance(image, tfds.features.Image) and None not in shape and shape[2] == 1
    if not is_image or image.np_dtype != np.uint8:
        raise DataError(
            f"data set {name}: expected images of one size and one channel (height, width, 1) of "
            f"8 bits, received {keys[0]} of shape {shape} and {getattr(image, 'np_dtype', None)}",
            hint=RENDERED_HINT,
        )
    return str(keys[0]), str(keys[1])


def find(dataset: str, data_dir: Path) -> Any:
    """The tfds.core.DatasetBuilder of a data set, prepared or not; arguments as for `prepare`.

    Raises:
        DataError: TFDS has no such data set, or no such configuration of it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of every choice it makes
    name, _, config = dataset.partition("/")
    try:
        # Or TFDS loads all data sets that it has, to look for the name.
        import tensorflow_datasets.image_classification

        known = tfds.builder_cls(name).builder_configs
        if config and config not in known:
            near = difflib.get_close_matches(config, known, n=1)
            raise DataRequestError(
                f"data set {name}: expected one of its configurations "
                f"{', '.join(sorted(known)) or '(it has none)'}, received {config!r}",
                hint=f"did you mean --set data.dataset={name}/{near[0]}?" if near else "",
            )
        return tfds.builder(dataset, data_dir=str(data_dir))
    except (ValueError, ImportError) as error:
        raise DataError(
            f"TFDS cannot load the data set {dataset!r}: {_one_line(error)}", hint=RENDERED_HINT
        ) from error


def _prepare(
    builder: Any, dataset: str, local: LocalArchives, tfds_dir: Path, log: logging.Logger | None
) -> None:
    if log:
        log.info("preparing %s in %s", dataset, builder.data_dir)
        if local.foreign:
            log.info("%s: downloading", local.describe_foreign(dataset))
    for leftover in Path(builder.data_dir).parent.glob("incomplete.*"):  # of a killed prepare
        shutil.rmtree(leftover, ignore_errors=True)
    _check_reachable(dataset, local, tfds_dir / _DOWNLOADS)
    _download_and_prepare(builder, dataset, local, tfds_dir)


def _download_and_prepare(builder: Any, dataset: str, local: LocalArchives, tfds_dir: Path) -> None:
    import tensorflow_datasets as tfds

    _store_uncompressed(builder)
    config = tfds.download.DownloadConfig(
        manual_dir=str(local.usable) if local.usable else None,
        num_shards=_SHARDS,
        try_download_gcs=False,  # copies of prepared data come without a checksum
        force_checksums_validation=False,
    )
    try:
        # TFDS prints what it does; standard output belongs to the command line.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_dir=str(tfds_dir / _DOWNLOADS), download_config=config
            )
    except BnpipeError:
        raise
    except OSError as error:
        raise _unreachable(dataset, local, error) from error
    except Exception as error:
        # TFDS wraps whatever a builder raises; the step's log has the traceback.
        raise DataError(
            f"TFDS could not prepare {dataset}: {_one_line(error)}", hint=RENDERED_HINT
        ) from error


def _check_reachable(dataset: str, local: LocalArchives, downloads: Path) -> None:
    """Tries once to reach what TFDS would download; TFDS itself would try for minutes."""
    infos = [info.read_text() for info in downloads.rglob("*.INFO")]
    missing = [a for a in local.missing if not any(a.url in info for info in infos)]
    if not missing:
        return
    import requests

    try:
        requests.get(missing[0].url, stream=True, timeout=_CONNECT_SECONDS).close()
    except requests.RequestException as error:
        raise _unreachable(dataset, local, error) from error


def _unreachable(dataset: str, local: LocalArchives, error: OSError) -> DataError:
    """The error for archives that are neither in the folder nor to be had from the network."""
    if isinstance(error, (FileNotFoundError, PermissionError)) or not local.missing:
        return DataError(f"TFDS could not prepare {dataset}: {_one_line(error)}")
    first = local.missing[0]
    headline = f"could not reach {first.url} to download {dataset} ({type(error).__name__})"
    if local.foreign:
        headline += f", and {local.describe_foreign(dataset)}"
    elif local.folder:
        headline += f", and {local.folder} does not hold {first.name}"
    return DataError(headline, hint=f"use {ARCHIVES_HINT}, or {RENDERED_HINT}")


def _store_uncompressed(builder: Any) -> None:
    """Lets the builder hand TFDS images that are PNG files already.

    TFDS encodes each image with a TensorFlow call of its own, which is two thirds of the time that
    preparing MNIST takes. An Image feature also takes encoded bytes; the pixels are the same.
    """
    generate = getattr(builder, "_generate_examples", None)
    image = image_and_label(builder)[0]
    if generate is None:
        return

    def generate_encoded(*args: Any, **kwargs: Any) -> Any:
        examples = generate(*args, **kwargs)
        return _encoded(examples, image) if isinstance(examples, Iterator) else examples

    builder._generate_examples = generate_encoded


def _encoded(examples: Iterator[tuple[Any, Any]], image: str) -> Iterator[tuple[Any, Any]]:
    import numpy as np

    from bnpipe.data.png import encode_stored

    for key, example in examples:
        pixels = example[image]
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8:
            example = {**example, image: encode_stored(pixels)}
        yield key, example


def _one_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
