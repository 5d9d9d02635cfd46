"""A small pipeline for tests of the machinery: seconds instead of minutes, no TensorFlow.

source -> train (and its twin) -> judge [gate] -> the real pusher, with the real champion rule.
The model is two files that look like a SavedModel; its bytes follow from the source and `rate`.
`TOY_FAIL`, `TOY_KILL` and `TOY_SLEEP` in the environment name a step that fails, is killed while
it has written half of its output, or waits; `TOY_NOISE` makes training irreproducible.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnpipe.components import pusher
from bnpipe.components.artifacts import Artifact, Blessing, Model, ServedModel
from bnpipe.components.base import Component, Context, Facts, machine_local
from bnpipe.data.errors import DataError
from bnpipe.pipeline.champion import champion_of
from bnpipe.pipeline.engine.graph import Graph

DATASET = {"name": "toy", "version": "1", "height": 2, "width": 2, "label_names": ["a", "b"]}


@dataclass(frozen=True)
class NoInputs:
    pass


@dataclass(frozen=True)
class SourceOutputs:
    numbers: Artifact


@dataclass(frozen=True, kw_only=True)
class SourceParams:
    file: str = machine_local("")
    count: int = 3


def probe(params: SourceParams, cache: Path) -> Mapping[str, str]:
    return {"file": hashlib.sha256(Path(params.file).read_bytes()).hexdigest()}


def source(inputs: NoInputs, outputs: SourceOutputs, params: SourceParams, ctx: Context) -> Facts:
    text = Path(params.file).read_text()
    (outputs.numbers.path / "a.txt").write_text(text * params.count)
    _misbehave(ctx.step)
    (outputs.numbers.path / "b.txt").write_text(text)
    return {"bytes": len(text)}


@dataclass(frozen=True)
class TrainInputs:
    numbers: Artifact


@dataclass(frozen=True)
class TrainOutputs:
    model: Model


@dataclass(frozen=True, kw_only=True)
class TrainParams:
    rate: int = 1
    dataset: str = "toy"


def train(inputs: TrainInputs, outputs: TrainOutputs, params: TrainParams, ctx: Context) -> Facts:
    text = (inputs.numbers.path / "a.txt").read_text()
    folder = outputs.model.saved_model
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(f"graph {text} {params.rate}")
    _misbehave(ctx.step)
    (folder / "variables" / "variables.index").write_text(str(params.rate))
    (folder / "variables" / "variables.data-00000-of-00001").write_text(text)
    (outputs.model.path / "training.weights.h5").write_text(str(params.rate))
    noise = time.time_ns() if os.environ.get("TOY_NOISE") else 0
    (outputs.model.path / "history.json").write_text(f"[{noise}]")
    card = {"dataset": {**DATASET, "name": params.dataset}}
    (outputs.model.path / "model_card.json").write_text(json.dumps(card))
    return {"rate": params.rate}


@dataclass(frozen=True)
class JudgeInputs:
    candidate: Model
    baseline: Model
    champion: ServedModel | None = None


@dataclass(frozen=True)
class JudgeOutputs:
    blessing: Blessing


@dataclass(frozen=True, kw_only=True)
class JudgeParams:
    passes: bool = True


def judge(inputs: JudgeInputs, outputs: JudgeOutputs, params: JudgeParams, ctx: Context) -> Facts:
    from bnpipe.serving.export.digest import tree_digest

    _misbehave(ctx.step)
    champion = inputs.champion
    compared = None
    if champion is not None:
        compared = {"version": champion.version, "digest": tree_digest(champion.path)}
    blessing = {
        "passed": params.passes,
        "sentence": "good enough" if params.passes else "not good enough",
        "rules": [],
        "champion": compared,
        "model": tree_digest(inputs.candidate.saved_model),
    }
    (outputs.blessing.path / "blessing.json").write_text(json.dumps(blessing, sort_keys=True))
    (outputs.blessing.path / ("BLESSED" if params.passes else "NOT_BLESSED")).write_text("")
    return {"compared_with": champion.version if champion else None}


def _misbehave(step: str) -> None:
    if os.environ.get("TOY_FAIL") == step:
        raise DataError("the toy broke", hint="mend the toy")
    if os.environ.get("TOY_KILL") == step:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("TOY_SLEEP") == step:
        time.sleep(999)


SOURCE = Component("source", NoInputs, SourceOutputs, SourceParams, source, probe=probe)
TRAIN = Component("train", TrainInputs, TrainOutputs, TrainParams, train)
JUDGE = Component("judge", JudgeInputs, JudgeOutputs, JudgeParams, judge, gate=True)


def toy_graph(
    file: Path,
    served: Path,
    *,
    rate: int = 1,
    passes: bool = True,
    dataset: str = "toy",
    model_name: str = "toy",
) -> Graph:
    """The toy pipeline over one input file and one served folder."""
    g = Graph()
    numbers = g.add(SOURCE, NoInputs(), SourceParams(file=str(file))).numbers
    params = TrainParams(rate=rate, dataset=dataset)
    candidate = g.add(TRAIN, TrainInputs(numbers), params).model
    baseline = g.add(TRAIN, TrainInputs(numbers), TrainParams(rate=0), name="twin").model
    champion = g.external("champion", ServedModel, champion_of(served), candidate="train.model")
    judged = g.add(JUDGE, JudgeInputs(candidate, baseline, champion), JudgeParams(passes=passes))
    g.add(
        pusher.COMPONENT,
        pusher.Inputs(candidate, judged.blessing),
        pusher.Params(base_path=str(served), model_name=model_name),
    )
    return g


def main() -> None:
    """Run the toy in its own process, with the arguments HOME FILE SERVED [RATE]."""
    import sys

    from bnpipe.pipeline.engine.execute import run_graph

    home, file, served, *rate = sys.argv[1:]
    graph = toy_graph(Path(file), Path(served), rate=int(rate[0]) if rate else 1)
    sys.exit(run_graph(graph, Path(home), toy_settings()).exit_code)


def toy_settings(**changes: object) -> object:
    """Settings of a toy run."""
    from contextlib import nullcontext

    from bnpipe.pipeline.engine.step import RunSettings
    from bnpipe.pipeline.summary import attach, describe

    product = {"describe": describe, "attach": attach}
    values = {"dataset": "toy", "config": {"toy": True}, "beam": nullcontext, **product, **changes}
    return RunSettings(**values)  # type: ignore[arg-type]
