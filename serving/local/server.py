"""The whole server in one object: for the process and for tests that run it in their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from bnpipe.serving.local.api import RestApi
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.grpc_service import GrpcServer
from bnpipe.serving.local.http import RestServer
from bnpipe.serving.local.manager import Manager
from bnpipe.serving.local.servable import Servable
from bnpipe.serving.local.states import Settings
from bnpipe.serving.local.warmup import load_and_warm_up

GRACE_SECONDS = 10.0


class LocalServer:
    """A running stand-in.

    The ports open when every model has a loaded version, as TF Serving's do.

    Args:
        models: a models.config, or the models themselves.
        settings: flags.
        host: the address to listen on.
        rest_port: 0 for any free one.
        grpc_port: 0 for any free one.
        cancelled: says that waiting for the first version should end.

    Attributes:
        manager: what is loaded.
        rest_port: the port of REST.
        grpc_port: the port of gRPC.

    Raises:
        StatusError: the configuration is not valid, or a model could not be loaded.
        OSError: a port is taken.
        InterruptedError: waiting was cancelled.
    """

    def __init__(
        self,
        models: Path | Sequence[ModelEntry],
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        rest_port: int = 0,
        grpc_port: int = 0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        file = models if isinstance(models, Path) else None
        self._stops = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self.manager: Manager[Servable] = Manager(load_and_warm_up, settings, file)
            if not isinstance(models, Path):
                self.manager.reload(models)
            self.manager.start()
            opened.callback(self.manager.stop)
            if not self.manager.wait_until_available(cancelled):
                raise InterruptedError("stopped before a version was loaded")
            rest = RestServer(RestApi(self.manager), host, rest_port)
            opened.callback(rest.stop, GRACE_SECONDS)
            grpc = GrpcServer(self.manager, host, grpc_port)
            opened.callback(grpc.stop, GRACE_SECONDS)
            self.rest_port, self.grpc_port = rest.port, grpc.port
            self._stops = opened.pop_all()

    def stop(self) -> None:
        """Accept nothing new, answer what is in flight, give everything back."""
        self._stops.close()
