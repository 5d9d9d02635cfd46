"""How large a study is: the `study` section of the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_args

from annotated_types import Ge, Le, MinLen

from bnpipe.components.base import machine_local
from bnpipe.components.study.results import Experiment


@dataclass(frozen=True, kw_only=True)
class Params:
    """The size of a study; what it trains is `plan.PLAN`."""

    seeds: Annotated[int, Ge(1), Le(1000)] = 16
    """Seeds of the main comparison; others have as many or fewer, in the plan's proportions."""
    epochs: Annotated[int, Ge(1)] = 10
    """Epochs of the main comparison; the others are shortened or lengthened with it, where the plan
    does not give them steps."""
    experiments: Annotated[tuple[Experiment, ...], MinLen(1)] = get_args(Experiment)
    """The parts to run; `own_rate` brings in `sweep`, and `custom` what it infers with, `main`."""
    workers: Annotated[int, Ge(1)] = machine_local(2)
    """Processes that train, of one thread each; the result is the same."""
