"""Modules that another one of their name hides: a `queue.py` in a folder that PYTHONPATH names.

Whoever asks may be unable to import anything, of ours or of others, so this uses `os` alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder, all_suffixes

_ROOMS = ("pipeline", "components", "serving", "data")
_HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_INSTALLED = ("site-packages", "dist-packages", "lib-dynload")


def shadows() -> list[tuple[str, str]]:
    """The modules that are hidden, each with the file or folder that is imported in their place.

    Of the standard library, of the installed packages, and of ours (`bnpipe.data`).
    """
    found: list[tuple[str, str]] = []
    folders = list(dict.fromkeys(map(os.path.abspath, sys.path)))
    for place, folder in enumerate(folders):
        if os.path.basename(folder) in _INSTALLED or folder == os.path.dirname(os.__file__):
            continue
        for name, path in _modules(folder):
            if name == "bnpipe":
                found += _rooms(path)
            elif name in sys.stdlib_module_names or PathFinder.find_spec(
                name, folders[place + 1 :]
            ):
                found.append((name, path))
    return found


def _modules(folder: str) -> Iterator[tuple[str, str]]:
    """Name and path of what a folder lets be imported: files, packages, and a part of `bnpipe`."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # not there, a zip file
        return
    for name in names:
        path = os.path.join(folder, name)
        stem = next((name.removesuffix(end) for end in all_suffixes() if name.endswith(end)), "")
        if stem.isidentifier() and os.path.isfile(path):
            yield stem, path
        elif name == "bnpipe" or os.path.isfile(os.path.join(path, "__init__.py")):
            yield name, path


def _rooms(folder: str) -> Iterator[tuple[str, str]]:
    """The rooms in another folder called `bnpipe` than the one that this code is of."""
    for room in _ROOMS:
        path = os.path.join(folder, room)
        if os.path.isdir(path) and os.path.realpath(path) != os.path.join(_HERE, room):
            yield f"bnpipe.{room}", path
