"""Checks of the installation and of this home, each one line: what to paste into a bug report."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bnpipe.data.environment import environment
from bnpipe.data.errors import DataError
from bnpipe.data.sources.checksums import RENDERED, local_archives
from bnpipe.pipeline.cluster import Check
from bnpipe.pipeline.engine.fingerprint import ROOT
from bnpipe.pipeline.shadows import shadows

_LEAST_FREE = 2 * 10**9

# Importing TFMA swallows ImportErrors and leaves names out: ask a child for what is used.
_WHOLE_TFMA = """
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
tfma.ExtractEvaluateAndWriteResults, tfma.default_eval_shared_model, tfma.load_eval_result
tfma.load_validation_result, config_pb2.EvalConfig
"""


def examine(home: Path, archives: str | None, dataset: str = "mnist") -> Iterator[Check]:
    """All checks, quick ones first; `archives` is the folder for those of the data set."""
    yield Check("python", (3, 11) <= sys.version_info[:2] <= (3, 13), platform.python_version())
    yield Check("platform", True, platform.platform())
    for name, version in environment().items():
        if name != "python":
            yield Check(name, version != "missing", version)
    yield from _lock()
    for name, path in shadows():
        yield Check(f"module {name}", False, f"hidden by {path}")
    for room in ("pipeline", "components", "serving", "data"):
        yield _package(f"bnpipe.{room}")
    yield _disk(home)
    if archives and dataset != RENDERED:
        yield _archives(dataset, Path(archives))
    yield _tfma()


def _lock() -> Iterator[Check]:
    """Installed versions against the lock file, for the libraries that matter."""
    lock = ROOT / "requirements.lock"
    if not lock.exists():
        yield Check("lock", True, "not a checkout: no requirements.lock to compare with")
        return
    pins: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        name, pinned, rest = line.partition("==")
        if pinned and not line.startswith((" ", "#")):
            pins.setdefault(name.strip(), set()).add(rest.split()[0].rstrip(";\\"))
    differing = [
        f"{name} {version} (lock: {', '.join(sorted(pins[name]))})"
        for name, version in environment().items()
        if name in pins and version not in pins[name]
    ]
    yield Check("lock", not differing, "; ".join(differing) or "installed versions are the locked")


def _package(name: str) -> Check:
    """Check that a package of ours comes from where this code lies: a namespace can be mixed."""
    spec = importlib.util.find_spec(name)
    origin = Path(spec.origin) if spec and spec.origin else None
    ours = origin is not None and origin.resolve().is_relative_to(ROOT)
    return Check(f"package {name}", ours, str(origin) if ours else f"shadowed by {origin}")


def _disk(home: Path) -> Check:
    existing = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    return Check("disk", free > _LEAST_FREE, f"{free / 1e9:.1f} GB free for {home}")


def _archives(dataset: str, folder: Path) -> Check:
    """The data set's archives against what TFDS registers."""
    try:
        archives = local_archives(dataset, folder)
    except DataError as error:
        return Check("archives", False, str(error))
    if archives.foreign:
        return Check("archives", False, archives.describe_foreign(dataset))
    states = {
        "damaged": sorted(archives.damaged),
        "intact": sorted(archives.intact),
        "missing": sorted(a.name or a.url for a in archives.missing),
    }
    lines = "; ".join(f"{state}: {', '.join(names)}" for state, names in states.items() if names)
    text = f"{archives.folder}: {lines or f'TFDS registers none for {dataset}'}"
    return Check("archives", bool(archives.intact) and not archives.damaged, text)


def _tfma() -> Check:
    done = subprocess.run([sys.executable, "-P", "-c", _WHOLE_TFMA], capture_output=True, text=True)
    whole = done.returncode == 0
    lines = done.stderr.strip().splitlines() or ["no output"]
    return Check("TFMA is whole", whole, "yes" if whole else lines[-1])
