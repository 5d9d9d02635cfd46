"""The root of every error that a person can act on.

It stands in the lowest layer so that `data`, `serving` and `components` can raise it;
`engine.errors` adds the orchestrator's own errors and maps all of them to exit codes.
"""


class BnpipeError(Exception):
    """Something a person can act on, told in one line.

    Args:
        headline: what was wrong, what was expected and what was received.
        hint: what to type or change next; may be empty.
    """

    def __init__(self, headline: str, *, hint: str = "") -> None:
        super().__init__(headline)
        self.headline = headline
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.headline}; {self.hint}" if self.hint else self.headline

    def __reduce__(self) -> tuple[object, ...]:
        # A keyword-only argument is lost by the default reduction when Beam pickles the error.
        return (_rebuild, (type(self), self.headline, self.hint))


class DataError(BnpipeError):
    """The data cannot be had, or is not what it should be."""


class RequestError(BnpipeError):
    """What was asked for does not exist: a data set's name, a flag for Beam."""


class DataRequestError(DataError, RequestError):
    """The data that was asked for cannot exist: no such data set, no such folder."""


def _rebuild(cls: type[BnpipeError], headline: str, hint: str) -> BnpipeError:
    return cls(headline, hint=hint)
