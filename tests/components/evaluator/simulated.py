"""Evaluations drawn at random from known truths, as the counts that the gate sees."""

from collections.abc import Iterator

import numpy as np

from components.evaluator.evidence import BASELINE, Evidence, Pair, SliceEvidence

CLASSES, QUARTILES = 10, 4


def evaluations(
    count: int,
    images: int,
    *,
    accuracy: float,
    loss: float = 0.0,
    discordance: float,
    class_loss: float = 0.0,
    seed: int = 0,
) -> Iterator[Evidence]:
    """Draws evaluations of a candidate against a baseline on the same images.

    Args:
        count: how many to draw.
        images: images per evaluation, spread evenly over classes and ink quartiles.
        accuracy: the baseline's true accuracy.
        loss: by how much the candidate's true accuracy is lower, on every image alike.
        discordance: true share of images on which exactly one of them is right.
        class_loss: a further loss of the candidate on the images of class 0 alone.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    only_candidate = (discordance - loss) / 2
    only_reference = (discordance + loss) / 2
    both = accuracy - only_reference
    shares = np.array([only_candidate, only_reference, both, 1 - accuracy - only_candidate])
    hurt = shares + np.array([0, class_loss, -class_loss, 0])
    per_cell = images // (CLASSES * QUARTILES)
    table = np.stack(
        [
            rng.multinomial(per_cell, hurt if k == 0 else shares, size=(count, QUARTILES))
            for k in range(CLASSES)
        ],
        axis=1,
    )
    for drawn in table:  # [class, quartile, outcome]
        labels = [_slice(f"label:{k}", "label", drawn[k].sum(0)) for k in range(CLASSES)]
        inks = [
            _slice(f"ink_quartile:{q}", "ink_quartile", drawn[:, q].sum(0))
            for q in range(QUARTILES)
        ]
        overall = _slice("overall", "", drawn.sum((0, 1)))
        yield sound(overall, *labels, *inks)


def sound(overall: SliceEvidence, *slices: SliceEvidence) -> Evidence:
    """Evidence with these counts, and nothing wrong with anything else."""
    return Evidence(
        overall=overall,
        slices=slices,
        calibration_error=0.01,
        calibration_bound=0.012,
        batch_difference=0.0,
        tfma_failures=(),
    )


def _slice(name: str, column: str, outcomes: np.ndarray) -> SliceEvidence:
    only_candidate, only_reference, both, _ = (int(n) for n in outcomes)
    return SliceEvidence(
        name=name,
        columns=(column,) if column else (),
        images=int(outcomes.sum()),
        correct=only_candidate + both,
        against={BASELINE: Pair(only_candidate, only_reference)},
    )
