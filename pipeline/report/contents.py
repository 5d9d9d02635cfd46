"""What a report shows, read from the run folder and the store.

Everything beside the summary may be missing: a run that failed has no evaluation, and objects of
old runs are collected. What is missing is left out, and the page says so.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import SPLITS
from bnpipe.data.errors import DataError
from bnpipe.data.statistics.summary import SUMMARY, SplitSummary, read_parts
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report.evaluation import MODELS, RunEvaluation

Json = Mapping[str, Any]

_NORMALIZATIONS = {"batch": "with BN", "none": "without BN"}


@dataclass(frozen=True)
class Picture:
    """An image with what the models said about it.

    Attributes:
        pixels: uint8[H, W].
        id: the record's id.
        label: its true class.
        answers: most probable class and its probability, by model.
    """

    pixels: npt.NDArray[np.uint8]
    id: str
    label: int
    answers: Mapping[str, tuple[int, float]]


@dataclass(frozen=True)
class Contents:
    """All that is drawn.

    Attributes:
        run: the summary, `run.json`.
        config: the resolved configuration.
        evaluation: metrics and verdict; None when no evaluator took part.
        histories: epochs of every trained model, by step.
        cards: model cards, by step.
        dataset: `dataset.json`.
        statistics: what every split holds, by split.
        parts: where spans were added, what each source brought, e.g. `train/span-2026-11-20`.
        data_gate: `verdict.json` of the data gate; empty when it took no part.
        trial: `verdict.json` of the infra validator; empty when no server was asked.
        environment: versions of Python and the libraries that are in the step keys.
        pictures: groups of pictures worth looking at, by group.
        missing: objects of the run that are not in the store any more, as `step.field`.
    """

    run: Json
    config: Json = field(default_factory=dict)
    evaluation: RunEvaluation | None = None
    histories: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    cards: Mapping[str, Json] = field(default_factory=dict)
    dataset: Json = field(default_factory=dict)
    statistics: Mapping[str, SplitSummary] = field(default_factory=dict)
    parts: Mapping[str, SplitSummary] = field(default_factory=dict)
    data_gate: Json = field(default_factory=dict)
    trial: Json = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def label_names(self) -> Sequence[str]:
        """What the classes are called."""
        evaluated = self.evaluation.metrics.get("dataset", {}) if self.evaluation else {}
        names: Sequence[str] = evaluated.get("label_names") or self.dataset.get("label_names") or ()
        return names

    def class_name(self, label: int) -> str:
        """What a class is called."""
        return self.label_names[label] if label < len(self.label_names) else str(label)

    def model_name(self, name: str) -> str:
        """What a model is called in charts, by its step or its part in the evaluation."""
        if name == "champion" and self.evaluation is not None:
            champion = self.evaluation.blessing.get("champion") or {}
            return f"champion v{champion.get('version', '?')}"
        names = self._names_by_normalization()
        return names.get({"candidate": "trainer"}.get(name, name), name)

    def _names_by_normalization(self) -> dict[str, str]:
        """`with BN` and `without BN`, as long as that tells the models apart."""
        names = {}
        for step, card in self.cards.items():
            kind = str(card.get("params", {}).get("normalization", ""))
            names[step] = _NORMALIZATIONS.get(kind, f"{kind} normalisation" if kind else step)
        return names if len(set(names.values())) == len(names) else {}


def gather(store: Store, folder: RunFolder) -> Contents:
    """Read what there is.

    Raises:
        ConfigError: the run is still at work.
    """
    run = folder.summary()
    if run["status"] == "running":
        raise ConfigError(
            f"run {folder.id} is still at work", hint=f"follow it: bnpipe logs {folder.id} STEP"
        )
    report = folder.report()
    cards: dict[str, Json] = {}
    histories: dict[str, Sequence[Json]] = {}
    dataset: dict[str, Any] = {}
    statistics: dict[str, SplitSummary] = {}
    parts: dict[str, SplitSummary] = {}
    for step, path in _outputs(store, run):
        card, history = _read(path / "model_card.json"), _read(path / "history.json")
        if isinstance(card, dict):
            cards[step] = card
        if isinstance(history, dict) and history.get("epochs"):
            histories[step] = history["epochs"]
        dataset |= _read(path / "dataset.json") or {}
        statistics |= _statistics(path)
        parts |= _parts(path)
    return Contents(
        run=run,
        config=report.get("config") or {},
        evaluation=RunEvaluation.of(report),
        histories=histories,
        cards=cards,
        dataset=dataset,
        statistics=statistics,
        parts=parts,
        data_gate=_verdict(store, run, "example_validator"),
        trial=_verdict(store, run, "infra_validator"),
        environment=_environment(store, run),
        pictures={g: p for _, path in _outputs(store, run) for g, p in _pictures(path).items()},
        missing=tuple(_missing(store, run)),
    )


def _outputs(store: Store, run: Json) -> Iterator[tuple[str, Path]]:
    """Step and folder of every output."""
    for step in run["steps"]:
        for digest in step["outputs"].values():
            yield step["name"], store.object_path(digest)


def _verdict(store: Store, run: Json, component: str) -> Json:
    """`verdict.json` of a gate, whose form depends on the component; empty when there is none."""
    for step in run["steps"]:
        if step["component"] == component:
            for digest in step["outputs"].values():
                found: Json = _read(store.object_path(digest) / "verdict.json") or {}
                return found
    return {}


def _statistics(folder: Path) -> dict[str, SplitSummary]:
    """By split, from a Statistics artifact; empty for any other."""
    found = {}
    for split in SPLITS:
        if (folder / f"Split-{split}" / SUMMARY).exists():
            with suppress(DataError):
                found[split] = SplitSummary.read(folder / f"Split-{split}")
    return found


def _parts(folder: Path) -> dict[str, SplitSummary]:
    """By split and source, from a Statistics artifact; empty where no span was added."""
    found: dict[str, SplitSummary] = {}
    for split in SPLITS:
        with suppress(DataError):
            parts = read_parts(folder / f"Split-{split}")
            found |= {f"{split}/{name}": part for name, part in parts.items()}
    return found


def _missing(store: Store, run: Json) -> Iterator[str]:
    for step in run["steps"]:
        for name, digest in step["outputs"].items():
            if not store.object_path(digest).is_dir():
                yield f"{step['name']}.{name}"


def _environment(store: Store, run: Json) -> Mapping[str, str]:
    """Of the last step whose record is there: it is the same for all steps of a run."""
    for step in reversed(run["steps"]):
        record = _read(store.home / "steps" / f"{step['key']}.json")
        if record is not None:
            found: Mapping[str, str] = record["parts"].get("environment", {})
            return found
    return {}


def _pictures(folder: Path) -> dict[str, list[Picture]]:
    """The evaluator's `pictures.npz`, with the answers from `predictions.npz`."""
    try:
        with (
            np.load(folder / "pictures.npz", allow_pickle=False) as stored,
            np.load(folder / "predictions.npz", allow_pickle=False) as predictions,
        ):
            pictures, answers = dict(stored), dict(predictions)
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}
    prefix = "probabilities/"
    models = {name: answers[prefix + name] for name in MODELS if prefix + name in answers}
    groups: dict[str, list[Picture]] = {}
    for key in pictures:
        if not key.endswith("/row"):
            continue
        group = key.removesuffix("/row")
        groups[group] = [
            Picture(
                pixels=image,
                id=answers["id"][row].decode("utf-8", "replace"),
                label=int(answers["label"][row]),
                answers={n: (int(p[row].argmax()), float(p[row].max())) for n, p in models.items()},
            )
            for row, image in zip(pictures[key], pictures[f"{group}/image"], strict=True)
        ]
    return groups


def _read(path: Path) -> Any:
    """A JSON file; None when it cannot be had."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return None
