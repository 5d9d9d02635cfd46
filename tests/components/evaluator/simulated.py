"""Evaluations drawn at random from known truths, as the counts that the gate sees."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from bnpipe.components.evaluator.evidence import BASELINE, CHAMPION, Evidence, Pair, SliceEvidence
from bnpipe.components.evaluator.params import Rules

CLASSES, QUARTILES = 10, 4
OUTCOMES = np.array([(c, b, h) for c in (0, 1) for b in (0, 1) for h in (0, 1)], dtype=bool)
"""Whether candidate, baseline and champion are right."""
_OURS, *_THEIRS = OUTCOMES.T
COUNTED = np.stack(
    [
        np.ones(len(OUTCOMES)),
        _OURS,
        *(pair for theirs in _THEIRS for pair in (_OURS & ~theirs, ~_OURS & theirs)),
    ],
    axis=1,
).astype(np.int64)
"""Which outcomes are counted as images, as correct, and as each reference's two paired counts."""


def at(level: str, *names: str) -> Rules:
    """The rules of the gate, some of them at another level."""
    return Rules(**dict.fromkeys(names, level))


def evaluations(
    count: int,
    images: int,
    *,
    accuracy: float,
    loss: float = 0.0,
    discordance: float,
    class_loss: float = 0.0,
    champion: bool = False,
    seed: int = 0,
) -> Iterator[Evidence]:
    """Draws evaluations of a candidate against its references on the same images.

    Args:
        count: how many to draw.
        images: images per evaluation, spread evenly over classes and ink quartiles.
        accuracy: the references' true accuracy.
        loss: by how much the candidate's true accuracy is lower, on every image alike.
        discordance: true share of images on which exactly one of two models is right.
        class_loss: a further loss of the candidate on the images of class 0 alone.
        champion: whether there is one beside the baseline, as different from both as they are.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    shares = _shares(accuracy, loss, discordance, champion)
    hurt = shares.copy()
    everyone, all_but_candidate = (7, 3) if champion else (6, 2)
    hurt[[everyone, all_but_candidate]] += -class_loss, class_loss
    per_cell = images // (CLASSES * QUARTILES)
    table = np.stack(
        [
            rng.multinomial(per_cell, hurt if k == 0 else shares, size=(count, QUARTILES))
            for k in range(CLASSES)
        ],
        axis=1,
    )
    # [draw, slice, count]: the slices are the whole, classes, quartiles and their combinations.
    drawn = np.concatenate(
        [
            table.sum((1, 2))[:, None],
            table.sum(2),
            table.sum(1),
            table.reshape(count, CLASSES * QUARTILES, -1),
        ],
        axis=1,
    )
    counts = drawn @ COUNTED
    names = [("overall", ()), *((f"label:{k}", ("label",)) for k in range(CLASSES))]
    names += [(f"ink_quartile:{q}", ("ink_quartile",)) for q in range(QUARTILES)]
    names += [
        (f"ink_quartile_X_label:{q}_X_{k}", ("ink_quartile", "label"))
        for k, q in np.ndindex(CLASSES, QUARTILES)
    ]
    references = (BASELINE, CHAMPION)[: 2 if champion else 1]
    for one in counts.tolist():
        found = [
            _slice(*name, counted, references) for name, counted in zip(names, one, strict=True)
        ]
        yield dataclasses.replace(sound(*found), champion="version 1" if champion else "")


def sound(overall: SliceEvidence, *slices: SliceEvidence) -> Evidence:
    """Evidence with these counts, and nothing wrong with anything else."""
    return Evidence(
        overall=overall,
        slices=slices,
        guessing=1 / CLASSES,
        calibration_error=0.01,
        calibration_bound=0.012,
        batch_difference=0.0,
        tfma_failures=(),
    )


def _shares(accuracy: float, loss: float, discordance: float, champion: bool) -> np.ndarray:
    """Probability of every outcome."""
    if champion:  # Any one of three is alone in being right, or in being wrong, equally often.
        alone = discordance / 4
        right = accuracy - 3 * alone - loss / 2
        wrong = 1 - right - 6 * alone
        shares = [wrong, *(alone,) * 6, right]
        shares[4] -= loss / 2  # only the candidate is right
        shares[3] += loss / 2  # only the candidate is wrong
        return np.array(shares)
    only_candidate, only_baseline = (discordance - loss) / 2, (discordance + loss) / 2
    shares = np.zeros(8)  # the champion's bit is 0: there is none
    shares[[4, 2]] = only_candidate, only_baseline
    shares[6] = accuracy - only_baseline
    shares[0] = 1 - accuracy - only_candidate
    return shares


def _slice(
    name: str, columns: tuple[str, ...], counted: list[int], references: tuple[str, ...]
) -> SliceEvidence:
    images, correct, *pairs = counted
    against = {reference: Pair(*pairs[2 * i : 2 * i + 2]) for i, reference in enumerate(references)}
    return SliceEvidence(name, columns, images, correct, against)
