"""The configuration: who wins, what is refused, and in which words."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bnpipe.data.errors import RequestError
from bnpipe.pipeline.configuration import config
from bnpipe.pipeline.configuration.config import (
    Config,
    from_values,
    home_from,
    load,
    parse_yaml,
    schema,
)
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode, exit_code_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "bnpipe.yaml") -> Path:
    Path(name).write_text(text)
    return Path(name)


def refusal(*sets: str, **options: Any) -> str:
    """What is told, in one line, with the exit code for usage."""
    with pytest.raises(ConfigError) as caught:
        load(sets=sets, environ={}, **options)
    assert caught.value.exit_code is ExitCode.USAGE
    told = str(caught.value)
    assert len(told.splitlines()) == 1
    return told


# Who wins


def test_without_any_source_the_defaults_hold() -> None:
    assert load(environ={}) == Config() == from_values({})


def test_a_file_here_is_read_and_the_command_line_wins() -> None:
    written("trainer:\n  epochs: 7\n  batch_size: 64\n")
    found = load(sets=["trainer.epochs=3"], environ={})
    assert (found.trainer.epochs, found.trainer.batch_size) == (3, 64)
    assert found.trainer.seed == Config().trainer.seed


@pytest.mark.parametrize("version", ["1.20", "'1.20'", '"1.20"'])
def test_a_text_that_looks_like_a_number_is_set_as_it_was_typed(version: str) -> None:
    sets = [f"beam.flink.version={version}", "serving.model_name=1e3", "trainer.epochs=3"]
    read = load(sets=sets, environ={})
    assert (read.beam.flink.version, read.serving.model_name) == ("1.20", "1e3")
    assert read.trainer.epochs == 3


def test_of_two_equal_settings_the_last_wins() -> None:
    assert load(sets=["trainer.epochs=3", "trainer.epochs=4"], environ={}).trainer.epochs == 4


def test_archives_from_the_environment_stand_between_file_and_command_line() -> None:
    environ = {"BNPIPE_ARCHIVES": "/environment"}
    assert load(environ=environ).data.archives == "/environment"
    written("data: {archives: /file}")
    assert load(environ={}).data.archives == "/file"
    assert load(environ=environ).data.archives == "/environment"
    assert load(sets=["data.archives=/set"], environ=environ).data.archives == "/set"


def test_the_file_is_named_by_the_option_else_by_the_environment() -> None:
    written("trainer: {epochs: 5}")
    named = written("trainer: {epochs: 6}", "a.yaml")
    option = written("trainer: {epochs: 7}", "b.yaml")
    environ = {"BNPIPE_CONFIG": str(named)}
    assert load(environ={}).trainer.epochs == 5
    assert load(environ=environ).trainer.epochs == 6
    assert load(option, environ=environ).trainer.epochs == 7


def test_home_is_here_or_where_the_environment_says(tmp_path: Path) -> None:
    assert home_from({}) == home_from({"BNPIPE_HOME": ""}) == tmp_path / ".bnpipe"
    assert home_from({"BNPIPE_HOME": "there"}) == tmp_path / "there"


# What is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainer.epoch=3", "unknown config key trainer.epoch; did you mean trainer.epochs?"),
        ("trianer.epochs=3", "unknown config key trianer; did you mean trainer?"),
        ("trainer.zzz=3", "unknown config key trainer.zzz; known here: normalization, "),
        ("zzz=3", "unknown config key zzz; known here: data, validator, transform, "),
        (
            "trainer.fold_batch_norm=false",
            "unknown config key trainer.fold_batch_norm; it is serving.fold_batch_norm",
        ),
        (
            "evaluator.rules.slice_flor=off",
            "unknown config key evaluator.rules.slice_flor; did you mean "
            "evaluator.rules.slice_floor?",
        ),
        ("evaluator.rules=off", "evaluator.rules must be a section with keys, got str"),
        (
            "validator.classes=warn",
            "unknown config key validator.classes; did you mean validator.checks.classes?",
        ),
        (
            "evaluator.off=[slice_floor]",
            "unknown config key evaluator.off; it is evaluator.rules.RULE=off, "
            "e.g. evaluator.rules.slice_floor=off",
        ),
        (
            "evaluator.warn=[calibration]",
            "unknown config key evaluator.warn; it is evaluator.rules.RULE=warn, ",
        ),
        (
            "canary.min_agreement=0.9",
            "unknown config key canary.min_agreement; it is canary.margin, the largest loss",
        ),
        (
            "canary.max_error_difference=0.01",
            "unknown config key canary.max_error_difference; it is canary.error_margin",
        ),
        (
            "canary.max_latency_ratio=3",
            "unknown config key canary.max_latency_ratio; it is canary.latency_margin, ",
        ),
        ("canary.bake=soon", "canary.bake: "),
        ("scedule={}", "unknown config key scedule; did you mean schedule?"),
        ("trainer.epochs.more=3", "--set trainer.epochs.more=3: epochs is not a section"),
        ("trainer=3", "trainer must be a section with keys, got int"),
        ("trainer=", "trainer must be a section with keys, got NoneType"),
        ("trainer.epochs", "--set takes section.key=value, got 'trainer.epochs'"),
        ("=3", "--set takes section.key=value, got '=3'"),
        ("trainer.epochs=[1", "--set trainer.epochs=[1 is not YAML"),
    ],
)
def test_unknown_keys_and_bad_settings_are_one_line(text: str, told: str) -> None:
    sets = ["trainer.epochs=3", text]
    assert refusal(*sets).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainer.epochs=0", "trainer.epochs: input should be greater than or equal to 1, got 0"),
        ("trainer.epochs=2.5", "trainer.epochs: input should be a valid integer"),
        ("trainer.epochs=many", "trainer.epochs: input should be a valid integer"),
        ("trainer.epochs=", "trainer.epochs: input should be a valid integer, got None"),
        ("trainer.dropout=1.0", "trainer.dropout: input should be less than 1, got 1.0"),
        ("trainer.learning_rate=.nan", "trainer.learning_rate: input should be greater than 0"),
        ("trainer.normalization=bacth", "trainer.normalization: input should be 'batch', "),
        ("trainer.hidden_units=[]", "trainer.hidden_units: "),
        ("trainer.hidden_units=[64, 0]", "trainer.hidden_units.1: "),
        ("data.dataset=[3]", "data.dataset: input should be a valid string, got [3]"),
        ("data.size=5", "data.size: input should be greater than or equal to 12, got 5"),
        (
            "serving.fold_batch_norm=perhaps",
            "serving.fold_batch_norm: input should be a valid bool",
        ),
        ("beam.options=--x", "beam.options: input should be a valid tuple, got '--x'"),
        (
            "validator.checks.leak=no",
            "validator.checks.leak: input should be 'block', 'warn' or 'off', got 'no'",
        ),
        (
            "evaluator.rules.calibration=false",
            "evaluator.rules.calibration: input should be 'block', 'warn' or 'off', got False",
        ),
        ("run.attempts=0", "run.attempts: input should be greater than or equal to 1, got 0"),
    ],
)
def test_bad_values_say_what_was_expected_and_received(text: str, told: str) -> None:
    found = refusal(text)
    assert found.startswith(told)
    assert found.endswith("bnpipe config schema shows types and bounds")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("trainer.learning_rate=1e-3", "learning_rate", 1e-3),  # YAML 1.1 reads a text there
        ("trainer.learning_rate=5E-4", "learning_rate", 5e-4),
        ("trainer.learning_rate=1", "learning_rate", 1.0),
        ("trainer.hidden_units=[32]", "hidden_units", (32,)),
        ("trainer.normalization=none", "normalization", "none"),
        ("trainer.precise_statistics=yes", "precise_statistics", True),
    ],
)
def test_values_are_read_as_a_person_means_them(text: str, field: str, value: object) -> None:
    found = getattr(load(sets=[text], environ={}).trainer, field)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- trainer", "bnpipe.yaml must hold sections with keys, got list"),
        ("trainer", "bnpipe.yaml must hold sections with keys, got str"),
        ("trainer: 3", "trainer must be a section with keys, got int"),
        ("trainer: {epochs: 1", "bnpipe.yaml is not YAML: "),
        ("trainer: &a {epochs: 1}\nrun: *a", "bnpipe.yaml is not YAML: aliases are not allowed"),
        ("data: !!python/object/apply:os.getpid []", "bnpipe.yaml is not YAML: tags are not"),
        ("data: {dataset: !!binary aGk=}", "bnpipe.yaml is not YAML: tags are not allowed"),
        ("run: {attempts: 1, attempts: 2}", "bnpipe.yaml is not YAML: attempts stands there twice"),
        ("data: {dataset: 2024-13-45}", "bnpipe.yaml is not YAML: month must be in 1..12"),
        ("[" * 5000, "bnpipe.yaml is nested too deeply"),
        ("trainer:\n\tepochs: 1", "bnpipe.yaml is not YAML: "),
        ("a: \x00", "bnpipe.yaml is not YAML: "),
        ("x: 1\n" * 300_000, "bnpipe.yaml is larger than 1048576 bytes"),
        ("? [a, b]\n: 1", "bnpipe.yaml is not YAML: "),
        ("3: 4", "unknown config key 3"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(text: str, told: str) -> None:
    written(text)
    assert refusal().startswith(told)


def test_a_billion_laughs_are_refused_at_once() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="aliases are not allowed"):
        parse_yaml("l0: &l0 [lol]\n" + "\n".join(levels), "laughs")


@pytest.mark.parametrize("text", ["data:", "data: 3", "data: [1]"])
def test_archives_of_the_environment_do_not_hide_a_bad_section(text: str) -> None:
    written(text)
    with pytest.raises(ConfigError, match="data must be a section with keys"):
        load(environ={"BNPIPE_ARCHIVES": "/x"})


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert "cannot read config nowhere.yaml" in refusal(file=Path("nowhere.yaml"))
    assert "cannot read config" in refusal(file=tmp_path)
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot read config binary.yaml" in refusal(file=Path("binary.yaml"))


@pytest.mark.parametrize("name", ["bnpipe.yml", ".bnpipe.yaml", "Bnpipe.YAML"])
def test_a_file_that_would_not_be_read_is_refused(name: str) -> None:
    """Else MNIST is trained instead of what stands in it."""
    written("data: {dataset: kmnist}", name)
    assert (
        f"received {name}, which is not read; rename or remove it, or --config {name}" in refusal()
    )
    written("data: {dataset: fashion_mnist}")
    assert f"received {name}, which is not read" in refusal()
    assert load(Path(name), environ={}).data.dataset == "kmnist"


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "inf", "1e999"])
@pytest.mark.parametrize("key", ["trainer.learning_rate", "evaluator.margin", "run.budget_seconds"])
def test_a_number_that_is_not_finite_is_refused_by_name(key: str, value: str) -> None:
    told = refusal(f"{key}={value}")
    assert key in told
    assert any(word in told for word in ("finite", "greater", "less")), told


def test_a_default_file_that_is_none_is_refused_at_once() -> None:
    os.mkfifo("bnpipe.yaml")
    assert "bnpipe.yaml: [Errno 22] expected a file with data, received a named pipe" in refusal()
    os.unlink("bnpipe.yaml")
    os.symlink("nowhere", "bnpipe.yaml")
    assert "cannot read config bnpipe.yaml: [Errno 2] No such file" in refusal()


def test_an_empty_file_means_the_defaults() -> None:
    written("# nothing yet\n")
    assert load(environ={}) == Config()


# What is shown


def test_a_resolved_configuration_can_be_read_back() -> None:
    import yaml

    sets = ["trainer.hidden_units=[8, 8]", "trainer.learning_rate=1e-3", "data.size=99"]
    sets += ["evaluator.rules.slice_floor=off"]
    found = load(sets=[*sets, "beam.options=[--a, --b=c]"], environ={})
    text = yaml.safe_dump(found.snapshot(), sort_keys=False)
    assert from_values(parse_yaml(text, "frozen")) == found
    assert from_values(found.snapshot()) == found


def test_every_key_of_the_schema_is_described() -> None:
    described = schema()
    sections = set(described["properties"])
    assert sections == {f.name for f in dataclasses.fields(Config)}
    for kind in described["$defs"].values():
        for name, field in kind.get("properties", {}).items():
            assert field.get("description"), f"{kind['title']}.{name}"
            assert "default" in field or name in kind.get("required", []), name


def test_the_schema_has_bounds_and_choices() -> None:
    described = schema()

    def of(section: str) -> dict[str, Any]:
        name = described["properties"][section]["$ref"].rpartition("/")[2]
        found: dict[str, Any] = described["$defs"][name]["properties"]
        return found

    assert of("trainer")["epochs"]["minimum"] == 1
    assert of("trainer")["learning_rate"]["exclusiveMinimum"] == 0
    assert "none" in of("trainer")["normalization"]["enum"]
    assert of("serving")["keep_versions"]["minimum"] == 1
    assert "fold_batch_norm" in of("serving") and "fold_batch_norm" not in of("trainer")


def test_what_is_configured_for_serving_reaches_both_trainers(tmp_path: Path) -> None:
    serving = {"fold_batch_norm": False, "calibrated": True}
    graph = build(from_values({"serving": serving}), tmp_path)
    for name in ("trainer", "baseline"):
        params = graph.nodes[name].params
        assert not params.fold_batch_norm and params.calibrated


def test_requests_are_needed_to_estimate_from() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.requests: the trigger estimate needs it"):
        from_values({"schedule": {"triggers": ["estimate"]}})


def test_every_section_of_the_configuration_is_documented_in_its_class() -> None:
    for name in ("Serving", "Beam", "Run", "Config"):
        assert getattr(config, name).__doc__


def test_off_is_a_word_and_true_is_not() -> None:
    config = load(None, ["evaluator.rules={slice_floor: off}", "validator.checks.leak=off"], {})
    assert config.evaluator.rules.slice_floor == "off"
    assert config.validator.checks.leak == "off"
    assert load(None, ["serving.fold_batch_norm=false"], {}).serving.fold_batch_norm is False


def test_levels_of_a_file_and_of_the_command_line_add_up() -> None:
    written(
        "evaluator:\n  rules: {slice_floor: off, calibration: warn}\n"
        "validator:\n  checks:\n    leak: off\n"
    )
    found = load(sets=["evaluator.rules.calibration=off"], environ={})
    rules, checks = found.snapshot()["evaluator"]["rules"], found.snapshot()["validator"]["checks"]
    assert {name for name, level in rules.items() if level == "off"} == {
        "slice_floor",
        "calibration",
    }
    assert {level for name, level in checks.items() if name != "leak"} == {"block"}
    assert checks["leak"] == "off"


@pytest.mark.parametrize("folder", ["a[1]", "b*", "c?", "d\\e"])
def test_a_folder_whose_path_tensorflow_reads_as_a_pattern_is_refused_at_once(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folder).mkdir()
    served = load(sets=[f"serving.base_path={json.dumps(str(tmp_path / folder / 'served'))}"])
    project = monkeypatch.chdir
    for refused, what in (
        (lambda: home_from({"BNPIPE_HOME": folder}), "home"),
        (lambda: build(served, tmp_path / "home"), "serving.base_path"),
        (lambda: [project(tmp_path / folder), home_from({})], "home"),
    ):
        with pytest.raises(RequestError, match=rf"{what}: expected a path without \[ \]") as caught:
            refused()
        assert exit_code_of(caught.value) is ExitCode.USAGE
        assert folder in str(caught.value)
