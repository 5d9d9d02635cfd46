"""A disk that fills up: one line, exit code 1, and nothing lost when there is room again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import WITH_TESTS, environment
from tests.pipeline.engine.run_crash_points import broken_end, broken_store
from tests.pipeline.toy_home import ToyHome, outputs

NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
SIZE = 1 << 20

# Runs inside the namespace, where the small disk is seen: fills it up to `room` bytes, runs, makes
# room, runs again.
PROGRAM = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from tests.pipeline.engine.run_crash_points import broken_store

disk, rooms = Path(sys.argv[1]), json.loads(sys.argv[2])
os.environ |= {"BNPIPE_HOME": str(disk / "home"), "TOY_FILE": sys.argv[3]}

def run():
    words = [sys.executable, "-m", "tests.pipeline.toy_cli", "run", "--json"]
    return subprocess.run(words, text=True, capture_output=True)

for room in rooms:
    shutil.rmtree(disk / "home", ignore_errors=True)
    free = shutil.disk_usage(disk).free
    with open(disk / "filler", "wb", buffering=0) as filler:
        left = free - room
        while left > 0:
            left -= filler.write(b"x" * min(left, 4096))
    full = run()
    broken = broken_store(disk / "home")
    (disk / "filler").unlink()
    again = run()
    shutil.copytree(disk / "home", f"{sys.argv[3]}-{room}", dirs_exist_ok=True)
    print(json.dumps([room, full.returncode, full.stderr, broken, again.returncode, again.stdout]))
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: it makes the mount namespace of the small disk")
    mount = subprocess.run([*NAMESPACE, f"mount -t tmpfs tmpfs {folder}"], capture_output=True)
    if mount.returncode:
        pytest.skip("no mount namespace may be made here: it holds the small disk")
    return folder


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(disk: Path, tmp_path: Path) -> None:
    toy = ToyHome(tmp_path / "toy")
    expected = outputs(toy.run(rate=10))
    rooms = [0, 40_000, 100_000]
    mount = f'mount -t tmpfs -o size={SIZE} tmpfs {disk} && exec "$@"'
    words = [sys.executable, "-c", PROGRAM, str(disk), json.dumps(rooms), str(toy.file)]
    done = subprocess.run(
        [*NAMESPACE, mount, "sh", *words],
        env=environment(**WITH_TESTS),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    codes = []
    for line in done.stdout.splitlines():
        room, code, told, broken, again, summary = json.loads(line)
        where = f"with {room} bytes of room: {told}"
        codes.append(code)
        assert code in (0, 1, 7), where
        if code:
            assert "No space left on device" in told or "database or disk is full" in told, where
            assert told.startswith("error: ") and len(told.splitlines()) == 1, where
        assert broken == [], where
        assert again == 0, where
        steps = {s["name"]: s["outputs"] for s in json.loads(summary)["steps"]}
        assert {name: steps[name] for name in expected} == expected, where
        home = Path(f"{toy.file}-{room}")
        assert broken_store(home) + broken_end(home) == [], where
    assert codes[0] == 1 and codes.count(1) >= 2


def test_a_file_that_may_not_grow_is_told_in_one_line(tmp_path: Path) -> None:
    """The same for a limit of file size, which hits one large file and not the small ones."""
    toy = ToyHome(tmp_path)
    toy.file.write_text("seven\n" * 30_000)
    words = [sys.executable, "-m", "tests.pipeline.toy_cli", "run", "--json"]
    environ = environment(BNPIPE_HOME=str(toy.home), TOY_FILE=str(toy.file), **WITH_TESTS)
    limit = "import os, resource, sys; "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); "
    limit += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    limited = [sys.executable, "-c", limit, *words[1:]]
    full = subprocess.run(limited, env=environ, text=True, capture_output=True)
    assert full.returncode == 1, full.stderr
    assert full.stderr.startswith("error: source failed: File too large")
    assert len(full.stderr.splitlines()) == 1
    assert broken_store(toy.home) == []
    again = subprocess.run(words, env=environ, text=True, capture_output=True)
    assert again.returncode == 0, again.stderr
    assert broken_store(toy.home) + broken_end(toy.home) == []
