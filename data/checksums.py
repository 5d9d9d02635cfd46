"""What TFDS registers about a data set's archives, read by path: standard library only.

Importing tensorflow_datasets takes a second; `plan` has less than that for everything. So the
registered checksums are read from TFDS's files, and archives are hashed here.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError, RequestError

RENDERED = "rendered_digits"
"""Our own data set, drawn by `data/rendered_digits.py`: nothing to download."""

ARCHIVES_HINT = "--set data.archives=<folder with the archives> (or BNPIPE_ARCHIVES)"
RENDERED_HINT = f"--set data.dataset={RENDERED}"


@dataclass(frozen=True)
class Archive:
    """One file of a data set, as TFDS registers it.

    Attributes:
        url: where it comes from.
        size: in bytes.
        sha256: hexadecimal digest.
        name: file name; may be empty for URLs that do not name one.
    """

    url: str
    size: int
    sha256: str
    name: str


class UnknownDatasetError(DataError, RequestError):
    """Neither TFDS nor this project has a data set of this name."""


def check_dataset_name(dataset: str) -> None:
    """Checks that TFDS, or this project, has a data set of this name; needs no network.

    Raises:
        UnknownDatasetError: with a near miss.
    """
    name = dataset.partition("/")[0]
    known = _known_names()
    if name in known:
        return
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    raise UnknownDatasetError(
        f"unknown data set {dataset!r}: expected the name of a TFDS image classification set, "
        f"e.g. mnist, fashion_mnist, kmnist, emnist/digits or {RENDERED}",
        hint=f"did you mean --set data.dataset={near[0]}?" if near else RENDERED_HINT,
    )


def registered_archives(dataset: str) -> tuple[str, list[Archive]]:
    """The registered archives of a data set.

    Args:
        dataset: TFDS name, a config behind a slash is ignored.

    Returns:
        the text of TFDS's checksum file (empty when it registers none), and its lines.
    """
    name = dataset.partition("/")[0]
    root = _tfds_root()
    for path in (root / f"url_checksums/{name}.txt", root / f"datasets/{name}/checksums.tsv"):
        if path.exists():
            text = path.read_text()
            rows = [line.split("\t") for line in text.splitlines() if line.strip()]
            return text, [Archive(r[0], int(r[1]), r[2], r[3]) for r in rows if len(r) == 4]
    return "", []


def damaged_archives(dataset: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Hashes the archives that lie in a folder.

    A file that is missing is not damaged: TFDS downloads it.

    Returns:
        by file name, the expected and the received sha256 of those that differ.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.archives: expected a folder with the archives of {dataset}, received {folder}, "
            "which is not a folder",
            hint=f"use {ARCHIVES_HINT}, or {RENDERED_HINT}",
        )
    damaged = {}
    for archive in registered_archives(dataset)[1]:
        path = folder / archive.name
        if archive.name and path.is_file():
            with path.open("rb") as file:
                received = hashlib.file_digest(file, "sha256").hexdigest()
            if received != archive.sha256:
                damaged[archive.name] = (archive.sha256, received)
    return damaged


def check_archives(dataset: str, folder: Path) -> None:
    """Checks the archives in a folder against the checksums that TFDS registers.

    Raises:
        DataError: the folder does not exist, or an archive in it is not the registered one.
    """
    for name, (expected, received) in damaged_archives(dataset, folder).items():
        raise DataError(
            f"{folder / name} is damaged: expected sha256 {expected}, received {received}",
            hint=f"fetch it again, or remove it so that TFDS downloads it, or {RENDERED_HINT}",
        )


def missing_archives(dataset: str, folder: Path | None) -> list[Archive]:
    """The registered archives that the folder does not hold."""
    archives = registered_archives(dataset)[1]
    return [a for a in archives if folder is None or not a.name or not (folder / a.name).is_file()]


def _tfds_root() -> Path:
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        raise DataError(
            "tensorflow_datasets is not installed", hint="pip install -r requirements.lock"
        )
    return Path(spec.origin).parent


def _known_names() -> set[str]:
    root = _tfds_root()
    listed = {path.stem for path in (root / "url_checksums").glob("*.txt")}
    packages = {path.name for path in (root / "datasets").iterdir() if path.is_dir()}
    return {n for n in listed | packages if not n.startswith(("_", "."))} | {RENDERED}
