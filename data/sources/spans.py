"""Spans: folders of newer labelled data that are added to a data set. Standard library only.

A pattern such as `/data/spans/{SPAN}` names them, as in TFX. What stands for `{SPAN}` is a number
or a date (`2026-11-20` has the number 20261120). A span is complete when it holds the file
`_SUCCESS`, which whoever writes it adds last, or when nothing in it has changed for a while; until
then it is left out. Its layout is `<split>/<label>/*.png` (TFDS's ImageFolder) or `<split>/*`
(TFRecords of tf.Example), `<split>` being train or test. Names that begin with `.` or `_` are not
data. Spans, folders and files may be links: what they lead to is read, hashed and waited for as if
it lay there. Whatever is left out is counted and said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar, NamedTuple

from bnpipe.data.digest import file_sha256
from bnpipe.data.durable import replace_text
from bnpipe.data.errors import DataError, DataRequestError, printable
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import flaw, read_plain

PLACEHOLDER = "{SPAN}"
MARKER = "_SUCCESS"
SPLITS = ("train", "test")
LAYOUT = "the layout of a span is {train,test}/<label>/*.png or {train,test}/* (TFRecords)"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_LARGEST = 2**63 - 1  # spans are an int64 column
_MEMO_FILE = "spans.json"
_MEMO_ENTRIES = 1000
_RACY_NS = 2_000_000_000
"""A file this young may change again without a new time stamp: clocks of file systems are coarse.
Its digest is not remembered."""

_SHOWN = 5

_log = logging.getLogger("bnpipe.spans")


@dataclass(frozen=True)
class Span:
    """One span.

    Attributes:
        name: what stands for {SPAN}, e.g. `3` or `2026-11-20`.
        number: the same as a number; never 0, which is the data set itself.
        folder: where it lies.
    """

    name: str
    number: int
    folder: Path

    PREFIX: ClassVar[str] = "span "

    @property
    def key(self) -> str:
        """Its name in plans."""
        return f"{self.PREFIX}{self.name}"


class _File(NamedTuple):
    """A file of a span: its name below the span's folder, and its state in the file system."""

    name: str
    size: int
    modified: int
    changed: int
    inode: int


def find_spans(
    pattern: str, *, window: int | None = None, first: int = 1, settle: float
) -> list[Span]:
    """The complete spans that a pattern names, by number.

    Args:
        pattern: a path with `{SPAN}` in it.
        window: how many of the newest to take; None takes all.
        first: spans with smaller numbers are left out.
        settle: seconds without a change after which a span without `_SUCCESS` is complete.

    Raises:
        DataRequestError: the pattern is none, or no folder can match it.
        DataError: its folder does not exist; a span's name is neither a number nor a date; two
            spans have one number; a span cannot be read.
    """
    base, matching, others = _named(pattern)
    if others:
        _log.warning(
            "data.spans: %d of the names in %s are no spans like %s and are left out: %s",
            *(len(others), base, pattern, _listed(others)),
        )
    spans: dict[int, Span] = {}
    for span in matching:
        if span.number in spans:
            raise DataError(
                f"data.spans: {spans[span.number].name} and {span.name} are both span "
                f"{span.number}",
                hint="rename one of them",
            )
        spans[span.number] = span
    chosen = [spans[number] for number in sorted(spans) if number >= first]
    complete = [span for span in chosen if _is_complete(span, settle)]
    return complete[-window:] if window else complete


def content_digests(spans: Sequence[Span], cache: Path) -> dict[str, str]:
    """sha256 over names and contents of all files of each span, by span name.

    The place of a span does not count, nor do time stamps. Digests are remembered in the cache
    folder by name, size, inode and times of all files of a span, so that an unchanged span is not
    read again; the memo may be deleted at any time.

    Raises:
        DataError: a span is empty or cannot be read.
    """
    memo_file = cache / _MEMO_FILE
    memo = _read_memo(memo_file)
    digests, learnt = {}, {}
    for span in spans:
        started = time.time_ns()
        try:
            files = sorted(_files(span))
            if not files:
                raise DataError(
                    f"span {span.name} is empty: {span.folder} holds no data",
                    hint=f"expected train/<label>/*.png in it; remove {MARKER} while it is written",
                )
            state = hashlib.sha256(repr([tuple(file) for file in files]).encode()).hexdigest()
            digests[span.name] = memo.get(state) or _content(span.folder, files)
        except OSError as error:
            raise _unreadable(span, error) from error
        if state not in memo and max(f.changed for f in files) < started - _RACY_NS:
            learnt[state] = digests[span.name]
    if learnt:
        newest = dict(list((memo | learnt).items())[-_MEMO_ENTRIES:])
        with suppress(OSError):
            replace_text(memo_file, json_text(newest), durable=False)
    return digests


def check_layout(span: Span) -> None:
    """Checks that a span holds splits and nothing else.

    Raises:
        DataError: it does not.
    """
    for entry in sorted(span.folder.iterdir()):
        if is_data(entry.name) and (entry.name not in SPLITS or not entry.is_dir()):
            raise DataError(
                f"span {span.name}: expected the folders {' and '.join(SPLITS)}, received {entry}",
                hint=f"{LAYOUT}; names that begin with _ are left alone",
            )


def left_out(span: Span) -> list[str]:
    """The files and folders of a span that are not data by their names, sorted; it says so, too."""
    names = sorted(
        name
        for name, entry in _walk(span.folder, hidden=False)
        if not is_data(entry.name) and name != MARKER
    )
    if names:
        _log.warning(
            "span %s: left out for a name that begins with . or _ (%d): %s",
            *(span.name, len(names), _listed(names)),
        )
    return names


def is_data(name: str) -> bool:
    """True if a file or folder of this name holds data: not a marker, nor hidden."""
    return not name.startswith((".", "_"))


def _listed(names: Sequence[str]) -> str:
    return printable(", ".join(names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _unreadable(span: Span, error: OSError) -> DataError:
    return DataError(f"span {span.name} cannot be read: {error.filename}: {error.strerror}")


def _named(pattern: str) -> tuple[Path, list[Span], list[str]]:
    """The folder of a pattern, all spans in it, complete or not, and the other names in it."""
    parts = Path(pattern).absolute().parts
    holders = [i for i, part in enumerate(parts) if PLACEHOLDER in part]
    rest = pattern.replace(PLACEHOLDER, "", 1)
    if len(holders) != 1 or "{" in rest or "}" in rest:
        raise DataRequestError(
            f"data.spans: expected a path with {PLACEHOLDER} in it once, received {pattern}",
            hint=f"--set data.spans=<folder>/{PLACEHOLDER}",
        )
    at = holders[0]
    base, below = Path(*parts[:at]), parts[at + 1 :]
    if any("*" in part or "?" in part or part == ".." for part in parts[at:]):
        raise DataRequestError(
            f"data.spans: expected the folders of spans, without *, ? and .., received {pattern}: "
            f"no folder matches it",
            hint=f"--set data.spans={base / PLACEHOLDER}; {LAYOUT}",
        )
    before, after = map(re.escape, parts[at].split(PLACEHOLDER))
    if not base.is_dir():
        raise DataError(
            f"data.spans: {base} is not a folder",
            hint="create it, or leave data.spans out",
        )
    spans, others = [], []
    try:
        names = sorted(os.listdir(base))
        for name in names:
            match = re.fullmatch(f"{before}(.+){after}", name, re.DOTALL)
            folder = base.joinpath(name, *below)
            if match and is_data(match[1]) and folder.is_dir():
                spans.append(Span(match[1], _number(match[1], folder), folder))
            else:
                others.append(name)
    except OSError as error:
        raise DataError(f"data.spans: {error.filename}: {error.strerror}") from error
    return base, spans, others


def _number(name: str, folder: Path) -> int:
    """The number of a span; a date counts as the number that its digits are."""
    number = 0
    if re.fullmatch(r"[0-9]{1,19}", name):
        number = int(name)
    elif _DATE.fullmatch(name):
        with suppress(ValueError):
            number = int(date.fromisoformat(name).strftime("%Y%m%d"))
    if not 0 < number <= _LARGEST:
        raise DataError(
            f"data.spans: expected a number from 1 on or a date like 2026-11-20 for {PLACEHOLDER}, "
            f"received {name!r} ({folder})",
            hint="rename it; names that begin with _ are left alone",
        )
    return number


def _is_complete(span: Span, settle: float) -> bool:
    try:
        if (span.folder / MARKER).exists():
            return True
        age = max(time.time() - _last_change(span.folder), 0.0)
    except PermissionError as error:
        raise _unreadable(span, error) from error
    if age < settle:
        _log.warning(
            "span %s is left out: it has no %s and changed %.0f s ago; it counts as complete "
            "after %.0f s without a change (data.span_settle_seconds)",
            *(span.name, MARKER, age, settle),
        )
        return False
    return True


def _last_change(folder: Path) -> float:
    """The time at which anything in a folder, data or not, changed last.

    By the change time, because tools that copy set the modification time to that of the original.
    """
    try:
        newest = folder.stat().st_ctime
        for _, entry in _walk(folder, hidden=True):
            newest = max(newest, entry.stat(follow_symlinks=False).st_ctime)
            if entry.is_symlink():
                with suppress(FileNotFoundError):  # reading it will fail, and say so
                    newest = max(newest, entry.stat().st_ctime)
        return newest
    except PermissionError:  # which waiting does not mend
        raise
    except OSError:  # just removed or renamed: someone is at work there
        return time.time()


def _files(span: Span) -> Iterator[_File]:
    """All data files of a span, in any order; nothing is opened.

    Raises:
        DataError: something is neither a file nor a folder, or a file that is nearly all hole.
        OSError: something cannot be read.
    """
    for name, entry in _walk(span.folder, hidden=False):
        if not is_data(entry.name) or entry.is_dir():
            continue
        s = entry.stat()
        if received := flaw(s, entry.path):
            raise DataError(
                f"span {span.name}: {entry.path}: expected a file with data, received {received}",
                hint=f"remove it, or rename it to _{entry.name}: it is left out",
            )
        yield _File(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)


def _walk(
    folder: Path, prefix: str = "", above: tuple[tuple[int, int], ...] = (), *, hidden: bool
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that lies below a folder by relative name, in any order; links are followed.

    What is not data is there, too; what lies in a folder that is none, only if `hidden`.

    Args:
        folder: where to begin.
        prefix: what names begin with.
        above: (device, inode) of the folders that it lies in.
        hidden: whether to look into folders that are not data.

    Raises:
        DataError: a link leads back to a folder that it lies in.
        OSError: a folder cannot be read.
    """
    status = folder.stat()
    inside = (*above, (status.st_dev, status.st_ino))
    if inside[-1] in above:
        raise DataError(
            f"data.spans: {folder} is a link to a folder that it lies in", hint="remove the link"
        )
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            yield name, entry
            if (hidden or is_data(entry.name)) and entry.is_dir():
                yield from _walk(Path(entry.path), f"{name}/", inside, hidden=hidden)


def _content(folder: Path, files: Sequence[_File]) -> str:
    total = hashlib.sha256()
    for file in files:
        digest = file_sha256(folder / file.name)
        total.update(os.fsencode(file.name) + f"\0{digest}\n".encode())
    return total.hexdigest()


def _read_memo(path: Path) -> dict[str, str]:
    # Not there, or damaged: only time is lost.
    with suppress(OSError, ValueError, AttributeError):
        return {str(k): str(v) for k, v in json.loads(read_plain(path)).items()}
    return {}
