"""How servers are found, started and, whatever happens, ended."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnpipe.components.infra_validator import process, servers
from bnpipe.components.infra_validator.process import PORT_ATTEMPTS, Refused, serving
from bnpipe.components.infra_validator.servers import BINARY, IMAGE, STAND_IN, Server, find, launch
from bnpipe.serving.errors import ServingError
from tests.child import environment
from tests.waiting import PATIENCE, wait_for

Fake = Callable[[str], Server]


def try_it(server: Server, folder: Path) -> None:
    """Starts it as the step does."""
    with serving(server, folder, folder / "log", time.monotonic() + PATIENCE):
        pass


def is_gone(pid: int) -> bool:
    """Whether a process has ended; also one that nobody has asked about yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_a_server_that_serves_is_ended_with_all_its_children(fake: Fake, tmp_path: Path) -> None:
    server = fake(
        """
        child = os.fork()
        if not child:
            time.sleep(600)
        (here / "child").write_text(str(child))
        serve()
        """
    )
    until = time.monotonic() + PATIENCE
    with serving(server, tmp_path, tmp_path / "log", until) as (running, found):
        assert found.rest.startswith("http://127.0.0.1:")
        running.check_alive()
        pids = [int((tmp_path / name).read_text()) for name in ("pid", "child")]
        assert not any(is_gone(pid) for pid in pids)
    wait_for(lambda: all(is_gone(pid) for pid in pids))


def test_a_server_that_never_serves_is_a_fault_and_ended(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs out once it has said what it waits for."""
    server = fake("print('waiting for a version', flush=True); time.sleep(600)")

    def now() -> float:
        return 2 * PATIENCE if "waiting" in (tmp_path / "log").read_text() else 0.0

    clock = SimpleNamespace(monotonic=now, sleep=time.sleep)
    monkeypatch.setattr(process, "time", clock)
    told = r"does not serve in time; it said last: waiting for a"
    with (
        pytest.raises(ServingError, match=told),
        serving(server, tmp_path, tmp_path / "log", PATIENCE),
    ):
        pass
    wait_for(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_a_server_that_dies_is_a_fault_with_its_last_words(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"ended before it served \(exit code 3\).*no license"):
        try_it(fake("sys.exit(print('no license', file=sys.stderr) or 3)"), tmp_path)
    with pytest.raises(ServingError, match=r"ended before it served \(signal SIGSEGV\)"):
        try_it(fake(f"os.kill(os.getpid(), {int(signal.SIGSEGV)})"), tmp_path)


def test_a_model_that_cannot_be_loaded_is_refused_in_the_servers_words(
    fake: Fake, tmp_path: Path
) -> None:
    words = "UNKNOWN: 1 servable(s) did not become available: {no variables}, "
    server = fake(f"sys.exit('Failed to start server. Error: {words}')")
    with pytest.raises(Refused, match=r"did not become available: \{no variables\}$"):
        try_it(server, tmp_path)


def test_a_port_that_somebody_took_is_exchanged(fake: Fake, tmp_path: Path) -> None:
    server = fake(
        """
        if (here / "once").exists():
            serve()
        (here / "once").touch()
        sys.exit("E server.cc: Address already in use")
        """
    )
    try_it(server, tmp_path)


def test_ports_that_are_always_taken_are_a_fault(fake: Fake, tmp_path: Path) -> None:
    server = fake(
        """
        with (here / "tries").open("a") as file:
            file.write("x")
        sys.exit("Failed to BuildAndStart gRPC server")
        """
    )
    with pytest.raises(ServingError, match="another process took its ports; run again"):
        try_it(server, tmp_path)
    assert len((tmp_path / "tries").read_text()) == PORT_ATTEMPTS


def test_a_server_ends_when_the_run_is_killed(fake: Fake, tmp_path: Path) -> None:
    server = fake("serve()")
    code = (
        "import os, signal, time, pathlib\n"
        "from bnpipe.components.infra_validator.process import serving\n"
        "from bnpipe.components.infra_validator.servers import Server\n"
        f"server = Server({server.name!r}, 'fake', {server.program!r})\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with serving(server, folder, folder / 'log', time.monotonic() + 300):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment())
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: is_gone(int((tmp_path / "pid").read_text())))


def path_with(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """A PATH that holds nothing but these shell scripts."""
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_best_server_that_there_is_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_with(tmp_path, monkeypatch)
    assert find(None) == Server(STAND_IN, STAND_IN)
    path_with(tmp_path, monkeypatch, docker="exit 1")
    assert not find(None).real
    path_with(tmp_path, monkeypatch, docker="echo sha256:abc")
    assert find(None) == Server("docker", f"{IMAGE} sha256:abc", str(tmp_path / "docker"))
    path_with(tmp_path, monkeypatch, tensorflow_model_server="exit 0")
    found = find(None)
    assert (found.name, found.program) == (BINARY, str(tmp_path / BINARY))
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n# another release")
    other.chmod(0o755)
    assert find(str(other)).program == str(other)
    assert find(str(other)).identity != found.identity


def test_an_engine_that_does_not_answer_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "DOCKER_ANSWER_SECONDS", 0.2)
    path_with(tmp_path, monkeypatch, docker="exec /bin/sleep 60")
    assert not find(None).real


def test_a_server_that_is_configured_must_be_a_program(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name in ("text", "none", "."):
        with pytest.raises(ServingError, match=r"serving.server_binary: expected a program"):
            find(str(tmp_path / name))


def test_a_container_pulls_nothing_is_loopback_only_and_ends_by_name(tmp_path: Path) -> None:
    started = launch(Server("docker", "x", "/usr/bin/docker"), tmp_path, 1001, 1002)
    words = list(started.command)
    (name,) = (w.removeprefix("--name=") for w in words if w.startswith("--name="))
    assert list(started.ending) == ["/usr/bin/docker", "kill", name]
    assert {"--pull=never", "--rm", f"--volume={tmp_path}:{tmp_path}:ro"} <= set(words)
    published = [w for w in words if w.startswith("--publish=")]
    assert published == ["--publish=127.0.0.1:1001:8501", "--publish=127.0.0.1:1002:8500"]
    assert words.index("--entrypoint=timeout") < words.index(IMAGE) < words.index(BINARY)


def test_no_folder_of_the_user_is_taken_for_our_code(tmp_path: Path) -> None:
    for name in ("bnpipe/serving/__init__.py", "serving/__init__.py", "queue.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    started = launch(Server(STAND_IN, STAND_IN), tmp_path, 0, 0)
    command = [*started.command[:3], "bnpipe.serving.folder.names"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(started.environment))
    assert done.returncode == 0
