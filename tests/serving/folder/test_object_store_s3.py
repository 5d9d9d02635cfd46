"""The tests of object stores once more, on an S3 server: moto's, and s3fs as setup.py names it."""

import re
import runpy
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import setuptools

from tests.child import ROOT, S3, environment
from tests.on_top import interpreter_with
from tests.waiting import wait_for

FILES = ("test_object_store.py", "test_object_store_fetch.py")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def extras() -> dict[str, list[str]]:
    """As setup.py has them."""
    found: dict[str, list[str]] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(setuptools, "setup", lambda **words: found.update(words["extras_require"]))
        patched.chdir(ROOT)
        runpy.run_path("setup.py")
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with s3fs and moto on top of what the tests run with."""
    folder = tmp_path_factory.mktemp("s3") / "env"
    return interpreter_with(folder, *extras()["s3"], "moto[server]>=5,<6")


@pytest.fixture
def endpoint(python: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "moto.log").open("w") as log:
        server = subprocess.Popen(words, env=environment(), stdout=log, stderr=log)

    def answers() -> bool:
        assert server.poll() is None, (tmp_path / "moto.log").read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_publishing_to_s3(python: Path, endpoint: str, tmp_path: Path) -> None:
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    words = [
        python,
        "-m",
        "pytest",
        "-n0",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "s3 and not opened",
        *files,
    ]
    environ = environment(**{S3: endpoint, "PYTHONPATH": str(ROOT)})
    done = subprocess.run(
        [*words, f"--basetemp={tmp_path / 'inner'}"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) >= 10, done.stdout
