"""Errors: which exit code, and which one line."""

import errno
import os
import pickle

import pytest

from bnpipe.data.errors import BnpipeError, DataError, RequestError
from bnpipe.pipeline.engine.errors import (
    ConfigError,
    DefinitionError,
    ExitCode,
    LockHeld,
    PipelineError,
    StepFailed,
    StoreError,
    exit_code_of,
    one_line,
)
from bnpipe.serving.errors import ServingError

DOCUMENTED = {
    0: "OK",
    1: "FAILED",
    2: "USAGE",
    3: "VERDICT",
    4: "ATTENTION",
    5: "LOCKED",
    6: "STORE",
    7: "SERVING",
    70: "BUG",
    130: "INTERRUPTED",
    143: "TERMINATED",
}


def test_exit_codes_are_those_that_are_documented() -> None:
    assert {int(code): code.name for code in ExitCode} == DOCUMENTED


def test_every_exit_code_has_one_line_of_meaning() -> None:
    for code in ExitCode:
        assert code.meaning and "\n" not in code.meaning


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BnpipeError("x"), ExitCode.FAILED),
        (DataError("x"), ExitCode.FAILED),
        (RequestError("x"), ExitCode.USAGE),
        (ServingError("x"), ExitCode.SERVING),
        (PipelineError("x"), ExitCode.FAILED),
        (ConfigError("x"), ExitCode.USAGE),
        (DefinitionError("x"), ExitCode.USAGE),
        (LockHeld("x"), ExitCode.LOCKED),
        (StoreError("x"), ExitCode.STORE),
        (OSError("x"), ExitCode.FAILED),
        (ValueError("x"), ExitCode.FAILED),
        (StepFailed("s", ValueError("x"), hint=""), ExitCode.FAILED),
        (StepFailed("s", ServingError("x"), hint=""), ExitCode.SERVING),
        (StepFailed("s", StoreError("x"), hint=""), ExitCode.STORE),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError("no data", hint="get some"), "no data; get some"),
        (DataError("no data"), "no data"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
        (ValueError("\n\n  indented\nmore"), "ValueError: indented"),
        (ValueError(), "ValueError"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (FileNotFoundError(2, "No such file", "/a"), "No such file: /a"),
        (KeyError("name"), "KeyError: 'name'"),
        (StepFailed("train", ValueError("a\nb"), hint="look"), "train failed: ValueError: a; look"),
    ],
)
def test_every_error_is_one_line(error: Exception, told: str) -> None:
    assert one_line(error) == told


WORKER = """{before}Traceback (most recent call last):
  File "a.py", line 1, in a
    1 // 0
    ~~^^~~
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in b
    raise {kind}

{kind}: the cause
and more of it [while running 'Map(b)']
"""


@pytest.mark.parametrize("before", ["", "Error received from SDK harness for instruction 4: "])
@pytest.mark.parametrize(
    ("kind", "line"),
    [("ValueError", "ValueError: the cause"), ("bnpipe.data.errors.DataError", "the cause")],
)
def test_an_error_of_a_worker_is_the_line_of_its_cause(before: str, kind: str, line: str) -> None:
    error = RuntimeError(WORKER.format(before=before, kind=kind))
    assert one_line(error) == line
    assert one_line(StepFailed("transform", error, hint="")) == f"transform failed: {line}"


def test_a_traceback_without_an_end_is_still_one_line() -> None:
    assert one_line(RuntimeError("Traceback (most recent call last):\n  File")) == (
        "RuntimeError: Traceback (most recent call last):"
    )


def test_an_error_in_a_thread_of_beam_is_one_line_that_names_it() -> None:
    import apache_beam as beam

    from bnpipe.data.beam_io import pipeline

    flags = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    with pytest.raises(RuntimeError) as caught, pipeline(flags) as p:
        _ = p | beam.Create([0]) | "divide" >> beam.Map(lambda number: 1 // number)
    assert one_line(caught.value).startswith("ZeroDivisionError: integer division or modulo by")


def test_our_errors_survive_pickling() -> None:
    for kind in (DataError, ServingError, ConfigError, StoreError):
        again = pickle.loads(pickle.dumps(kind("what", hint="next")))
        assert (type(again), again.headline, again.hint) == (kind, "what", "next")
