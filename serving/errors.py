"""Errors of publishing and serving."""

from bnpipe.data.errors import BnpipeError


class ServingError(BnpipeError):
    """A served folder, a version or a server is not as it must be."""
