"""The label validator's work: ask models that have not seen the images, judge, write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import SPLITS
from bnpipe.components.base import Context, Facts
from bnpipe.components.label_validator import confident
from bnpipe.components.label_validator.answer_drift import AnswerDrift, answer_drift, spread
from bnpipe.components.label_validator.gate import Part, decide
from bnpipe.components.label_validator.params import Params
from bnpipe.components.label_validator.step import Inputs, Outputs
from bnpipe.components.network.examples import BLOCK_ROWS
from bnpipe.components.network.rows import Rows
from bnpipe.components.network.saved_model import ask, unusable
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.json_text import json_text
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.data.statistics.summary import BASE, read_parts

Bools = npt.NDArray[np.bool_]
_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


def validate(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """See `step.run`."""
    info = DatasetInfo.read(inputs.examples.path)
    ctx.progress(0, 1, "reading images")
    ctx.scratch.mkdir(parents=True, exist_ok=True)
    rows = Rows.read(inputs.examples, info, ctx.scratch / "pixels.uint8")
    probabilities, why_not = _probabilities(inputs, rows)
    parts: list[Part] = []
    drifts: dict[str, AnswerDrift] = {}
    suspects: dict[str, npt.NDArray[Any]] = {}
    if len(probabilities):
        sure = confident.thresholds(probabilities, rows.labels)
        classes = np.concatenate(
            [confident.confident_classes(part, sure) for part in _in_blocks(probabilities)]
        )
        # Another class may be sure though the label is still the most probable one: that is no word
        # against the label.
        classes[(probabilities.argmax(axis=1) == rows.labels) & (classes != rows.labels)] = -1
        new, beside, drifts = _asked(inputs, rows, probabilities, classes, ctx)
        parts = _parts(rows, inputs, classes, new, beside)
        suspects = _suspects(rows, probabilities, classes, params.pictures)
    decision = decide(parts, params, drifts, why_not)
    number = sum(int(a.sum()) for name, a in suspects.items() if name.endswith("/confident"))
    tail = (1.0 - params.confidence) / 2.0
    verdict = {
        "passed": decision.passed,
        "sentence": decision.sentence,
        "checks": [ruling.to_json() for ruling in decision.rulings],
        "parts": {
            part.name: {
                "images": part.images,
                "wrong_share": part.share,
                "interval": [*map(float, confident.bounds(part.share, part.images, tail))],
            }
            for part in parts
        },
    }
    folder = outputs.quality.path
    (folder / "verdict.json").write_text(json_text(verdict, indent=2, sort_keys=True) + "\n")
    # Without suspects at all the file holds something: it is never empty.
    np.savez(folder / "suspects.npz", **suspects)  # type: ignore[arg-type]
    ctx.log.info(decision.sentence)
    ctx.progress(1, 1, decision.sentence)
    return {
        "passed": decision.passed,
        "verdict": decision.sentence,
        "suspects": number,
        "images_answered_by_champion": int(new.sum()) if parts else 0,
        "wrong_share": parts[0].share if parts else None,
    }


def _in_blocks(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """An array of a row per image cut into parts: what is computed row by row needs no copy."""
    return np.array_split(array, -(-len(array) // BLOCK_ROWS) or 1)


def _probabilities(inputs: Inputs, rows: Rows) -> tuple[npt.NDArray[np.float32], str]:
    """What cross-validation answered, float32[N, K]; without rows where it had not, and why.

    Raises:
        DataError: they are of other images.
    """
    none = np.zeros((0, rows.info.classes), np.float32)
    if inputs.answers is None:
        return none, "own_labels and part_labels are off"
    found: npt.NDArray[np.float32] = np.load(inputs.answers.path / "probabilities.npy")
    if len(found) and found.shape != (len(rows.labels), rows.info.classes):
        raise DataError(
            f"{inputs.answers.producer}: expected answers of shape "
            f"{(len(rows.labels), rows.info.classes)}, received {found.shape}"
        )
    return found, "" if len(found) else "too few images to train a network on"


def _asked(
    inputs: Inputs,
    rows: Rows,
    probabilities: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    ctx: Context,
) -> tuple[Bools, Part | None, dict[str, AnswerDrift]]:
    """Joins the champion's answers to the others, for spans that it was not trained on.

    Alone it would take drift for wrong labels: an image counts as sure only where it and the quick
    networks, which learned from such images, name one class. The test split is left to networks
    that nobody is compared with. What is sure to the champion, and how often it contradicts labels
    that are good, is measured on the data set's own validation images, which are new to it too.

    Returns:
        which rows it answers for, what to compare their parts with, and by span how its answers
        differ from those that they are compared with.
    """
    none = np.zeros(len(rows.labels), bool)
    if inputs.champion is None or inputs.champion_statistics is None:
        return none, None, {}
    try:
        trained = read_parts(inputs.champion_statistics.path / f"Split-{SPLITS[_TRAIN]}")
    except DataError as error:
        ctx.log.info("the champion is not asked: %s", error.headline)
        return none, None, {}
    named = _spans(inputs)
    numbers = [number for number, name in named.items() if f"span-{name}" not in trained]
    new = np.isin(rows.spans, numbers) & (rows.splits != _TEST)
    own = (rows.spans == 0) & (rows.splits == _VALIDATION)
    if not new.any() or not own.any():
        return none, None, {}
    if why := unusable(inputs.champion.saved_model, rows.info):
        ctx.log.info("the champion is not asked: %s", why)
        return none, None, {}
    theirs = _by_champion(rows, new | own, inputs.champion.saved_model)
    if not np.isfinite(theirs).all():
        ctx.log.info("the champion is not asked: its answers are not finite")
        return none, None, {}
    first, labels = own[new | own], rows.labels[own]
    sure = confident.thresholds(theirs[first], labels)
    agreed = confident.agreed_classes(theirs, sure, classes[new | own])
    probabilities[new] = (probabilities[new] + theirs[~first]) / 2
    classes[new] = agreed[~first]
    share = confident.wrong_share(labels, agreed[first], rows.info.classes)
    drifts = {}
    for number in numbers:
        of_span = theirs[rows.spans[new | own] == number]
        if len(of_span):
            sample = of_span[spread(len(of_span))]
            drifts[f"span-{named[number]}"] = answer_drift(theirs[first], sample)
    return new, Part(_name(_VALIDATION, 0, named), int(own.sum()), share), drifts


def _by_champion(rows: Rows, chosen: Bools, saved_model: Path) -> npt.NDArray[np.float32]:
    """Probabilities of an exported model for the chosen images, float32[n, K]."""
    answers = [np.zeros((0, rows.info.classes), np.float32)]
    for block, pixels in rows.blocks():
        images = pixels[chosen[block]].reshape(-1, rows.info.height, rows.info.width)
        if len(images):
            answers.append(ask(str(saved_model), flatten_and_scale(images)))
    return np.concatenate(answers)


def _spans(inputs: Inputs) -> dict[int, str]:
    """Names of the spans by number."""
    spans = inputs.examples.read_json("dataset.json").get("spans", {})
    return {int(counts["number"]): name for name, counts in spans.items()}


def _name(split: int, span: int, named: dict[int, str]) -> str:
    """A part's name, as in the data gate."""
    source = f"/span-{named.get(span, span)}" if span else f"/{BASE}" if named else ""
    return SPLITS[split] + source


def _parts(
    rows: Rows,
    inputs: Inputs,
    classes: npt.NDArray[np.int64],
    new: Bools,
    beside: Part | None,
) -> list[Part]:
    """Every part with its share; the data set's own train records, or else all, come first."""
    named = _spans(inputs)

    def part(chosen: Bools, name: str, reference: Part | None = None) -> Part:
        share = confident.wrong_share(rows.labels[chosen], classes[chosen], rows.info.classes)
        return Part(name, int(chosen.sum()), share, reference)

    own = part((rows.splits == _TRAIN) & (rows.spans == 0), _name(_TRAIN, 0, named))
    parts = [own] if own.images else []
    for split, span in np.unique(np.stack([rows.splits, rows.spans], axis=1), axis=0).tolist():
        name = _name(split, span, named)
        chosen = (rows.splits == split) & (rows.spans == span)
        reference = beside if new[chosen].any() else own if own.images else None
        if name != own.name:
            parts.append(part(chosen, name, reference))
    return parts


def _suspects(
    rows: Rows,
    probabilities: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    pictures: int,
) -> dict[str, npt.NDArray[Any]]:
    """The content of `suspects.npz`, see `LabelQuality`."""
    blocks = zip(_in_blocks(probabilities), _in_blocks(rows.labels), strict=True)
    quality = np.concatenate([confident.label_quality(*both) for both in blocks])
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, split in enumerate(SPLITS):
        chosen = np.flatnonzero((rows.splits == number) & (quality < 0.5))
        ranked = chosen[np.argsort(quality[chosen], kind="stable")]
        labels, best = rows.labels[ranked], probabilities[ranked].argmax(axis=1)
        sure = (classes[ranked] >= 0) & (classes[ranked] != labels)
        arrays |= {
            f"{split}/id": rows.ids(ranked),
            f"{split}/label": labels,
            f"{split}/suggested": np.where(sure, classes[ranked], best),
            f"{split}/score": quality[ranked].astype(np.float32),
            f"{split}/confident": sure,
            f"{split}/image": rows.images(ranked[:pictures]),
        }
    return arrays
