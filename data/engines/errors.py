"""What goes wrong on an engine, in one line."""

from __future__ import annotations

import re
from functools import partial

from bnpipe.data.errors import BnpipeError, printable

_TRACEBACK = "Traceback (most recent call last):"
# What a worker says when it was ended from outside, in the words of gRPC and of Beam.
_ENDED = ("client cancelled", "Channel closed", "Stream removed", "Socket closed")


class EngineError(BnpipeError):
    """An engine, or a job on it, failed.

    Args:
        may_pass: whether the same job may succeed on a second try.
    """

    def __init__(self, headline: str, *, hint: str = "", may_pass: bool = False) -> None:
        super().__init__(headline, hint=hint)
        self.may_pass = may_pass

    def __reduce__(self) -> tuple[object, ...]:
        whole = partial(type(self), hint=self.hint, may_pass=self.may_pass)
        return (whole, (self.headline,))


def raised_last(text: str) -> str:
    """The last error of the tracebacks in a text, as one line; empty without one.

    Workers elsewhere send errors so: what counts stands behind the frames, which are indented.
    """
    _, traceback, after = text.rpartition(_TRACEBACK)
    for line in after.splitlines() if traceback else ():
        if line.strip() and line[0] != " ":
            kind, colon, message = line.partition(": ")
            ours = bool(colon) and kind.startswith("bnpipe.")
            details = re.search(r'details = "(.*?)"', after)  # of gRPC, which takes many lines
            return printable(details[1] if details else message if ours else line)
    return ""


def last_cause(text: str) -> tuple[str, bool]:
    """The last cause in what an engine tells of a failed job.

    Returns:
        it in one line, and whether it is an error that Python code raised: that does not pass.
    """
    text = re.sub(r"\APipeline \S+ failed in state \w+: ", "", text)
    if raised := raised_last(text):
        after = text.rpartition(_TRACEBACK)[2]
        return raised, not any(ended in after for ended in _ENDED)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()] or ["no reason"]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    return printable((causes or lines[:1])[-1].removeprefix("Caused by: ")), False
