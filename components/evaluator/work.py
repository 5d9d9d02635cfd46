"""The evaluator's work, in order: ask the models, measure, let TFMA measure, decide, write."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import Blessing, LabelQuality, TransformedExamples
from bnpipe.components.base import Context, Decision, Facts
from bnpipe.components.evaluator import golden, inference, measure, pictures, tfma_config, tfma_eval
from bnpipe.components.evaluator.evidence import BASELINE, CANDIDATE, CHAMPION, Evidence, count
from bnpipe.components.evaluator.gate import decide, held_against
from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.predictions import Predictions, problem
from bnpipe.components.evaluator.rules_reference import detectable_loss
from bnpipe.components.evaluator.step import Inputs, Outputs
from bnpipe.components.network.saved_model import unusable
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.json_text import json_text
from bnpipe.data.records.examples import read_blocks
from bnpipe.serving.export.digest import tree_digest

BATCH_CHECK_IMAGES = 64
"""Rows asked for one by one, to see whether an answer depends on the rest of its batch."""


def evaluate(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """See `step.run`."""
    info = DatasetInfo.read(inputs.examples.path)
    of_split, counts = f"Split-{params.split}/", sorted(inputs.examples.record_counts().items())
    images = {inputs.examples.path / name: n for name, n in counts if name.startswith(of_split)}
    shards = list(images)
    folder = outputs.evaluation.path
    started = time.monotonic()

    ctx.progress(0, 3, "asking the models")
    models = _saved_models(inputs)
    answers, problems = ask(models, images, info, params, ctx)
    answers.write(folder / "predictions.npz")
    usable = answers.without(problems)
    asked = time.monotonic()

    ctx.progress(1, 3, "measuring")
    metrics, evidence = measured(usable, info, params, _expected_values(inputs.examples))
    champion = f"version {inputs.champion.version}" if inputs.champion is not None else ""
    evidence = replace(evidence, problems=problems, champion=champion)
    first = _first_rows(shards, max(BATCH_CHECK_IMAGES, params.golden_images))
    candidate = None if CANDIDATE in problems else models[CANDIDATE]
    golden.write(candidate, first[: params.golden_images], info, folder / "golden.npz")
    pictures.write(usable, shards, info, params.pictures, folder / "pictures.npz")
    counted = time.monotonic()

    ctx.progress(2, 3, "TensorFlow Model Analysis")
    (folder / "tfma").mkdir()
    if candidate is not None:
        config = tfma_config.eval_config(params, list(metrics["against"]))
        tfma_eval.evaluate(folder / "predictions.npz", config, folder / "tfma")
        evidence = replace(
            evidence,
            tfma_failures=tfma_eval.failures(config, folder / "tfma"),
            rounding=inputs.candidate.rounding(),
            batch_difference=inference.batch_difference(str(candidate), first[:BATCH_CHECK_IMAGES]),
        )

    decision = decide(evidence, params)
    if inputs.labels is not None and evidence.overall is not None:
        metrics["without_suspects"], decision = _without_suspects(
            usable, inputs.labels, evidence, decision, info, params
        )
    metrics["dataset"] = _dataset(info, params.split, answers.labels.size)
    _write_json(folder / "metrics.json", metrics)
    _write_blessing(outputs.blessing.path, decision, inputs, problems.get(CHAMPION))
    ctx.log.info(decision.sentence)
    ctx.progress(3, 3, decision.sentence)
    return _facts(decision, metrics) | {
        "images": answers.labels.size,
        "seconds_predict": round(asked - started, 2),
        "seconds_measure": round(counted - asked, 2),
        "seconds_tfma": round(time.monotonic() - counted, 2),
    }


def ask(
    models: Mapping[str, Path],
    shards: Mapping[Path, int],
    info: DatasetInfo,
    params: Params,
    ctx: Context,
) -> tuple[Predictions, dict[str, str]]:
    """Every model's answers, and for models without usable answers the reason."""
    problems = {name: why for name, path in models.items() if (why := unusable(path, info))}
    able = {name: path for name, path in models.items() if name not in problems}
    folder = ctx.reports.with_suffix("")
    answers = inference.predict(ctx.beam, shards, able, params.batch_size, folder, ctx.log)
    for name, values in answers.probabilities.items():
        if why := problem(values, answers.labels.size, info.classes):
            problems[name] = why
    return answers, problems


def measured(
    answers: Predictions,
    info: DatasetInfo,
    params: Params,
    expected: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, Any], Evidence]:
    """The content of `metrics.json` and the evidence for the gate, from usable answers alone.

    `expected` names values that a column must have beside those that occur.

    Raises:
        DataError: a slicing names a column that cannot be sliced by.
    """
    if CANDIDATE not in answers.probabilities:
        return {"models": {}, "slices": {}, "against": {}}, Evidence(overall=None)
    references = [name for name in (BASELINE, CHAMPION) if name in answers.probabilities]
    slices = answers.slices(params.slices, info.classes, expected)
    overall, *parts = counted = count(answers, slices, references)
    measurement = measure.Measurement(answers, params)
    error, resampled = measurement.calibration_error(CANDIDATE)
    metrics = {
        "models": {name: measurement.model(name) for name in answers.probabilities},
        "against": {
            name: measure.comparison(overall, name, params)
            | {"smallest_detectable_loss": detectable_loss(overall, name, params)}
            for name in references
        },
        "slices": measure.slice_metrics(answers, slices, counted, params),
    }
    evidence = Evidence(
        overall=overall,
        slices=tuple(parts),
        guessing=float(np.bincount(answers.labels).max() / answers.labels.size),
        calibration_error=error,
        calibration_bound=float(np.quantile(resampled, 1 - params.level)),
    )
    return metrics, evidence


def _without_suspects(
    answers: Predictions,
    labels: LabelQuality,
    evidence: Evidence,
    decision: Decision,
    info: DatasetInfo,
    params: Params,
) -> tuple[dict[str, Any], Decision]:
    """The scores without images whose label is in doubt, and if the decision hangs on them.

    Counts and calibration are taken anew. TFMA, which has seen all images, has no say, and slices
    that only held such images are left out.
    """
    with np.load(labels.path / "suspects.npz") as stored:
        named = params.split + "/confident" in stored.files
        doubted = stored[f"{params.split}/id"][stored[f"{params.split}/confident"]] if named else []
    suspect = np.isin(answers.ids, doubted)
    number = int(suspect.sum())
    if not 0 < number < len(suspect):
        return {"suspects": number}, decision
    rest, references = answers.rows(~suspect), [n for n in answers.probabilities if n != CANDIDATE]
    accuracy = {name: float(rest.correct(name).mean()) for name in sorted(rest.probabilities)}
    overall, *parts = count(rest, rest.slices(params.slices, info.classes), references)
    empty = {part.name for part in evidence.slices if not part.images}
    measurement = measure.Measurement(rest.without(set(references)), params)
    error, resampled = measurement.calibration_error(CANDIDATE)
    without = decide(
        replace(
            evidence,
            overall=overall,
            slices=tuple(part for part in parts if part.images or part.name in empty),
            tfma_failures=None,
            calibration_error=error,
            calibration_bound=float(np.quantile(resampled, 1 - params.level)),
        ),
        params,
    )
    scores = {"suspects": number, "accuracy": accuracy, "passed": without.passed}
    return scores, held_against(decision, without, number)


def _expected_values(examples: TransformedExamples) -> dict[str, list[int]]:
    """The classes of the train split, and the ink quartiles that its cut points leave room for."""
    stored = examples.read_json("dataset.json")
    cuts = stored.get("ink_cuts", [])
    # Equal cut points have nothing between them.
    inner = [k for k in range(1, len(cuts)) if cuts[k - 1] < cuts[k]]
    expected = {"label": stored["train_labels"]} if "train_labels" in stored else {}
    return expected | ({"ink_quartile": [0, *inner, len(cuts)]} if cuts else {})


def _saved_models(inputs: Inputs) -> dict[str, Path]:
    models = {CANDIDATE: inputs.candidate.saved_model, BASELINE: inputs.baseline.saved_model}
    if inputs.champion is not None:
        models[CHAMPION] = inputs.champion.saved_model
    return models


def _first_rows(shards: Sequence[Path], rows: int) -> npt.NDArray[np.float32]:
    """float32[min(rows, N), D]: the first images of the split."""
    return next(read_blocks(shards, rows)).features


def _dataset(info: DatasetInfo, split: str, images: int) -> dict[str, Any]:
    described = asdict(info) | {"split": split, "images": images}
    del described["splits"]  # only one is evaluated
    return described


def _write_blessing(
    folder: Path, decision: Decision, inputs: Inputs, champion_problem: str | None
) -> None:
    """`blessing.json` and TFX's marker file."""
    champion = None
    if inputs.champion is not None:
        champion = {
            "version": inputs.champion.version,
            "digest": _digest(inputs.champion.saved_model),
            **({} if champion_problem is None else {"problem": champion_problem}),
        }
    blessing = {
        "passed": decision.passed,
        "sentence": decision.sentence,
        "rules": [ruling.to_json() for ruling in decision.rulings],
        "model": _digest(inputs.candidate.saved_model),
        "champion": champion,
    }
    _write_json(folder / Blessing.verdict_file, blessing)
    (folder / Blessing.marker(decision.passed)).touch()


def _digest(saved_model: Path) -> str:
    return tree_digest(saved_model) if saved_model.is_dir() else ""


def _write_json(path: Path, value: Any) -> None:
    text = json_text(value, indent=1, sort_keys=True)
    path.write_text(text + "\n")


def _facts(decision: Decision, metrics: Mapping[str, Any]) -> dict[str, float | int | str | bool]:
    """The numbers of this step that the terminal shows."""
    facts: dict[str, float | int | str | bool] = {"blessed": decision.passed}
    for name, values in metrics["models"].items():
        facts[f"{name}_accuracy"] = round(values["accuracy"], 6)
    for name, values in metrics["against"].items():
        facts[f"difference_to_{name}"] = round(values["difference"], 6)
        facts[f"smallest_detectable_loss_{name}"] = round(values["smallest_detectable_loss"], 6)
    return facts
