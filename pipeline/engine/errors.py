"""Errors of the orchestrator, and the exit code of every error.

BnpipeError                    (data.errors) told in one line, with what to type next
|- DataError                   the data cannot be had or is wrong            1
|- RequestError                what was asked for does not exist              2
|- ServingError                publishing, or a server                       7
`- PipelineError
   |- ConfigError              unknown key, bad value, bad flag              2
   |- DefinitionError          the graph itself is wrong                     2
   |- StepFailed               a step raised                                 1 (or its error's)
   |- LockHeld                 another run is at this step, or gc is at work 5
   `- StoreError               a missing or damaged object, a newer format   6
"""

from __future__ import annotations

from enum import IntEnum

from bnpipe.data.engines.errors import raised_last
from bnpipe.data.errors import BnpipeError, RequestError, printable
from bnpipe.serving.errors import ServingError


class ExitCode(IntEnum):
    """The exit codes of `bnpipe`, each with one line for the README and `bnpipe --help`."""

    meaning: str

    OK = 0, "done, or nothing to do"
    FAILED = 1, "a step failed"
    USAGE = 2, "usage or configuration"
    VERDICT = 3, "a gate's verdict stopped it (data, labels, evaluation or infra)"
    ATTENTION = (
        4,
        "with --exit-code: attention needed (work to do, stale model, a worse canary)",
    )
    LOCKED = 5, "another run is at work on the same step, or gc in this home"
    STORE = 6, "the store is damaged"
    SERVING = 7, "publishing or server fault"
    BUG = 70, "a bug in bnpipe"
    INTERRUPTED = 130, "interrupted (Ctrl-C)"
    TERMINATED = 143, "terminated (SIGTERM)"

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A member that is its number."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class PipelineError(BnpipeError):
    """An error of the orchestrator."""

    exit_code = ExitCode.FAILED


class ConfigError(PipelineError):
    """A key, a value or a flag is not what the configuration knows."""

    exit_code = ExitCode.USAGE


class DefinitionError(PipelineError):
    """The graph is wired wrongly."""

    exit_code = ExitCode.USAGE


class LockHeld(PipelineError):
    """Another process is at the same step, or one of the two must be alone in the home."""

    exit_code = ExitCode.LOCKED


class StoreError(PipelineError):
    """An object is missing or damaged, or the store was written by a newer bnpipe."""

    exit_code = ExitCode.STORE


class StepFailed(PipelineError):
    """A step raised; `cause` is what it raised."""

    def __init__(self, step: str, cause: BaseException, *, hint: str) -> None:
        super().__init__(f"{step} failed: {one_line(cause)}", hint=hint)
        self.step = step
        self.cause = self.__cause__ = cause  # its traceback is what -v shows
        self.exit_code = exit_code_of(cause)


class WorkerDied(PipelineError):
    """The process that ran a step is gone: killed, or out of memory."""


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, not an Exception that a step could swallow."""


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code of an error that ended a command or a step."""
    if isinstance(error, PipelineError):
        return error.exit_code
    if isinstance(error, ServingError):
        return ExitCode.SERVING
    if isinstance(error, RequestError):
        return ExitCode.USAGE
    return ExitCode.FAILED


def one_line(error: BaseException) -> str:
    """An error as one line: ours as written; others as type and first line of the message.

    Beam's workers send errors as the text of a traceback: that of its last error is what counts.
    """
    if isinstance(error, BnpipeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        return printable(text)
    if cause := raised_last(str(error)):
        return cause
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}") if lines else type(error).__name__
