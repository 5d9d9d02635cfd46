"""The rules of the gate by their names in config: what a model must show to be published.

A rule takes the evidence, the evidence on the whole split and the thresholds, and gives an
assessment. `rules_soundness.py` asks whether the evidence can be trusted, `rules_absolute.py`
whether the candidate is good, `rules_reference.py` whether it is no worse than what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from bnpipe.components.evaluator import rules_absolute, rules_reference, rules_soundness
from bnpipe.components.evaluator.assessment import Rule
from bnpipe.components.evaluator.evidence import BASELINE, CHAMPION

RULES: Mapping[str, Rule] = {
    "usable_champion": rules_soundness.usable_champion,
    "no_empty_slice": rules_soundness.no_empty_slice,
    "accuracy_floor": rules_absolute.accuracy_floor,
    "worst_class": rules_absolute.worst_class,
    "slice_floor": rules_absolute.slice_floor,
    "baseline_non_inferior": partial(rules_reference.non_inferior, BASELINE),
    "baseline_not_worse": partial(rules_reference.not_worse, BASELINE),
    "baseline_slices": partial(rules_reference.slices_not_worse, BASELINE),
    "champion_non_inferior": partial(rules_reference.non_inferior, CHAMPION),
    "champion_not_worse": partial(rules_reference.not_worse, CHAMPION),
    "champion_slices": partial(rules_reference.slices_not_worse, CHAMPION),
    "calibration": rules_absolute.calibration,
    "batch_invariance": rules_soundness.batch_invariance,
    "tfma_validation": rules_soundness.tfma_validation,
}
"""Every rule, in the order in which they are reported."""

PROVE_NO_QUALITY = frozenset(
    {"usable_champion", "no_empty_slice", "calibration", "batch_invariance", "tfma_validation"}
)
"""Rules that bless nothing by themselves: a model that ignores the images can pass them all, and
be perfectly calibrated."""
