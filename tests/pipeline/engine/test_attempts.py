"""What Beam steps run on is there from the first of them to the run's end, and not without one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Component, Context, Facts
from bnpipe.data.engines.errors import EngineError
from bnpipe.data.errors import DataError
from bnpipe.pipeline.engine.errors import ExitCode
from bnpipe.pipeline.engine.execute import run_graph
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.step import may_pass
from tests.toy_graph import toy_settings


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class Made:
    made: Artifact


def plain(inputs: Nothing, outputs: Made, params: Nothing, ctx: Context) -> Facts:
    (outputs.made.path / "a").write_text("plain")
    return {}


def on_beam(inputs: Nothing, outputs: Made, params: Nothing, ctx: Context) -> Facts:
    with ctx.beam() as text:
        (outputs.made.path / "a").write_text(text)
    return {"ran_on": text}


GRAPH = Graph()
for _name, _run, _flag in (
    ("before", plain, False),
    ("first", on_beam, True),
    ("second", on_beam, True),
):
    GRAPH.add(Component(_name, Nothing, Made, Nothing, _run, on_beam=_flag), Nothing(), Nothing())


class Cluster:
    """Counts how often it is opened and closed."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.history: list[str] = []
        self._error = error

    @contextmanager
    def __call__(self, home: Path, run: Path, tell: Callable[[str], None]) -> Iterator[Any]:
        self.history.append(f"opened {run.name}")
        tell("trying")
        if self._error is not None:
            raise self._error
        yield opened
        self.history.append("closed")


@contextmanager
def opened(progress: Callable[[int, int, str], None]) -> Iterator[str]:
    progress(1, 2, "at work")
    yield "cluster"


def run(home: Path, cluster: Cluster, **changes: Any) -> Any:
    return run_graph(GRAPH, home, toy_settings(cluster=cluster, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [1, 2])
def test_it_is_opened_once_for_all_steps_on_beam_and_closed_at_the_end(
    tmp_path: Path, jobs: int
) -> None:
    cluster = Cluster()
    result = run(tmp_path, cluster, jobs=jobs)
    assert cluster.history == ["opened 0001", "closed"]
    assert [step["facts"].get("ran_on") for step in result.summary["steps"]] == [
        None,
        "cluster",
        "cluster",
    ]


def test_nobody_opens_it_for_other_steps_or_when_all_is_cached(tmp_path: Path) -> None:
    cluster = Cluster()
    run(tmp_path, cluster, selection=Selection(only="before"))
    assert cluster.history == []
    run(tmp_path, cluster)
    run(tmp_path, cluster)
    assert cluster.history == ["opened 0002", "closed"]


def test_one_that_cannot_be_had_fails_the_step_that_needs_it(tmp_path: Path) -> None:
    result = run(tmp_path, Cluster(EngineError("nobody answers at a:1", hint="start it")))
    assert result.exit_code == 1
    assert str(result.error) == "first failed: nobody answers at a:1; start it"
    assert [step["action"] for step in result.summary["steps"]] == ["run", "failed", "skipped"]


def test_ctrl_c_while_it_is_tried_leaves_nothing_behind(tmp_path: Path) -> None:
    result = run(tmp_path, Cluster(KeyboardInterrupt()))
    assert result.exit_code is ExitCode.INTERRUPTED
    assert list((tmp_path / "tmp").iterdir()) == []


def test_faults_of_an_engine_are_tried_again_and_errors_of_code_are_not() -> None:
    assert may_pass(EngineError("a TaskManager was lost", may_pass=True))
    assert not may_pass(EngineError("ZeroDivisionError"))
    assert not may_pass(DataError("bad"))
