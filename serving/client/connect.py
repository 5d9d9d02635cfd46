"""From an address to the client that asks there."""

from __future__ import annotations

import urllib.parse

from bnpipe.data.quiet import quiet
from bnpipe.serving.client.base import Client, Options
from bnpipe.serving.errors import ServingError


def connect(address: str, model: str, options: Options | None = None) -> Client:
    """The client that asks at an address.

    Args:
        address: `http://HOST:PORT` or `grpc://HOST:PORT`.
        model: the model's name.
        options: timeout, retries, log.

    Raises:
        ServingError: the address is neither.
    """
    parts, options = urllib.parse.urlsplit(address), options or Options()
    if parts.scheme not in ("http", "https", "grpc") or not parts.netloc:
        raise ServingError(
            f"server: expected http://HOST:PORT or grpc://HOST:PORT, received {address!r}"
        )
    if parts.scheme == "grpc":
        with quiet():
            from bnpipe.serving.client.grpc import GrpcClient

        return GrpcClient(parts.netloc, model, options)
    from bnpipe.serving.client.rest import RestClient

    return RestClient(address, model, options)
