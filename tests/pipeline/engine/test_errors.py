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


def test_our_errors_survive_pickling() -> None:
    for kind in (DataError, ServingError, ConfigError, StoreError):
        again = pickle.loads(pickle.dumps(kind("what", hint="next")))
        assert (type(again), again.headline, again.hint) == (kind, "what", "next")
