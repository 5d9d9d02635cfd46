"""Helpers for tests of the served folder: fake models, and the promises that must hold."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import ledger, model_config, versions
from bnpipe.serving.folder.publish import Published, publish

DIGITS = {
    "name": "mnist",
    "version": "3.0.1",
    "height": 28,
    "width": 28,
    "label_names": [str(d) for d in range(10)],
}


def saved_model(folder: Path, content: str) -> Path:
    """A folder with the files of a SavedModel; `content` makes its digest."""
    (folder / "variables").mkdir(parents=True)
    (folder / "assets").mkdir()
    (folder / "saved_model.pb").write_text(f"graph of {content}")
    (folder / "fingerprint.pb").write_text(f"random {folder}")
    (folder / "variables/variables.index").write_text("index")
    (folder / "variables/variables.data-00000-of-00001").write_text(content * 50)
    return folder


def push(base: Path, model: Path, **changes: Any) -> Published:
    """`publish` with everything that a test does not care about."""
    arguments: dict[str, Any] = {
        "model_name": "mnist",
        "provenance": {"dataset": DIGITS},
        **changes,
    }
    if "compared_with" not in changes:
        arguments["compared_with"] = versions.live(base)
    return publish(base, model, **arguments)


def visible(base: Path) -> list[str]:
    """The names that TF Serving would take for versions."""
    return sorted(
        (p.name for p in base.glob("*") if versions.parse_version(p.name) is not None), key=int
    )


def config_of(base: Path) -> Any:
    """models.config as TF Serving's own protocol buffer reads it."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (base / model_config.MODELS_CONFIG).read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return parsed.model_config_list.config[0]


def served(base: Path) -> tuple[list[int], dict[str, int]]:
    """Versions of models.config, and labels without the one that spells out the edit."""
    config = config_of(base)
    names = {n: v for n, v in config.version_labels.items() if not n.startswith("in_force_")}
    return list(config.model_version_policy.specific.versions), names


def leftovers(base: Path) -> list[str]:
    """Unfinished work."""
    return [str(p) for p in base.rglob("*") if p.name.startswith((".staging", ".trash"))]


def torn(base: Path) -> list[str]:
    """Numbered folders and labelled versions that are not whole, which no server may ever see."""
    history = ledger.read(base)
    defects = []
    for name in visible(base):
        entry = history.entry(int(name))
        if entry is None or tree_digest(base / name) != entry.digest:
            defects.append(f"version {name} is not what was published")
    text = model_config.read_text(base)
    for number in re.findall(r"(?:versions|value): (\d+)", text or ""):
        if not versions.is_complete(base, int(number)):
            defects.append(f"models.config names {number}, which is not complete")
    if text is not None and not text.endswith("  }\n}\n"):
        defects.append("models.config is cut")
    return defects


def events(base: Path) -> list[tuple[str, int]]:
    """The ledger's events and their versions."""
    lines = (base / ledger.LEDGER).read_text().splitlines()
    return [(line["event"], line["version"]) for line in map(json.loads, lines)]


def closed(paths: Iterable[Path]) -> list[Path]:
    """Those that another user could not read."""
    return [p for p in paths if ~p.stat().st_mode & (0o055 if p.is_dir() else 0o044)]
