"""Beam pipelines as this project makes them: a safe local default, other runners by flags."""

from __future__ import annotations

import argparse
import difflib
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bnpipe.data.errors import RequestError

LOCAL_RUNNERS = frozenset(
    {"fnapirunner", "directrunner", "switchingdirectrunner", "bundlebaseddirectrunner"}
)
"""Names, in lower case, that all mean FnApiRunner in this process.

Beam's DirectRunner first tries Prism, a binary that it downloads when it runs and does not verify.
"""

_SHIPS_OWN_CODE = ("setup_file", "sdk_container_image", "environment_type", "extra_package")


_FETCHED = {
    "FlinkRunner": "flink_job_server_jar",
    "PrismRunner": "prism_location",
    "SparkRunner": "spark_job_server_jar",
}
"""The option that names what Beam would else download when it runs, of its newest release, and not
verify."""


class BeamFlagError(RequestError):
    """A flag behind `--` that Beam does not know, or with a value that it does not take."""


def pipeline(flags: Sequence[str]) -> Any:
    """Makes a Beam pipeline, to be used in a `with` statement.

    Args:
        flags: what stood behind `--` on the command line, e.g. `["--runner=FlinkRunner"]`.

    Returns:
        an apache_beam Pipeline: in this process by default, else on the runner that `flags` name,
        with the project staged as a source distribution unless the flags say how else workers get
        the code.

    Raises:
        BeamFlagError: see `check_flags`.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

    options = PipelineOptions(check_flags(flags))
    direct, runner = options.view_as(DirectOptions), None
    here = options.view_as(StandardOptions).runner == "FnApiRunner"
    if here and direct.direct_running_mode == "multi_processing":
        runner = _runner_with_processes()
        direct.direct_running_mode = None  # else the runner would start its own
    return beam.Pipeline(runner, options)


def _runner_with_processes() -> Any:
    """FnApiRunner whose workers are processes.

    The command that Beam itself would give to a shell has them import from the current folder, and
    fails where the path of the interpreter holds a space.
    """
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    words = (sys.executable, "-P", "-m", "apache_beam.runners.worker.sdk_worker_main")
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(shlex.join(words)))


def check_flags(flags: Sequence[str]) -> list[str]:
    """Checks Beam flags before anything runs, and completes them.

    Returns:
        the flags with the runner pinned, and with what a remote runner needs.

    Raises:
        BeamFlagError: there is no such runner, Beam would download it, a flag is unknown to the
            local runner, or its value is of the wrong kind. Flags that are unknown to Beam are
            handed on to other runners: their job servers have options of their own.
    """
    options, unknown, known = _parse(flags)
    runner = _runner_class(options.runner or "FnApiRunner")
    if runner.lower() in LOCAL_RUNNERS:
        if unknown:
            raise _unknown_flag(unknown[0], known)
        return [*flags, "--runner=FnApiRunner"]  # of several the last one counts
    fetched = _FETCHED.get(runner)
    if fetched and not options.job_endpoint and not Path(getattr(options, fetched) or "").is_file():
        raise BeamFlagError(
            f"--runner={runner}: expected a file by --{fetched}=FILE, or --job_endpoint=HOST:PORT, "
            f"received {getattr(options, fetched)}: Beam would download it and not verify it",
            hint="fetch it yourself; Maven Central has the jars of org.apache.beam, the Go module "
            "proxy Prism",
        )
    if any(getattr(options, name, None) for name in _SHIPS_OWN_CODE):
        return list(flags)
    return [*flags, f"--setup_file={_setup_file()}"]


def _parse(flags: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Beam's own parse of the flags: the options, what it does not know, what it could know."""
    from apache_beam.options.pipeline_options import PipelineOptions

    result: list[tuple[argparse.Namespace, list[str], list[str]]] = []

    def parse(parser: argparse.ArgumentParser) -> None:
        # Beam hands over its complete parser here; its own error() would end the process.
        parser.error = _bad_value  # type: ignore[method-assign]
        known = [name for name in parser._option_string_actions if name.startswith("--")]
        result.append((*parser.parse_known_args(flags), known))

    PipelineOptions([]).get_all_options(add_extra_args_fn=parse)
    return result[0]


def _runner_class(name: str) -> str:
    """The class that Beam's own rule makes of a runner's name: `flink` is FlinkRunner."""
    from apache_beam.options.pipeline_options import StandardOptions

    known = {path.rpartition(".")[2]: path for path in StandardOptions.ALL_KNOWN_RUNNERS}
    lower = {short.lower(): path for short, path in known.items()}
    path = lower.get(name.lower()) or lower.get(f"{name.lower()}runner") or name
    module, _, short = path.rpartition(".")
    if not module:
        near = difflib.get_close_matches(name, known, n=1)
        raise BeamFlagError(
            f"--runner: expected one of {', '.join(known)} or the full path of a class, "
            f"received {name}",
            hint=f"did you mean --runner={near[0]}?" if near else "leave it out to run here",
        )
    try:
        getattr(importlib.import_module(module), short)
    except (ImportError, AttributeError, TypeError) as error:
        raise BeamFlagError(
            f"--runner: {path} cannot be imported: {error}", hint="leave it out to run here"
        ) from error
    return short


def _bad_value(message: str) -> NoReturn:
    raise BeamFlagError(f"Beam does not accept the flags behind '--': {message}")


def _unknown_flag(flag: str, known: list[str]) -> BeamFlagError:
    name = flag.split("=")[0]
    near = difflib.get_close_matches(name, known, n=1)
    return BeamFlagError(
        f"expected flags that Beam's local runner knows behind '--', received {name}",
        hint=f"did you mean {near[0]}?" if near else "Beam lists its flags in PipelineOptions",
    )


def _setup_file() -> Path:
    path = Path(__file__).resolve().parent.parent / "setup.py"
    if not path.exists():
        raise BeamFlagError(
            f"expected {path} to send this project to Beam workers, but it is not there",
            hint="pass --sdk_container_image=<image with bnpipe>, or run from a checkout",
        )
    return path
