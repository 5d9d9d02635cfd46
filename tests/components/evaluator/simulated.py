"""Evaluations drawn at random from known truths, as the counts that the gate sees."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from components.evaluator.evidence import BASELINE, CHAMPION, Evidence, Pair, SliceEvidence

CLASSES, QUARTILES = 10, 4
OUTCOMES = np.array([(c, b, h) for c in (0, 1) for b in (0, 1) for h in (0, 1)], dtype=bool)
"""Whether candidate, baseline and champion are right."""


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
    references = (BASELINE, CHAMPION)[: 2 if champion else 1]
    for drawn in table:  # [class, quartile, outcome]
        parts = [("overall", (), drawn.sum((0, 1)))]
        parts += [(f"label:{k}", ("label",), drawn[k].sum(0)) for k in range(CLASSES)]
        parts += [
            (f"ink_quartile:{q}", ("ink_quartile",), drawn[:, q].sum(0)) for q in range(QUARTILES)
        ]
        parts += [
            (f"ink_quartile_X_label:{q}_X_{k}", ("ink_quartile", "label"), drawn[k, q])
            for k, q in np.ndindex(CLASSES, QUARTILES)
        ]
        found = [_slice(*part, references) for part in parts]
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
    name: str, columns: tuple[str, ...], outcomes: np.ndarray, references: tuple[str, ...]
) -> SliceEvidence:
    ours = OUTCOMES[:, 0]
    others = {BASELINE: OUTCOMES[:, 1], CHAMPION: OUTCOMES[:, 2]}
    return SliceEvidence(
        name=name,
        columns=columns,
        images=int(outcomes.sum()),
        correct=int(outcomes[ours].sum()),
        against={
            reference: Pair(
                only_candidate=int(outcomes[ours & ~others[reference]].sum()),
                only_reference=int(outcomes[~ours & others[reference]].sum()),
            )
            for reference in references
        },
    )
