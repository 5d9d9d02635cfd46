"""How servers are started and, whatever happens, ended."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnpipe.components.infra_validator import process
from bnpipe.components.infra_validator.process import PORT_ATTEMPTS, Refused, serving
from bnpipe.components.infra_validator.servers import STAND_IN, Server, launch
from bnpipe.serving.errors import ServingError
from tests.child import environment
from tests.waiting import PATIENCE, is_gone, wait_for

Fake = Callable[[str], Server]


def try_it(server: Server, folder: Path) -> None:
    """Starts it as the step does."""
    with serving(server, folder, time.monotonic() + PATIENCE):
        pass


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
    with serving(server, tmp_path, until) as (running, found):
        assert found.rest.startswith("http://127.0.0.1:")
        running.check_alive()
        pids = [int((tmp_path / name).read_text()) for name in ("pid", "child")]
        assert not any(is_gone(pid) for pid in pids)
    wait_for(lambda: all(is_gone(pid) for pid in pids))


def test_a_server_that_never_serves_is_a_fault_and_ended(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs out once it has said what it waits for."""
    server = fake(
        """
        print('waiting for a version', flush=True)
        (here / "waiting").touch()
        time.sleep(600)
        """
    )

    def now() -> float:
        return 2 * PATIENCE if (tmp_path / "waiting").exists() else 0.0

    clock = SimpleNamespace(monotonic=now, sleep=time.sleep)
    monkeypatch.setattr(process, "time", clock)
    told = r"does not serve in time; it said last: waiting for a"
    with (
        pytest.raises(ServingError, match=told),
        serving(server, tmp_path, PATIENCE),
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
        "with serving(server, folder, time.monotonic() + 300):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment())
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_no_folder_of_the_user_is_taken_for_our_code(tmp_path: Path) -> None:
    for name in ("bnpipe/serving/__init__.py", "serving/__init__.py", "queue.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    started = launch(Server(STAND_IN, STAND_IN), tmp_path, 0, 0)
    command = [*started.command[:3], "bnpipe.serving.folder.names"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(started.environment))
    assert done.returncode == 0
