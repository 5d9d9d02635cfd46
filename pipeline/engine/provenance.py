"""The origin of a run's code and environment, as texts that travel with a pushed model."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from bnpipe.data.digest import file_sha256
from bnpipe.data.environment import environment
from bnpipe.pipeline.engine.fingerprint import ROOT, CodeDigests, digest_of


def provenance(
    run: str, config: object, run_folder: Path, code: CodeDigests, modules: Iterable[str]
) -> dict[str, str]:
    """Run id, config, code, lock and git identity; writes `diff.patch` when the checkout is dirty.

    Args:
        run: the run's id.
        config: the resolved configuration, as plain values.
        run_folder: where the patch goes.
        code: digests of modules.
        modules: the modules of the steps; with what they import they are the code's digest.
    """
    source = {"run": run, "config_digest": digest_of(config)}
    source["code_digest"] = digest_of(code.closure(sorted({*modules})))
    source |= {f"version_{name}": version for name, version in environment().items()}
    lock = ROOT / "requirements.lock"
    if lock.exists():
        source["lock_digest"] = file_sha256(lock)
    commit = _git("rev-parse", "HEAD")
    if commit:
        source["git_commit"] = commit.strip()
        patch = _git("diff", "HEAD") or ""
        source["git_dirty"] = "yes" if patch or _git("status", "--porcelain") else "no"
        if patch:
            (run_folder / "diff.patch").write_text(patch)
    return source


def _git(*args: str) -> str | None:
    """Output of a git command in the checkout; None outside one, or without git."""
    if not (ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
