"""The root of every error that a person can act on.

It stands in the lowest layer so that `data`, `serving` and `components` can raise it;
`engine.errors` adds the orchestrator's own errors and maps all of them to exit codes.
"""

from functools import partial


def printable(text: str) -> str:
    """A text in one line, for any terminal and log: names of files may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class BnpipeError(Exception):
    """An error that a person can act on, in one line.

    Args:
        headline: what was wrong, what was expected and what was received.
        hint: what to type or change next; may be empty.
    """

    def __init__(self, headline: str, *, hint: str = "") -> None:
        self.headline, self.hint = printable(headline), printable(hint)
        super().__init__(self.headline)

    def __str__(self) -> str:
        return f"{self.headline}; {self.hint}" if self.hint else self.headline

    def __reduce__(self) -> tuple[object, ...]:
        # A keyword-only argument is lost by the default reduction when Beam pickles the error.
        return (partial(type(self), hint=self.hint), (self.headline,))


class DataError(BnpipeError):
    """The data cannot be had, or is not what it should be."""


class RequestError(BnpipeError):
    """A request for something that does not exist: a data set's name, a flag for Beam."""


class ForeignFile(RequestError):
    """A file that somebody else wrote is in the place of one of ours."""


class DataRequestError(DataError, RequestError):
    """The data that was asked for cannot exist: no such data set, no such folder."""
