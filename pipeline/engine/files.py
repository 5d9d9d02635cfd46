"""Files of the store: JSON replaced durably, trees removed. The basics are `data.durable`'s."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bnpipe.data.durable import replace_text
from bnpipe.data.json_text import json_text


def write_json(path: Path, value: Any) -> None:
    """Replace a file atomically and durably by indented JSON."""
    replace_text(path, json_text(value, indent=2, sort_keys=True, default=str) + "\n")


def remove_tree(path: Path) -> None:
    """Remove a file or folder if it is there, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
