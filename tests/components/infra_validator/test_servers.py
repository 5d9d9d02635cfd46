"""Which server is found, and how it is started."""

from pathlib import Path

import pytest

from bnpipe.components.infra_validator import servers
from bnpipe.components.infra_validator.servers import BINARY, IMAGE, STAND_IN, Server, find, launch
from bnpipe.data.errors import RequestError


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
        with pytest.raises(RequestError, match=r"serving.server_binary: expected a program"):
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
