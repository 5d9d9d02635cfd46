"""Nothing that the caller of the suite has set reaches what its tests start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import MACHINE, ROOT, environment

TELL = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
# What a user's shell may bring; `make` adds MAKELEVEL and the like.
BROUGHT = {"ARGS", "BNPIPE_CONFIG", "BNPIPE_HOME", "COLUMNS", "LC_ALL", "MAKEFLAGS"}
BROUGHT |= {"PYTEST_ADDOPTS", "PYTHONPATH", "PYTHONSAFEPATH", "TOY_FAIL", "TZ"}


def test_a_child_has_what_the_machine_needs_and_what_the_test_sets() -> None:
    told = subprocess.check_output(TELL, env=environment(BNPIPE_HOME="here"))
    assert json.loads(told).keys() <= MACHINE | {"LANG", "LC_CTYPE", "BNPIPE_HOME"}


def test_a_child_that_is_given_nothing_has_what_this_process_has_kept() -> None:
    told = json.loads(subprocess.check_output(TELL)).keys()
    assert not {n for n in told if n in BROUGHT or n.startswith(("BNPIPE_", "MAKE", "MFLAGS"))}


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_a_hostile_caller_of_make_test_does_not_reach_them(workers: str, tmp_path: Path) -> None:
    """The two tests above, with what a user's shell may bring, and `make` adds its own."""
    brought = dict.fromkeys(BROUGHT, str(tmp_path))
    brought |= {"MAKEFLAGS": "--keep-going", "PYTEST_ADDOPTS": "--durations=1"}
    chosen = f"{Path(__file__).relative_to(ROOT)} -k a_child --durations=5 -p no:cacheprovider"
    here = os.path.relpath(sys.prefix, ROOT)  # make takes a space for the end of a name
    installed = (f"VENV={here}", f"--old-file={here}/.installed")
    done = subprocess.run(
        ["make", *installed, "test", f"ARGS={workers} {chosen}"],
        cwd=ROOT,
        env=environment(**brought),
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
