"""Settings that are paths: all of them are read in one way."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.configuration.config import home_from, load, schema
from bnpipe.pipeline.configuration.publishing import served_folder
from bnpipe.pipeline.engine.errors import ConfigError

PATHS = [
    "data.archives",
    "data.schema",
    "data.spans",
    "serving.base_path",
    "serving.server_binary",
    "serving.signing_key",
    "serving.verify_key",
    "deploy.traffic_log",
    "schedule.requests",
    "notify.webhook_file",
    "notify.secret_file",
    "notify.prometheus_file",
]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the user who types `~`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / "user").mkdir()
    return tmp_path / "user"


def value(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


@pytest.mark.parametrize("key", PATHS)
def test_a_tilde_is_the_user_s_home_in_every_path(key: str, user: Path) -> None:
    settings = load(sets=[f"{key}=~/a b"], environ={})
    assert value(settings, key) == f"{user}/a b"
    assert settings.snapshot()[key.split(".")[0]][key.split(".")[1]] == f"{user}/a b"


def test_every_setting_that_is_described_as_a_file_or_folder_is_such_a_path() -> None:
    described = schema()
    for section, reference in described["properties"].items():
        keys = described["$defs"][reference["$ref"].rpartition("/")[2]].get("properties", {})
        for key, of in keys.items():
            first = of.get("description", "").partition(".")[0].lower()
            if "'string'" in str(of) and any(w in first for w in ("file", "folder", "(pem)")):
                # That one KServe reads, as the address of a claim or a bucket.
                assert f"{section}.{key}" in [*PATHS, "deploy.storage_uri"]


def test_a_tilde_is_the_user_s_home_in_a_list_and_in_the_environment(user: Path) -> None:
    assert load(sets=["serving.verify_key=[~/a, ~/b]"], environ={}).serving.verify_key == (
        f"{user}/a",
        f"{user}/b",
    )
    (user / "bnpipe.yaml").write_text("trainer: {epochs: 3}\n")
    environ = {"BNPIPE_ARCHIVES": "~/mnist", "BNPIPE_CONFIG": "~/bnpipe.yaml"}
    settings = load(environ=environ)
    assert (settings.data.archives, settings.trainer.epochs) == (f"{user}/mnist", 3)
    assert home_from({"BNPIPE_HOME": "~/home"}) == user / "home"


def test_a_tilde_is_the_user_s_home_in_options(
    user: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "CONFIG", "ARCHIVES"):
        monkeypatch.delenv(f"BNPIPE_{name}", raising=False)
    monkeypatch.setenv("BNPIPE_HOME", "~/state")
    (user / "own.yaml").write_text("schedule: {every: 1d}\n")
    words = ["--kind=systemd", "--output=~/units", "--config=~/own.yaml"]
    assert call(["schedule", "render", *words]) == 0
    unit = (user / "units" / "bnpipe-retrain.service").read_text()
    assert f'Environment="BNPIPE_HOME={user}/state"' in unit
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert shlex.split(start)[-2:] == ["--config", f"{user}/own.yaml"]


@pytest.mark.parametrize("key", [key for key in PATHS if key != "serving.base_path"])
def test_an_address_is_no_path(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(sets=[f"{key}=gs://bucket/a"], environ={})
    assert str(caught.value).startswith(
        f"{key}: expected a path on this machine, got 'gs://bucket/a'"
    )


def test_an_address_is_no_home_and_no_configuration(tmp_path: Path) -> None:
    for name, ask in (("BNPIPE_HOME", home_from), ("BNPIPE_CONFIG", lambda e: load(environ=e))):
        with pytest.raises(ConfigError) as caught:
            ask({name: "s3://bucket/a"})
        assert str(caught.value) == (
            f"{name}: expected a path on this machine, received 's3://bucket/a'"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["user"]


def test_an_address_may_be_what_is_published_to(tmp_path: Path) -> None:
    settings = load(sets=["serving.base_path=gs://bucket/a"], environ={})
    assert settings.serving.base_path == "gs://bucket/a"
    assert served_folder(settings, tmp_path) == tmp_path / "served" / "mnist"
