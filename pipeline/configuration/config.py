"""The configuration: one tree of frozen dataclasses, where a component's `Params` is its section.

Later sources win: defaults, the YAML file, BNPIPE_ARCHIVES, `--set section.key=value`. An unknown
key is an error that names a near miss; a bad value is an error that says what was expected.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import os
import re
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnpipe.components import (
    cross_validation,
    evaluator,
    example_gen,
    example_validator,
    label_validator,
    study,
    trainer,
    transform,
)
from bnpipe.components.base import expanded
from bnpipe.data.engines.settings import Beam
from bnpipe.data.plain_file import open_plain
from bnpipe.pipeline.configuration.sections import (
    Canary,
    Deploy,
    Notify,
    Run,
    Schedule,
    Serving,
    Tracking,
)
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.serving.folder.names import plain_path

if TYPE_CHECKING:
    from pydantic import TypeAdapter

DEFAULT_FILE = "bnpipe.yaml"
_LARGEST_FILE = 1 << 20
# Training is done in float32: what it holds without loss of digits.
_SMALLEST, _LARGEST = 1.1754944e-38, 3.4028235e38
_LARGEST_INTEGER = 2**63 - 1
# What no path, and no argument of a command, can hold; a setting that is one text has one line.
_UNSAYABLE = "[\0\ud800-\udfff]"
_CONTROL = "[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
_FORMER_KEYS = {
    f"evaluator.{level}": f"evaluator.rules.RULE={level}, e.g. evaluator.rules.slice_floor={level}"
    for level in ("warn", "off")
} | {
    "canary.min_agreement": "canary.margin, the largest loss of accuracy on labelled images",
    "canary.max_error_difference": "canary.error_margin",
    "canary.max_latency_ratio": "canary.latency_margin, e.g. 0.5 where the ratio was 1.5",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be configured."""

    data: example_gen.Params = field(default_factory=example_gen.Params)
    validator: example_validator.Params = field(default_factory=example_validator.Params)
    transform: transform.Params = field(default_factory=transform.Params)
    cross_validation: cross_validation.Params = field(default_factory=cross_validation.Params)
    label_validator: label_validator.Params = field(default_factory=label_validator.Params)
    trainer: trainer.Params = field(default_factory=trainer.Params)
    evaluator: evaluator.Params = field(default_factory=evaluator.Params)
    study: study.Params = field(default_factory=study.Params)
    serving: Serving = field(default_factory=Serving)
    deploy: Deploy = field(default_factory=Deploy)
    beam: Beam = field(default_factory=Beam)
    run: Run = field(default_factory=Run)
    schedule: Schedule = field(default_factory=Schedule)
    canary: Canary = field(default_factory=Canary)
    notify: Notify = field(default_factory=Notify)
    tracking: Tracking = field(default_factory=Tracking)

    def snapshot(self) -> dict[str, Any]:
        """As plain values, for YAML and JSON."""
        return _section(self)


def home_from(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of all state: BNPIPE_HOME, else `.bnpipe` here.

    Raises:
        ConfigError: BNPIPE_HOME is no path.
        RequestError: TensorFlow would not find it by its path.
    """
    home = local_path(environ.get("BNPIPE_HOME") or ".bnpipe", "BNPIPE_HOME")
    return plain_path(home.absolute(), "home")


def local_path(path: str | Path, name: str) -> Path:
    """A path that a person gave, with `~` expanded: a shell leaves it in `--config=~/x`.

    Raises:
        ConfigError: it is an address; the error names what it was given as.
    """
    try:
        return Path(expanded(str(path)))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}, received {str(path)!r}") from None


def load(
    file: Path | None = None,
    sets: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Read the configuration.

    Args:
        file: a YAML file; by default BNPIPE_CONFIG, else `bnpipe.yaml` here if there is one.
        sets: `section.key=value` texts; values are YAML.
        environ: the process environment.

    Raises:
        ConfigError: unknown key, bad value, unreadable file.
    """
    values = _read_file(file, environ)
    if environ.get("BNPIPE_ARCHIVES"):
        section = values.setdefault("data", {})
        if isinstance(section, dict):  # else `from_values` tells what is wrong with it
            section["archives"] = environ["BNPIPE_ARCHIVES"]
    for text in sets:
        _set(values, text)
    return from_values(values)


def from_values(values: Mapping[str, Any]) -> Config:
    """A configuration from nested plain values.

    Raises:
        ConfigError: unknown key or bad value.
    """
    _check_keys(Config, values, "")
    from pydantic import ValidationError  # 0.1 s that `--help` need not spend

    try:
        config = _adapter().validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":  # a section checked itself and named the key
            raise ConfigError(str(first["ctx"]["error"])) from None
        # Of several types that it could have, the last part names one.
        key = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        raise ConfigError(
            f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}",
            hint="bnpipe config schema shows types and bounds",
        ) from None
    _check_values(config, values, "")
    return config


@functools.cache
def _adapter() -> TypeAdapter[Config]:
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


def schema() -> dict[str, Any]:
    """JSON Schema of the configuration, with types, bounds, defaults and descriptions."""
    described = _adapter().json_schema()
    for section, cls in typing.get_type_hints(Config).items():
        keys = _describe(cls, described["properties"][section], described["$defs"])
        for f in dataclasses.fields(cls):
            if f.metadata.get("config"):  # it is configured under another name
                del keys[f.name]
    return described


def _describe(cls: type[Any], section: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """Gives the keys of a section their descriptions, and those of the sections in it."""
    keys = definitions[section["$ref"].rpartition("/")[2]].get("properties", {})
    for key, text in _descriptions(cls).items():
        keys[key]["description"] = text
    for key, inner in _sections_of(cls).items():
        _describe(inner, keys[key], definitions)
    return keys


def _sections_of(cls: type[Any]) -> dict[str, type[Any]]:
    """The keys of a section that are sections themselves."""
    hints = typing.get_type_hints(cls).items()
    return {key: hint for key, hint in hints if isinstance(hint, type) and is_dataclass(hint)}


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """The texts that stand under the fields of a dataclass, by field."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        statement.target.id: inspect.cleandoc(below.value.value)
        for statement, below in itertools.pairwise(definition.body)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _read_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    if file is None and environ.get("BNPIPE_CONFIG"):
        file = local_path(environ["BNPIPE_CONFIG"], "BNPIPE_CONFIG")
    named = file is not None  # it may be a pipe then: --config <(...)
    if file is None:
        file = Path(DEFAULT_FILE)
        _check_names()
        if not os.path.lexists(file):
            return {}
    try:
        with file.open("rb") if named else open_plain(file) as stream:
            content = stream.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigError(f"{file} is larger than {_LARGEST_FILE} bytes; is it a config?")
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config {file}: {error}") from None
    value = parse_yaml(text, str(file))
    if not isinstance(value, dict | None):
        raise ConfigError(f"{file} must hold sections with keys, got {type(value).__name__}")
    return value or {}


def _check_names() -> None:
    """Refuses files here that are called almost like the configuration: they would not be read."""
    names: list[str] = []
    with suppress(OSError):  # a folder that may be searched, but not listed
        names = sorted(os.listdir())
    for name in names:
        if name != DEFAULT_FILE and re.fullmatch(r"\.?bnpipe\.ya?ml", name, re.IGNORECASE):
            raise ConfigError(
                f"expected the configuration in {DEFAULT_FILE}, received {name}, which is not read",
                hint=f"rename or remove it, or --config {name}",
            )


def parse_yaml(text: str, where: str) -> Any:
    """YAML without tags and aliases: the first run code, the second blow up memory.

    Raises:
        ConfigError: not YAML, a tag, an alias, or a key that stands twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed")
            if event.tag is not None:
                raise yaml.YAMLError(f"tags are not allowed: {event.tag}")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise yaml.YAMLError(f"{twice[0]} stands there twice")
            return super().construct_mapping(node, deep)

    # YAML 1.1 reads `off`, which is a key and a value here, as false; 1.2 does not.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":bool")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    boolean = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", boolean, list("tTfF"))

    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from None


def _set(values: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(
            f"--set takes section.key=value, got {text!r}", hint="e.g. --set trainer.epochs=3"
        )
    *sections, key = path.strip().split(".")
    cls: type[Any] | None = Config
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {text}: {section} is not a section")
        values, cls = inner, cls and _sections_of(cls).get(section)
    values[key] = parse_yaml(value, f"--set {text}")
    hint = typing.get_type_hints(cls).get(key) if cls else None
    if hint in (str, str | None) and isinstance(values[key], int | float):
        values[key] = value.strip()  # 1.20 is a version, and the shell has taken its quotes


def _check_keys(cls: type[Any], values: Any, path: str) -> None:
    """Unknown keys, before types are looked at: a misspelt key is the likelier mistake."""
    if not isinstance(values, Mapping):
        got = type(values).__name__
        raise ConfigError(f"{path or 'the config'} must be a section with keys, got {got}")
    sections = _sections_of(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    within = {f.name: f"{s}.{f.name}" for s in sections for f in dataclasses.fields(sections[s])}
    places = {**within, **{name: name for name in known}}
    for key, value in values.items():
        dotted = f"{path}.{key}" if path else str(key)
        elsewhere = known[key].metadata.get("config") if key in known else _FORMER_KEYS.get(dotted)
        if key not in known or elsewhere:
            near = difflib.get_close_matches(str(key), places, n=1)
            if elsewhere:
                hint = f"it is {elsewhere}"
            elif near:
                hint = f"did you mean {path + '.' if path else ''}{places[near[0]]}?"
            else:
                hint = f"known here: {', '.join(known)}"
            raise ConfigError(f"unknown config key {dotted}", hint=hint)
        if key in sections:
            _check_keys(sections[key], value, dotted)


def _check_values(section: Any, values: Mapping[str, Any], path: str) -> None:
    """Values that no setting means, whatever its bounds; pydantic takes some of them for others."""
    hints = typing.get_type_hints(type(section))
    for key, value in values.items():
        accepted, dotted = getattr(section, key), f"{path}{key}"
        if is_dataclass(accepted):
            _check_values(accepted, value, f"{dotted}.")
            continue
        several = value if isinstance(value, list | tuple) else [value]
        pairs = [*((v, v is value) for v in several), (accepted, False)]
        reasons = (_wrong(v, alone=alone, boolean=hints[key] is bool) for v, alone in pairs)
        wrong = next(filter(None, reasons), None)
        if wrong:
            raise ConfigError(
                f"{dotted}: {wrong}, received {value!r:.100}",
                hint="bnpipe config schema shows types and bounds",
            )


def _wrong(value: Any, *, alone: bool, boolean: bool) -> str | None:
    """The reason that no setting can mean a value; a text that is one of several may be any."""
    match value:
        case bool() if not boolean:
            return "expected no true or false"
        case float() if not (value == 0 or _SMALLEST <= abs(value) <= _LARGEST):
            return "expected a finite number that float32 can hold"
        case int() if abs(value) > _LARGEST_INTEGER:
            return "expected a number of at most 64 bits"
        case str() if alone and not value.strip():
            return "expected a text that is not empty, or null"
        case str() if re.search(_CONTROL if alone else _UNSAYABLE, value):
            return "expected a text in one line"
        case bytes():
            return "expected a text"
    return None


def _section(section: Any) -> dict[str, Any]:
    """A section as plain values, without the fields that are configured under another key."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            values[f.name] = _section(value)
        elif "config" not in f.metadata:
            values[f.name] = list(value) if isinstance(value, tuple) else value
    return values
