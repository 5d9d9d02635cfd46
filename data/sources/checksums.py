"""The archives that TFDS registers for a data set, read by path: standard library only.

Importing tensorflow_datasets takes a second; `plan` has less than that for everything. So the
registered checksums are read from TFDS's files, and archives are hashed here.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from bnpipe.data.digest import file_sha256
from bnpipe.data.errors import DataError, DataRequestError

RENDERED = "rendered_digits"
"""Our own data set, drawn by `data/sources/rendered_digits.py`: nothing to download."""

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


@dataclass(frozen=True)
class LocalArchives:
    """The archives of a data set that lie in a folder, and those that do not.

    Data sets share file names (mnist, fashion_mnist and kmnist do), so `<folder>/<data set>` is
    looked at first, and a folder with another data set's archives counts as empty: TFDS would take
    any file of the right name.

    Attributes:
        folder: where they were looked for; None when no folder was named.
        intact: the names of files that are as registered.
        damaged: by file name, the expected and the received sha256.
        foreign: by file name, the data set that registers this very content.
        missing: what has to be downloaded.
    """

    folder: Path | None
    intact: tuple[str, ...]
    damaged: dict[str, tuple[str, str]]
    foreign: dict[str, str]
    missing: tuple[Archive, ...]

    @property
    def usable(self) -> Path | None:
        """The folder, for TFDS to take archives from."""
        return None if self.foreign else self.folder

    def describe_foreign(self, dataset: str) -> str:
        """One of the foreign archives, as a clause."""
        name, other = next(iter(self.foreign.items()))
        return f"{self.folder}/{name} is the archive of {other}, not of {dataset}"


def check_dataset_name(dataset: str) -> None:
    """Checks that TFDS, or this project, has a data set of this name; needs no network.

    Raises:
        DataRequestError: with a near miss.
    """
    name = dataset.partition("/")[0]
    known = _known_names()
    if name in known:
        return
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    raise DataRequestError(
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

    Raises:
        DataError: TFDS is not installed.
    """
    name = dataset.partition("/")[0]
    root = _tfds_root()
    for path in (root / f"url_checksums/{name}.txt", root / f"datasets/{name}/checksums.tsv"):
        if path.exists():
            text = path.read_text()
            rows = [line.split("\t") for line in text.splitlines() if line.strip()]
            return text, [Archive(r[0], int(r[1]), r[2], r[3]) for r in rows if len(r) == 4]
    return "", []


def local_archives(dataset: str, folder: Path | None) -> LocalArchives:
    """Looks for a data set's archives in `<folder>/<data set>`, or else in the folder itself.

    Raises:
        DataRequestError: the folder does not exist.
        DataError: it, or an archive in it, cannot be read.
    """
    registered = registered_archives(dataset)[1]
    if folder is None:
        return LocalArchives(None, (), {}, {}, tuple(registered))
    if not folder.is_dir():
        raise DataRequestError(
            f"data.archives: expected a folder with the archives of {dataset}, received {folder}, "
            "which is not a folder",
            hint=f"use {ARCHIVES_HINT}, or {RENDERED_HINT}",
        )
    try:
        own = folder / dataset.partition("/")[0]
        folder = own if own.is_dir() else folder
        names = set(os.listdir(folder))
        present = [a for a in registered if a.name in names]
        received = {a.name: file_sha256(folder / a.name) for a in present}
    except OSError as error:  # no other one is downloaded instead: that would take long, silently
        raise DataError(
            f"{error.filename} cannot be read: {error.strerror}",
            hint="fetch it again, or remove it so that TFDS downloads it",
        ) from error
    differing = {a.name: a.sha256 for a in present if received[a.name] != a.sha256}
    owners = {name: _other_owner(dataset, received[name]) for name in differing}
    foreign = {name: owner for name, owner in owners.items() if owner}
    return LocalArchives(
        folder,
        intact=tuple(name for name in received if name not in differing),
        damaged={n: (sha, received[n]) for n, sha in differing.items() if n not in foreign},
        foreign=foreign,
        missing=tuple(a for a in registered if foreign or a.name not in received),
    )


def check_archives(dataset: str, folder: Path | None) -> LocalArchives:
    """Checks the archives in a folder against the checksums that TFDS registers.

    Raises:
        DataError: the folder does not exist, or an archive in it is damaged.
    """
    local = local_archives(dataset, folder)
    if local.usable is not None:
        for name, (expected, received) in local.damaged.items():
            raise DataError(
                f"{local.usable / name} is damaged: expected sha256 {expected}, "
                f"received {received}",
                hint=f"fetch it again, or remove it so that TFDS downloads it, or {RENDERED_HINT}",
            )
    return local


def _other_owner(dataset: str, sha256: str) -> str | None:
    """The other data set that TFDS registers this content for."""
    root = _tfds_root()
    files = {path.stem: path for path in (root / "url_checksums").glob("*.txt")}
    files |= {path.parent.name: path for path in (root / "datasets").glob("*/checksums.tsv")}
    files.pop(dataset.partition("/")[0], None)
    return next((n for n in sorted(files) if f"\t{sha256}\t" in files[n].read_text()), None)


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
