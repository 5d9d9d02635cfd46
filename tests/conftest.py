"""What tests of several folders share: running one component by hand, and tiny data.

`run_component(component, inputs, params, folder)` stands in for the runner: it binds the outputs to
folders, makes a context, runs the component and checks every artifact.
"""

import dataclasses
import fcntl
import logging
import os
import pickle
import shutil
import signal
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Component, Context, Facts
from tests import child

TINY_SIZE = 512

child.forget_the_caller()
TF_SERVING = os.environ.get(child.TF_SERVING) or shutil.which("tensorflow_model_server")

# How long an example takes is the machine's affair. CI judges a change, so it draws the same
# examples whenever it judges the same one; a run by hand draws new ones.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=child.CI in os.environ,
)
settings.load_profile("any machine")

# A shell starts what it puts in the background with SIGINT and SIGQUIT ignored, nohup all with
# SIGHUP, and children inherit that; some tests send them to theirs. With a handler they do not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, lambda *_: None)


class Ran(NamedTuple):
    """What a component left behind: its bound outputs and its facts."""

    outputs: Any
    facts: Facts


RunComponent = Callable[..., Ran]


def _run(
    component: Component[Any, Any, Any],
    inputs: Any,
    params: Any,
    folder: Path,
    *,
    cache: Path,
    beam_flags: tuple[str, ...] = (),
) -> Ran:
    kinds = typing.get_type_hints(component.Outputs)
    bound: dict[str, Artifact] = {}
    for field in dataclasses.fields(component.Outputs):
        path = folder / field.name
        path.mkdir(parents=True)
        bound[field.name] = kinds[field.name](f"{component.name}.{field.name}", path)
    scratch = folder / "scratch"
    scratch.mkdir()

    def beam() -> Any:
        from bnpipe.data.beam_io import pipeline

        return pipeline(beam_flags)

    context = Context(
        step=component.name,
        run_id="test",
        scratch=scratch,
        cache=cache,
        log=logging.getLogger(f"test.{component.name}"),
        progress=lambda done, total, note: None,
        beam=beam,
    )
    outputs = component.Outputs(**bound)
    facts = component.run(inputs, outputs, params, context)
    for artifact in bound.values():
        artifact.check()
    return Ran(outputs, facts)


# What explorations record; these numbers must not shrink unnoticed.
STOPS = {
    "crash points": "served folder and object store",
    "store crash points": "store",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how often a publish or a run was stopped."""
    for property_name, what in STOPS.items():
        points = [
            value
            for report in terminalreporter.getreports("passed")
            for name, value in report.user_properties
            if name == property_name
        ]
        if points:
            terminalreporter.write_line(
                f"{what}: stopped at {sum(points)} points in {len(points)} explorations, "
                "no promise broken"
            )


MadeOnce = Callable[[str, Callable[[Path], Any]], Any]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """What is too expensive for every worker to make: `made_once(name, make)`.

    The first worker that asks calls `make` with an empty folder; the others wait for what it
    returned, which must be possible to pickle, and must not change what lies in the folder.
    """
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent

    def made(name: str, make: Callable[[Path], Any]) -> Any:
        folder, kept = common / name, common / f"{name}.pickle"
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                folder.mkdir()
                kept.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(kept.read_bytes())

    return made


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Context.cache` of all tests of a session: prepared data is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run_component(shared_cache: Path) -> RunComponent:
    """Runs one component by hand: `run_component(component, inputs, params, empty_folder)`.

    Keyword arguments: `cache` (a folder, default `shared_cache`), `beam_flags`.
    """

    def run(
        component: Component[Any, Any, Any], inputs: Any, params: Any, folder: Path, **options: Any
    ) -> Ran:
        options.setdefault("cache", shared_cache)
        return _run(component, inputs, params, folder, **options)

    return run


@pytest.fixture(scope="session")
def tiny_examples(run_component: RunComponent, made_once: MadeOnce) -> Any:
    """Examples of 512 rendered digits."""

    def make(folder: Path) -> Any:
        from bnpipe.components.example_gen import COMPONENT, Inputs, Params

        params = Params(dataset="rendered_digits", size=TINY_SIZE, shards=2)
        return run_component(COMPONENT, Inputs(), params, folder).outputs.examples

    return made_once("tiny_examples", make)


@pytest.fixture(scope="session")
def tiny_transformed(run_component: RunComponent, tiny_examples: Any, made_once: MadeOnce) -> Any:
    """TransformedExamples of 512 rendered digits."""

    def make(folder: Path) -> Any:
        from bnpipe.components.transform import COMPONENT, Inputs, Params

        inputs = Inputs(examples=tiny_examples)
        return run_component(COMPONENT, inputs, Params(), folder).outputs.transformed

    return made_once("tiny_transformed", make)


@pytest.fixture(scope="session")
def mnist_archives() -> Path:
    """The folder with MNIST's four archives, named by BNPIPE_ARCHIVES."""
    folder = os.environ.get(child.ARCHIVES)
    if not folder:
        pytest.skip("BNPIPE_ARCHIVES is not set: it names the folder with MNIST's four archives")
    return Path(folder)


@pytest.fixture(scope="session")
def tf_serving() -> Path:
    """TensorFlow Serving's binary, named by BNPIPE_TF_SERVING or found on PATH."""
    if not TF_SERVING:
        pytest.skip(
            "no tensorflow_model_server on PATH, and BNPIPE_TF_SERVING names none: only the "
            "stand-in was asked"
        )
    return Path(TF_SERVING)


REAL = [pytest.param(TF_SERVING, marks=pytest.mark.tf_serving)] if TF_SERVING else []


@pytest.fixture(scope="session", params=["stand-in", *REAL])
def binary(request: pytest.FixtureRequest) -> Path | None:
    """What serves: None for the stand-in, else TensorFlow Serving's binary."""
    return None if request.param == "stand-in" else Path(request.param)
