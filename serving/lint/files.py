"""Which files a SavedModel has: the known ones, plain, of a sane size, and all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bnpipe.serving.lint.finding import Finding

GRAPH = "saved_model.pb"
INDEX = "variables/variables.index"
MOST_GRAPH_BYTES = 64 << 20
MOST_WARMUP_BYTES = 64 << 20

_SHARD = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")
_WARMUP = "assets.extra/tf_serving_warmup_requests"
_KNOWN = {GRAPH, INDEX, "fingerprint.pb", _WARMUP}
_FOLDERS = {"variables", "assets", "assets.extra"}
_LIMITS = {GRAPH: MOST_GRAPH_BYTES, _WARMUP: MOST_WARMUP_BYTES, INDEX: MOST_GRAPH_BYTES}


def check_files(folder: Path) -> list[Finding]:
    """Links, unknown, missing and oversized files; no file is opened."""
    found: list[Finding] = []
    sizes: dict[str, int] = {}
    try:
        for name, entry in _walk(folder, ""):
            found.extend(_check_entry(name, entry))
            sizes[name] = entry.stat(follow_symlinks=False).st_size
    except OSError as error:
        where = os.path.relpath(error.filename or folder, folder)
        return [Finding("unreadable", f"{where} cannot be read: {error.strerror}")]
    for name, most in _LIMITS.items():
        if sizes.get(name, 0) > most:
            told = f"{name}: expected at most {most} bytes, received {sizes[name]}"
            found.append(Finding("too_large", told))
    missing = [name for name in (GRAPH, INDEX, _WARMUP) if not sizes.get(name)]
    found.extend(Finding("missing_file", f"{name} is missing or empty") for name in missing)
    return found + _check_shards(set(sizes))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder that is no plain folder, by its path from there."""
    with os.scandir(folder / prefix) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False) and (prefix or entry.name in _FOLDERS):
                yield from _walk(folder, f"{name}/")
            else:
                yield name, entry


def _check_entry(name: str, entry: os.DirEntry[str]) -> Iterator[Finding]:
    if entry.is_symlink():
        yield Finding("link", f"{name}: expected a plain file, received a symbolic link")
    elif not entry.is_file(follow_symlinks=False) and not entry.is_dir():
        yield Finding("link", f"{name}: expected a plain file, received a device, pipe or socket")
    elif name not in _KNOWN and not _SHARD.fullmatch(name) and not name.startswith("assets/"):
        yield Finding("unknown_file", f"{name} belongs to no SavedModel that is served here")


def _check_shards(names: set[str]) -> list[Finding]:
    """The shards say how many they are; each of them is there."""
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    if not shards:
        return [Finding("missing_file", "variables/variables.data-*-of-* is missing")]
    counts = {int(match[2]) for match in shards}
    if len(counts) > 1:
        told = f"the shards of the variables say that they are {sorted(counts)}"
        return [Finding("unknown_file", told)]
    (count,) = counts
    present = {int(match[1]) for match in shards}
    missing = sorted(set(range(count)) - present)
    return [
        Finding("missing_file", f"variables/variables.data-{n:05}-of-{count:05} is missing")
        for n in missing[:3]
    ]
