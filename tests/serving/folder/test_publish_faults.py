"""Kills, full disks, read-only disks, readers and rivals: what was live stays whole and live."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import versions
from tests.child import WITH_TESTS, environment
from tests.serving.folder.crash_points import SCENARIOS
from tests.serving.folder.served import events, leftovers, push, saved_model, torn, visible

SYSCALLS = (
    *("mkdir", "write", "fsync", "rename", "chmod", "fchmod", "sendfile", "flock", "openat"),
    *("unlink", "unlinkat", "rmdir"),
)


def python(*arguments: str | Path, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """A Python process that can import the tests."""
    return subprocess.Popen(
        [*before, sys.executable, *map(str, arguments)],
        env=environment(**WITH_TESTS),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


# ------------------------------------------------------------------------------ kills, disk faults


# EIO differs from ENOSPC in its text only, as long as every call fails alike.
SLOW = ("kill twice", "eio", "signed push and prune")
# These add calls to others, whose disk faults are explored already.
SLOW_BUT_FOR_KILLS = (
    "signed push",
    "signed where it lies",
    "push in two edits",
    "rollback in two edits",
    "canary",
)


def marks_of(scenario: str, fault: str) -> list[pytest.MarkDecorator]:
    added = scenario in SLOW_BUT_FOR_KILLS and fault != "kill"
    slow = added or scenario in SLOW or fault in SLOW
    return [pytest.mark.slow] if slow else []


CASES = [
    pytest.param(scenario, fault, marks=marks_of(scenario, fault))
    for scenario in SCENARIOS
    for fault in ("kill", "kill twice", "tear", "enospc", "eio")
]


@pytest.mark.parametrize(("scenario", "fault"), CASES)
def test_stopped_at_every_file_system_call(
    scenario: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    result = json.loads(output(python("-m", "tests.serving.folder.crash_points", scenario, fault)))
    record_property("crash points", result["points"])
    assert result["broken"] == []
    assert result["points"] >= (3 if fault == "tear" else 90)
    # Most faults must reach the user as one line; those in clean-up may be absorbed.
    assert result["refused"] >= (result["points"] * 0.7 if fault in ("enospc", "eio") else 0)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC", "error=EIO"])
def test_stopped_at_every_system_call(
    tmp_path: Path, fault: str, record_property: Callable[[str, object], None]
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: it stops a process at a chosen system call")
    points = 0
    for content in "ab":
        saved_model(tmp_path / content, content)
    push(tmp_path / "template", tmp_path / "a")
    # What an earlier kill left: removing it is among the calls.
    saved_model(tmp_path / "template" / ".staging-dead", "dead")
    for call in SYSCALLS:
        number = 0
        while True:
            number += 1
            base = tmp_path / "served"
            shutil.rmtree(base, ignore_errors=True)
            shutil.copytree(tmp_path / "template", base)
            if not _stopped_by_strace(call, number, fault, base, tmp_path):
                break
            points += 1
            where = f"{fault} at {call} {number}"
            assert torn(base) == [], where
            assert versions.live(base) in (1, 2), where
            push(base, tmp_path / "b")
            assert tree_digest(base / str(versions.live(base))) == tree_digest(tmp_path / "b"), (
                where
            )
            assert torn(base) == leftovers(base) == [] and len(visible(base)) == 2, where
    record_property("crash points", points)
    assert points >= 40


def _stopped_by_strace(call: str, number: int, fault: str, base: Path, folder: Path) -> bool:
    """Push under strace; whether the call was reached, counted from the end of the start-up."""
    log = folder / "strace.log"
    program = (
        "import sys; from pathlib import Path; from tests.serving.folder.served import push; "
        "push(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    first = _calls_at_startup(call, folder)
    inject = f"inject={call}:{fault}:when={first + number}"
    strace = ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", inject)
    process = python("-B", "-c", program, base, folder / "b", before=strace)
    _, err = process.communicate()
    assert process.returncode in (0, 1, -9, 137), err
    if process.returncode == 1:
        assert "ServingError" in err.splitlines()[-1], err
    text = log.read_text()
    return "INJECTED" in text or "killed by SIGKILL" in text


_STARTUP: dict[str, int] = {}


def _calls_at_startup(call: str, folder: Path) -> int:
    """The number of calls that the interpreter makes before it can publish anything."""
    if call not in _STARTUP:
        log = folder / "startup.log"
        strace = ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}")
        output(python("-B", "-c", "import sys; import tests.serving.folder.served", before=strace))
        _STARTUP[call] = len(log.read_text().splitlines())
    return _STARTUP[call]


def test_everything_is_on_the_disk_before_something_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "served"
    push(base, saved_model(tmp_path / "a", "a"))
    paths: dict[int, Path] = {}
    durable: set[Path] = set()
    seen: list[str] = []
    real_open, real_fsync = os.open, os.fsync
    real_rename, real_replace = os.rename, os.replace

    def note_open(path: Any, *args: Any, **kwargs: Any) -> int:
        descriptor = real_open(path, *args, **kwargs)
        paths[descriptor] = Path(path)
        return descriptor

    def note_fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        durable.add(paths[descriptor])

    def check_rename(source: Path, target: Path) -> None:
        assert {source, *source.rglob("*"), base / "ledger.jsonl"} <= durable
        assert "reserved" in (base / "ledger.jsonl").read_text().splitlines()[-1]
        seen.append("version")
        real_rename(source, target)
        durable.clear()

    def check_replace(source: Path, target: Path) -> None:
        assert {source, base} <= durable
        if target.name == "models.config":
            assert {base / "ledger.jsonl", base / "provenance"} <= durable
            seen.append("config")
        real_replace(source, target)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", check_rename)
    monkeypatch.setattr(os, "replace", check_replace)
    push(base, saved_model(tmp_path / "b", "b"))
    assert seen == ["version", "config"]


_NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")


def on_small_disk(disk: Path, script: str) -> str:
    """Run a script with `base` and `disk` on a file system of 256 kB."""
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*_NAMESPACE, f"mount -t tmpfs tmpfs {disk}"], capture_output=True
        ).returncode
    ):
        pytest.skip("no mount namespace here: it holds the small disk")
    head = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from bnpipe.serving.folder import publish, standing, versions\n"
        "from bnpipe.serving.export.digest import tree_digest\n"
        "from bnpipe.serving.errors import ServingError\n"
        "from tests.serving.folder.served import *\n"
        "disk = Path(sys.argv[1])\n"
        "base = disk / 'mnist'\n"
    )
    mount = f'mount -t tmpfs -o size=256k tmpfs {disk} && exec "$@"'
    return output(python("-c", head + script, disk, before=(*_NAMESPACE, mount, "sh")))


def test_a_full_disk_is_one_line_and_leaves_room_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    saved_model(tmp_path / "a", "a")
    saved_model(tmp_path / "b", "b")
    saved_model(tmp_path / "big", "big" * 3000)
    message = on_small_disk(
        disk,
        f"models = Path({str(tmp_path)!r})\n"
        "push(base, models / 'a')\n"
        "try:\n"
        "    push(base, models / 'big')\n"
        "except ServingError as error:\n"
        "    print(error)\n"
        "assert versions.live(base) == 1 and torn(base) == leftovers(base) == []\n"
        "assert push(base, models / 'b').version == 2\n"
        "assert torn(base) == [] and visible(base) == ['1', '2']\n",
    )
    assert "No space left on device" in message and "free some space and run again" in message
    assert f"({disk}/mnist/.staging-" in message, "it is the served folder that is full"
    assert len(message.splitlines()) == 1


def test_a_read_only_disk_is_one_line_and_can_still_be_read(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    saved_model(tmp_path / "a", "a")
    saved_model(tmp_path / "b", "b")
    message = on_small_disk(
        disk,
        f"models = Path({str(tmp_path)!r})\n"
        "push(base, models / 'a')\n"
        "subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)\n"
        "for target in (base, disk / 'other'):\n"
        "    try:\n"
        "        push(target, models / 'b')\n"
        "    except ServingError as error:\n"
        "        print(error)\n"
        "a = tree_digest(models / 'a')\n"
        "assert versions.live(base) == 1\n"
        "assert standing.state_of(base, a).sentence == 'up to date (v1 live)'\n"
        "assert standing.champion(base, None).digest == a\n",
    )
    assert [line.count("Read-only file system") for line in message.splitlines()] == [1, 1]
    assert "make the disk writable" in message


# ------------------------------------------------------------------------------ readers, rivals

_READER = """
import sys
from pathlib import Path
from bnpipe.serving.folder import versions
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.errors import ServingError

base, models = Path(sys.argv[1]), Path(sys.argv[2])
whole = {tree_digest(m) for m in models.iterdir()}
print("ready", flush=True)
looks, broken, seen = 0, [], set()
while not (base / "enough").exists():
    if versions.live(base) is None and seen:
        broken.append("nothing is live")
    for path in base.iterdir():
        if versions.parse_version(path.name) is None:
            continue
        looks += 1
        seen.add(path.name)
        try:
            if tree_digest(path) not in whole:
                broken.append(path.name)
        except ServingError as error:
            if path.exists():
                broken.append(str(error))
print(looks, len(seen), broken)
"""


def test_a_reader_never_sees_a_part_of_a_version(tmp_path: Path) -> None:
    from bnpipe.serving.folder.labels import rollback
    from bnpipe.serving.folder.publish import prune

    base, models = tmp_path / "served", tmp_path / "models"
    base.mkdir()
    for number in range(25):
        saved_model(models / str(number), str(number))
    reader = python("-c", _READER, base, models)
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    for number in range(25):
        push(base, models / str(number))
        prune(base, 2)
        if number % 5 == 4:
            rollback(base, reason="practice")
    (base / "enough").touch()
    looks, seen, broken = output(reader).split(maxsplit=2)
    assert broken.strip() == "[]"
    assert int(looks) > 50 and int(seen) > 5


_RIVAL = """
import sys
from pathlib import Path
from tests.serving.folder.served import push

for model in sys.argv[2:]:
    published = push(Path(sys.argv[1]), Path(model))
    print(published.version, published.new)
"""


def test_two_homes_that_push_at_once_get_different_numbers(tmp_path: Path) -> None:
    base = tmp_path / "served"
    mine = [saved_model(tmp_path / f"mine{n}", f"mine{n}") for n in range(8)]
    theirs = [saved_model(tmp_path / f"theirs{n}", f"theirs{n}") for n in range(8)]
    rivals = [python("-c", _RIVAL, base, *models) for models in (mine, theirs)]
    lines = [line for rival in rivals for line in output(rival).splitlines()]
    assert sorted(int(line.split()[0]) for line in lines) == list(range(1, 17))
    assert versions.live(base) == 16
    assert torn(base) == leftovers(base) == []
    assert [number for _, number in events(base)] == [n for n in range(1, 17) for _ in "rp"]


def test_two_homes_that_push_the_same_bytes_make_one_version(tmp_path: Path) -> None:
    base, model = tmp_path / "served", saved_model(tmp_path / "a", "a")
    rivals = [python("-c", _RIVAL, base, model) for _ in range(2)]
    assert sorted(output(rival).strip() for rival in rivals) == ["1 False", "1 True"]
    assert visible(base) == ["1"]
