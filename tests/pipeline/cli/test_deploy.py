"""`bnpipe deploy render`, and what the runbook tells people to type."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from bnpipe.data.errors import RequestError
from bnpipe.pipeline.cli.app import app, call
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.serving.deploy.render import KINDS
from bnpipe.serving.errors import ServingError
from tests.serving.folder.served import closed, push, saved_model

FILES = [path for files in KINDS.values() for path in files]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BNPIPE_ARCHIVES", raising=False)
    base = tmp_path / "served" / "mnist"
    base.parent.mkdir()
    Path("bnpipe.yaml").write_text(f"serving: {{base_path: '{base}', model_name: mnist}}")
    push(base, saved_model(tmp_path / "model", "one"))
    return base


def test_everything_is_written(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["deploy", "render", "--set", "deploy.replicas=3"]) == 0
    assert capsys.readouterr().out.split() == [f"deploy/{path}" for path in FILES]
    assert "minReplicas: 3" in Path("deploy/kubernetes/hpa.yaml").read_text()
    assert f'source: "{base}"' in Path("deploy/compose.yaml").read_text()
    assert (base / "monitoring.config").is_file()
    assert "versions: 1 }" in Path("deploy/kubernetes/configmap.yaml").read_text()


def test_some_kinds_in_a_folder(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["--kind", "compose", "--kind", "runbook"]
    assert call(["deploy", "render", *kinds, "--output", "there", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": "there",
        "files": ["compose.yaml", "nginx.conf", "runbook.md"],
        "labels_wait": False,
    }
    there = sorted(path.name for path in Path("there").iterdir())
    assert there == ["compose.yaml", "nginx.conf", "runbook.md"]


def test_image_and_cluster_of_beam_need_nothing_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    sets = ["deploy.beam.image=registry.example/bnpipe:7", "trainer.epochs=3"]
    words = [word for text in sets for word in ("--set", text)]
    assert call(["deploy", "render", "--kind", "beam", *words]) == 0
    assert sorted(f"beam/{path.name}" for path in Path("deploy/beam").iterdir()) == sorted(
        KINDS["beam"]
    )
    assert not Path("home").exists()
    cluster = list(yaml.safe_load_all(Path("deploy/beam/flink.yaml").read_text()))
    (config,) = (d["data"]["bnpipe.yaml"] for d in cluster if d["metadata"]["name"] == "bnpipe-run")
    assert yaml.safe_load(config)["trainer"]["epochs"] == 3
    assert 'image: "registry.example/bnpipe:7"' in Path("deploy/beam/run.yaml").read_text()


def test_a_push_reaches_the_cluster_in_two_steps(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deploy", "render", "--kind", "kubernetes"]
    assert call(words) == 0
    push(base, saved_model(tmp_path / "model2", "two"))
    capsys.readouterr()
    configmap = Path("deploy/kubernetes/configmap.yaml")
    assert call(words) == 0
    assert "stable moves to v2 in a second step: apply, wait" in capsys.readouterr().out
    assert "versions: 1 versions: 2 }" in configmap.read_text()
    assert 'key: "stable" value: 1 }' in configmap.read_text()
    assert call(words) == 0
    assert "second step" not in capsys.readouterr().out
    assert 'key: "stable" value: 2 }' in configmap.read_text()


def test_a_canary_beside_stable_until_the_second_step(base: Path, tmp_path: Path) -> None:
    words = ["deploy", "render", "--kind", "kubernetes"]
    assert call(words) == 0
    push(base, saved_model(tmp_path / "model2", "two"))
    assert call(["promote", "2", "--label", "canary"]) == 0
    configmap = Path("deploy/kubernetes/configmap.yaml")
    for stable in (1, 2):
        assert call(words) == 0
        assert f'key: "stable" value: {stable} }}' in configmap.read_text()
        assert 'key: "canary" value: 2 }' in configmap.read_text()


def test_mistakes(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"--kind: expected compose, .* received 'helm'"):
        call(["deploy", "render", "--kind", "helm"])
    with pytest.raises(ServingError, match="a tag that always means the same image"):
        call(["deploy", "render", "--set", "deploy.image=tensorflow/serving:latest"])
    with pytest.raises(ServingError, match="nothing is published") as raised:
        call(["deploy", "render", "--set", "serving.base_path=nowhere"])
    assert raised.value.hint == "publish a model: bnpipe run; --kind beam needs none"
    assert not Path("deploy").exists()


def test_every_command_of_the_runbook_exists(base: Path) -> None:
    assert call(["deploy", "render"]) == 0
    Path("seven.png").touch()
    verbs = typer.main.get_command(app()).commands  # type: ignore[attr-defined]
    blocks = re.findall(r"```sh\n(.*?)```", Path("deploy/runbook.md").read_text(), re.S)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]
    ours = [words for words in lines if words[0] == "bnpipe"]
    assert {words[1] for words in ours} >= {"deploy", "rollback", "promote", "predict", "smoke"}
    for _, verb, *words in ours:
        command = verbs[verb]
        if hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(verb, words)
    written = {word for words in lines for word in words if word.endswith(".yaml")}
    assert written and all(Path("deploy", path).is_file() for path in written)
    known = {"bnpipe", "kubectl", "docker", "curl", "sudo", "VERSION=1"}
    assert {words[0] for words in lines} <= known


def test_files_that_people_wrote_are_replaced_by_force_only(base: Path) -> None:
    own = "services: {mine: {volumes: [./.bnpipe/served/mnist]}}\n"
    Path("deploy").mkdir()
    Path("deploy/compose.yaml").write_text(own)
    with pytest.raises(RequestError, match=r"compose\.yaml was not written by bnpipe.*--force"):
        call(["deploy", "render"])
    assert Path("deploy/compose.yaml").read_text() == own
    assert [p.name for p in Path("deploy").iterdir()] == ["compose.yaml"]
    assert call(["deploy", "render", "--force"]) == 0
    assert "tensorflow/serving" in Path("deploy/compose.yaml").read_text()
    assert call(["deploy", "render"]) == 0  # all of these are ours


def test_what_is_rendered_is_readable_by_other_users_whatever_the_umask(base: Path) -> None:
    before = os.umask(0o077)
    try:
        assert call(["deploy", "render"]) == 0
    finally:
        os.umask(before)
    assert closed([Path("deploy"), *Path("deploy").rglob("*")]) == []
