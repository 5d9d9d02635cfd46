"""Looking needs no right to write: at the home of another user, or at one on a read-only disk."""

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnpipe.pipeline import cli, definition, doctor, launch
from bnpipe.pipeline.engine.lock import run_locks
from tests.pipeline import toy_cli
from tests.pipeline.toy_home import files_below

_VERSION_3 = 0x20080522  # <linux/capability.h>
_OVERRIDE = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: why modes do not bind root


def set_override(wanted: bool) -> None:
    """Let modes bind this process, root's too, or not any longer."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 of each
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    sets[0] = sets[0] | (sets[1] & _OVERRIDE) if wanted else sets[0] & ~_OVERRIDE
    assert libc.capset(header, sets) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the home of somebody who has run the toy twice."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "in.txt").write_text("seven\n")
    with pytest.MonkeyPatch.context() as patch:
        _at(folder, patch)
        for epochs in (1, 2):
            assert cli._main(["run", "--set", f"trainer.epochs={epochs}"]) == 0
    places = [folder, *(p for p in folder.rglob("*") if p.is_dir())]
    for place in places:
        place.chmod(0o555)
    yield folder
    for place in places:
        place.chmod(0o755)


def _at(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    patch.setenv("BNPIPE_HOME", str(folder / "home"))
    patch.setenv("TOY_FILE", str(folder / "in.txt"))
    patch.setattr(definition, "build", toy_cli.build)
    patch.setattr(launch, "build", toy_cli.build)
    patch.setattr(doctor, "_WHOLE_TFMA", "")


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same home, for one who may not write to it."""
    _at(made, monkeypatch)
    set_override(False)
    try:
        with pytest.raises(PermissionError):
            (made / "home" / "new").touch()
        yield made / "home"
    finally:
        set_override(True)


LOOKING = [
    "status",
    "plan",
    "runs",
    "show",
    "show latest/train",
    "show served/1",
    "show served/1 --format slsa",
    "show served/1 --format cyclonedx",
    "diff 1 2",
    "diff champion",
    "logs latest",
    "logs latest -f",
    "graph",
    "versions list",
    "versions verify",
    "schedule status",
    "config show",
    "config check",
    "gc",
    "gc --verify",
    "doctor",
]


@pytest.mark.parametrize("words", LOOKING)
def test_every_verb_that_looks_works_in_a_home_that_may_not_be_written(
    words: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_below(home)
    code = cli._main(words.split())
    assert code == 0 or words == "doctor"  # that judges the whole machine
    told = capfd.readouterr()
    assert told.out and not told.err
    assert files_below(home) == before


def test_a_run_at_work_is_seen_by_all(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    set_override(True)
    with run_locks(home) as locks:
        locks.begin("0007")
        set_override(False)
        assert cli._main(["status", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["running"] is True and "(run 0007)" in told["at_work"][0]


def test_a_report_is_written_elsewhere(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli._main(["report", "1"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("Permission denied → bnpipe report 0001 --out FILE writes it elsewhere")
    page = tmp_path / "page.html"
    assert cli._main(["report", "1", "--out", str(page), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"run": "0001", "report": str(page)}
    assert page.read_text().startswith("<!doctype html>")


def test_files_are_written_elsewhere(home: Path, tmp_path: Path) -> None:
    assert cli._main(["export", "latest/train", str(tmp_path / "in" / "model")]) == 0
    assert any((tmp_path / "in" / "model").iterdir())
    assert cli._main(["deploy", "render", "--output", str(tmp_path / "deploy")]) == 0
    units = ["schedule", "render", "--kind", "systemd", "--output", str(tmp_path / "units")]
    assert cli._main(units) == 0
