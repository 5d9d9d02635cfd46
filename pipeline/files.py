"""Files of the store: replaced durably, removed for good. The basics are `serving.durable`'s."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bnpipe.serving.durable import fsync as fsync
from bnpipe.serving.durable import replace_text


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically and durably: a reader sees the old text or the new one."""
    replace_text(path, text, staging=path.parent)


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def remove_tree(path: Path) -> None:
    """Remove a file or folder if it is there, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
