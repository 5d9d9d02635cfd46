"""Every setting with the odd values of its type: accepted and meant, or refused at once by name."""

import dataclasses
import datetime
import json
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline import cli
from bnpipe.pipeline.configuration.config import Config, from_values
from bnpipe.pipeline.engine.errors import ConfigError
from tests.serving.folder.served import push, saved_model


def settings(cls: type[Any] = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every key that a user can set, with its type."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from settings(hints[f.name], (*path, f.name))
        elif "config" not in f.metadata:
            yield ".".join((*path, f.name)), hints[f.name]


SETTINGS = dict(settings())


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def given(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


ODD = [
    None, True, False, 0, -1, 3, 10**30, -(10**30), 3.0, 0.5, -0.5,
    math.nan, math.inf, -math.inf, 1e300, 5e-324,
    "", " ", "3", "yes", "a\nb", "a\0b", "\ud800", "\x1b[31m", "~", "-x", "x" * 5000,
    [], [None], [""], ["", ""], [[]], [True], [math.inf], [10**30], ["a\0b"], {}, {"a": 1},
    datetime.date(2020, 1, 1), b"x",
]  # fmt: skip


def means(given: Any, accepted: Any) -> bool:
    """Whether a setting that was accepted has the value that was written, and no other."""
    if isinstance(given, bool) or isinstance(accepted, bool):
        return accepted is given or given in (0, "yes")
    if isinstance(given, str) and isinstance(accepted, int | float):
        return float(given) == accepted  # quoted in the file
    if isinstance(given, str) and given.startswith("~"):
        return accepted in (given, str(Path.home()))
    if isinstance(given, list):
        return accepted == tuple(given)
    return bool(accepted == given)


@pytest.mark.parametrize("key", SETTINGS)
def test_an_odd_value_is_accepted_and_meant_or_refused_by_name(key: str) -> None:
    for value in ODD:
        try:
            accepted = given(from_values(nested(key, value)), key)
        except ConfigError as refused:
            told = str(refused)
            assert key in told, value
            assert len(told) < 1000 or len(str(value)) > 1000
            assert "\n" not in told
            assert "\x1b" not in told
        else:
            assert means(value, accepted), (value, accepted)
            assert json.dumps(accepted, allow_nan=False)
            assert not isinstance(accepted, float) or math.isfinite(accepted)
            assert not isinstance(accepted, str) or not set(accepted) & set("\n\0\x1b\ud800")


@pytest.mark.parametrize("name", ["日　本", "a\u00a0b", "👩\u200d🔬", "é", "a b"])
def test_any_letter_may_be_in_a_path(name: str) -> None:
    assert from_values({"data": {"archives": f"/tmp/{name}"}}).data.archives == f"/tmp/{name}"


TEXTS = [
    "x y", "x" * 300, "x" * 5000, "~/x", "-x", "ü", "a/b", "../x", "/nowhere/x", "/etc/passwd",
    "/dev/null", "%d", "{a}", "{SPAN}", "http://", "http://[", "s3://b/c", "a,b", "$HOME", "C:\\x",
    "a*b", "[x]", "a[/]b",
]  # fmt: skip


def texts() -> list[str]:
    """The settings that hold texts of any kind."""
    return [key for key, kind in SETTINGS.items() if kind is str or "str" in _parts(kind)]


def _parts(kind: Any) -> set[str]:
    return {getattr(part, "__name__", "") for part in typing.get_args(kind)}


@pytest.mark.slow
@pytest.mark.parametrize("key", texts())
def test_an_odd_text_is_planned_with_or_refused_by_name(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bnpipe.yaml").write_text("data: {dataset: rendered_digits, size: 2400, shards: 2}\n")
    verb: tuple[str, ...] = ("plan",)
    if key.startswith("deploy."):
        verb = ("deploy", "render", "--set", "serving.base_path=served")
        push(tmp_path / "served", saved_model(tmp_path / "model", "one"))
    for text in TEXTS:
        value = [text] if typing.get_origin(SETTINGS[key]) is tuple else text
        capfd.readouterr()
        code = int(cli._main([*verb, "--set", f"{key}={json.dumps(value)}"]))
        err = capfd.readouterr().err.strip()
        # A served folder is looked at by its path, which is as good a name of the setting.
        named = key in err or (key == "serving.base_path" and code == 7 and text in err)
        assert (code, err) == (0, "") or (code in (2, 7) and named), (text, code, err)
        assert len(err.splitlines()) <= 1


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.schema=/nowhere/x", "cannot read /nowhere/x"),
        ("serving.server_binary=/nowhere/x", "expected a program"),
        ("trainer.device=abacus", "expected cpu, gpu or gpu:1"),
        ("serving.signing_key=/nowhere/x", "/nowhere/x"),
        ("serving.server_url=http://[", "expected http://HOST:PORT"),
        ("tracking.mlflow=http://[", "Invalid IPv6"),
        ("evaluator.slices=[nope]", "nope"),
        ("data.spans=/nowhere/spans", "{SPAN}"),
    ],
)
def test_what_the_last_step_would_trip_over_is_told_by_the_plan(
    setting: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bnpipe.yaml").write_text("data: {dataset: rendered_digits, size: 2400, shards: 2}\n")
    for verb in ("plan", "run"):
        code = int(cli._main([verb, "--set", setting]))
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert code == 2, line
        assert setting.partition("=")[0] in line
        assert expected in line
    assert not list(tmp_path.glob(".bnpipe/objects/*"))
