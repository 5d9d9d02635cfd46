"""infra_validator: is the candidate served as it was evaluated?

The SavedModel is linted, restored and served in a fresh process, and asked over REST and gRPC what
the evaluator asked it. Where there is a TensorFlow Serving (on PATH, configured, or an image that
Docker has), it must give the same answers; without one the verdict is marked as weaker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt

from bnpipe.components.artifacts import Blessing, Evaluation, InfraBlessing, Model
from bnpipe.components.base import Component, Context, Facts, configured_as, machine_local
from bnpipe.components.infra_validator import servers


@dataclass(frozen=True)
class Inputs:
    """The model to serve, the blessing of its bytes, and the answers that it must give."""

    model: Model
    blessing: Blessing
    evaluation: Evaluation


@dataclass(frozen=True)
class Outputs:
    """The verdict."""

    infra_blessing: InfraBlessing


@dataclass(frozen=True, kw_only=True)
class Params:
    """The server to ask, and the patience with it."""

    server_binary: str | None = configured_as("serving.server_binary", None, in_key=False)
    """The tensorflow_model_server; by default the one on PATH, then Docker's image."""
    require_real_server: bool = configured_as("serving.require_real_server", False)
    """Demands TensorFlow Serving: the stand-in's word is not enough."""
    start_seconds: Annotated[float, Gt(0)] = machine_local(120.0)
    """The longest that a server may take until it serves."""
    answer_seconds: Annotated[float, Gt(0)] = machine_local(30.0)
    """The longest that it may take for one answer."""
    timed_requests: Annotated[int, Ge(1)] = machine_local(100)
    """Requests per protocol that latency is measured with."""


def probe(params: Params, cache: Path) -> Mapping[str, str]:
    """Names the server that there is: a better one, or another release, is a reason to ask it."""
    return {"server": servers.find(params.server_binary).identity}


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Serves the candidate and compares its answers with the evaluator's.

    Raises:
        ServingError: the blessing is another model's, there are no requests to send, or a server
            could not be started, did not answer or died: faults, which are not held against the
            model.
    """
    from bnpipe.components.infra_validator.work import judge

    return judge(inputs, outputs, params, ctx)


def ahead(params: Params) -> None:
    """Starts the fresh process, whose libraries take seconds to load."""
    from bnpipe.components.infra_validator.work import make_ready

    make_ready()


PROGRAMS = ("bnpipe.components.infra_validator.fresh", "bnpipe.data.parent")
"""Modules that are started by name, each as a process of its own."""

COMPONENT = Component(
    "infra_validator",
    Inputs,
    Outputs,
    Params,
    run,
    gate=True,
    probe=probe,
    uses=PROGRAMS,
    ahead=ahead,
)
