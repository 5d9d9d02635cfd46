"""The contents of a report, read from the run folder and the store.

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
from bnpipe.data.plain_file import read_plain
from bnpipe.data.statistics.summary import SUMMARY, SplitSummary, read_parts
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.estimates import Estimate, newest
from bnpipe.pipeline.report.evaluation import MODELS, RunEvaluation

Json = Mapping[str, Any]

SUSPECTS = "suspects"
"""Group of the pictures whose label is in doubt, followed by their split."""

_NORMALIZATIONS = {"batch": "with BN", "none": "without BN"}


@dataclass(frozen=True)
class Picture:
    """An image with the answers of the models.

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
        labels: `verdict.json` of the label gate; empty when it took no part.
        trial: `verdict.json` of the infra validator; empty when no server was asked.
        soaks: how the published version did as canary, `soak`, and once it was live, `bake`.
        estimate: how good the published version is thought to be on logged requests; None if
            nobody has looked.
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
    labels: Json = field(default_factory=dict)
    trial: Json = field(default_factory=dict)
    soaks: Mapping[str, Json] = field(default_factory=dict)
    estimate: Estimate | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def label_names(self) -> Sequence[str]:
        """Names of the classes; empty when they are not known."""
        evaluated = self.evaluation.metrics.get("dataset", {}) if self.evaluation else {}
        names: Sequence[str] = evaluated.get("label_names") or self.dataset.get("label_names") or ()
        return names

    def class_name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.label_names[label] if label < len(self.label_names) else str(label)

    def slice_value(self, column: str, value: str) -> str:
        """A slice's value as people call it: classes by their names."""
        by_name = column == "label" and value.isdecimal()
        return self.class_name(int(value)) if by_name else value

    def slice_name(self, name: str) -> str:
        """A slice by one column, or the whole, as people call it."""
        column, _, value = name.partition(":")
        return f"{column} {self.slice_value(column, value)}" if value else name

    def model_name(self, name: str) -> str:
        """The name of a model in charts, by its step or its part in the evaluation."""
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
    """Read all that is there of a run.

    Raises:
        ConfigError: the run is still at work.
        StoreError: its record is damaged.
        DataError: a rule's ruling is in words that this version does not know.
    """
    report = folder.ended_report()
    cards: dict[str, Json] = {}
    histories: dict[str, Sequence[Json]] = {}
    dataset: dict[str, Any] = {}
    statistics: dict[str, SplitSummary] = {}
    parts: dict[str, SplitSummary] = {}
    verdicts: dict[str, Json] = {}
    pictures: dict[str, Sequence[Picture]] = {}
    missing: list[str] = []
    for step, field_name, path in _outputs(store, report):
        name = step["name"]
        if not path.is_dir():
            missing.append(f"{name}.{field_name}")
        card, history = _read(path / "model_card.json"), _read(path / "history.json")
        if isinstance(card, dict):
            cards[name] = card
        if isinstance(history, dict) and history.get("epochs"):
            histories[name] = history["epochs"]
        dataset |= _read(path / "dataset.json") or {}
        verdicts.setdefault(step["component"], _read(path / "verdict.json") or {})
        for split in SPLITS:
            _read_statistics(path / f"Split-{split}", split, statistics, parts)
        pictures |= _pictures(path) | _suspects(path)
    return Contents(
        run=report,
        config=report.get("config") or {},
        evaluation=RunEvaluation.of(report),
        histories=histories,
        cards=cards,
        dataset=dataset,
        statistics=statistics,
        parts=parts,
        data_gate=verdicts.get("example_validator", {}),
        labels=verdicts.get("label_validator", {}),
        trial=verdicts.get("infra_validator", {}),
        soaks=_read(folder.path / "canary.json") or {},
        estimate=_estimate(store, report),
        environment=_environment(store, report),
        pictures=pictures,
        missing=tuple(missing),
    )


def _estimate(store: Store, run: Json) -> Estimate | None:
    """How good the version that a run published is thought to be since."""
    models = (s["outputs"].get("model") for s in run["steps"] if s["name"] == "trainer")
    return newest(store.home, (run.get("pushed") or {}).get("version"), next(models, None))


def _outputs(store: Store, run: Json) -> Iterator[tuple[Json, str, Path]]:
    """Step, field and folder of every output."""
    for step in run["steps"]:
        for field_name, digest in step["outputs"].items():
            yield step, field_name, store.object_path(digest)


def _read_statistics(
    folder: Path, split: str, whole: dict[str, SplitSummary], parts: dict[str, SplitSummary]
) -> None:
    """Add a split of a Statistics artifact, and what each source brought; nothing of any other."""
    if (folder / SUMMARY).exists():
        with suppress(DataError):
            whole[split] = SplitSummary.read(folder)
    with suppress(DataError):
        parts |= {f"{split}/{name}": part for name, part in read_parts(folder).items()}


def _environment(store: Store, run: Json) -> Mapping[str, str]:
    """Of the last step whose record is there: it is the same for all steps of a run."""
    records = (store.record(str(step["key"])) for step in reversed(run["steps"]))
    return next((record.parts.get("environment", {}) for record in records if record), {})


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


def _suspects(folder: Path) -> dict[str, list[Picture]]:
    """The first of the label gate's `suspects.npz`, by split."""
    try:
        with np.load(folder / "suspects.npz", allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}
    columns = ("id", "label", "suggested", "score", "image")
    rows = {s: zip(*(arrays.get(f"{s}/{c}", ()) for c in columns), strict=False) for s in SPLITS}
    return {
        f"{SUSPECTS}/{split}": [
            Picture(
                image, name.decode("utf-8", "replace"), int(label), {"": (int(best), 1 - score)}
            )
            for name, label, best, score, image in ranked
        ]
        for split, ranked in rows.items()
    }


def _read(path: Path) -> Any:
    """A JSON file; None when it cannot be had."""
    with suppress(OSError, ValueError):
        return json.loads(read_plain(path))
    return None
