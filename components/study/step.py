"""study: TransformedExamples -> Study. Many small trainings, paired by seed."""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.components.artifacts import TransformedExamples
from bnpipe.components.base import Component, Context, Facts
from bnpipe.components.study.params import Params
from bnpipe.components.study.results import Study


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The examples of all trainings."""

    examples: TransformedExamples


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What was measured of every training."""

    study: Study


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Trains what the plan says in processes of its own, and goes on where a killed study was.

    Raises:
        StudyError: a split has too few examples, or a process ended before its work.
        DataError: a file is damaged.
    """
    from bnpipe.components.study.work import study

    return study(inputs.examples, outputs.study, params, ctx)


WORKER = "bnpipe.components.study.worker"
"""The module that is started by name, as a process of its own."""

COMPONENT = Component("study", Inputs, Outputs, Params, run, uses=(WORKER,))
