"""What only notebooks need is not loaded with TensorFlow and Beam, and is there for who asks."""

import json
import subprocess
import sys
from importlib.machinery import PathFinder
from types import SimpleNamespace
from typing import Any

import pytest

from bnpipe.data import lean_import
from bnpipe.data.lean_import import ONLY_SHOWN
from tests.child import environment

CODE = """
import json, sys
{before}
from bnpipe.data import lean_import
lean_import.install()
failed = []
for name in {heavy}:
    try:
        __import__(name)
    except ImportError:
        failed.append(name)
loaded = [name for name in {shown} if name in sys.modules]
for name in {shown}:
    __import__(name)
print(json.dumps((loaded, failed)))
"""


def imported(heavy: list[str], before: str = "") -> tuple[list[str], list[str]]:
    """Which of them came with others, and what failed; then all must be there, or this fails."""
    code = CODE.format(before=before, heavy=heavy, shown=ONLY_SHOWN)
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    loaded, failed = json.loads(run.stdout)
    return loaded, failed


@pytest.mark.parametrize("heavy", [["tensorflow"], ["keras", "apache_beam", "tensorflow"]])
def test_heavy_libraries_come_without_them(heavy: list[str]) -> None:
    assert imported(heavy) == ([], [])


def test_what_a_user_has_imported_stays() -> None:
    assert imported(["keras"], before="import matplotlib") == (["matplotlib"], [])


def test_who_finds_modules_in_a_way_of_his_own_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    hook: Any = SimpleNamespace(find_spec=lambda name, path, target=None: asked.append(name))
    monkeypatch.setattr(sys, "meta_path", [hook, PathFinder])
    lean_import.install()
    assert sys.meta_path[0].find_spec("keras", None) is not None
    assert asked == ["keras"]


def test_they_are_back_when_an_import_has_failed() -> None:
    broken = "sys.modules['absl'] = None"  # Keras does not load without it
    assert imported(["keras"], before=broken) == ([], ["keras"])
