"""A client of TF Serving's REST interface; numpy and the standard library only."""

from __future__ import annotations

import base64
import json
import select
import socket
import threading
import urllib.parse
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client.base import (
    Arrays,
    Classes,
    Client,
    Examples,
    Options,
    Prediction,
    ServerError,
    VersionState,
)

_TYPES = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT64": np.int64,
    "DT_INT32": np.int32,
    "DT_UINT8": np.uint8,
    "DT_BOOL": np.bool_,
    "DT_STRING": np.object_,
}
_TRY_AGAIN = (429, 503)
_BROKEN = (ConnectionError, HTTPException)


class RestClient(Client):
    """Asks over REST.

    Args:
        url: `http://HOST:PORT`, or a path below it.
        model: the model's name.
        options: timeout, retries, log.
    """

    def __init__(self, url: str, model: str, options: Options) -> None:
        super().__init__(model, options)
        self._url = urllib.parse.urlsplit(url.rstrip("/"))
        self._local = threading.local()
        self._outputs: dict[str, dict[str, Any]] = {}

    def _predict(
        self, inputs: Arrays, signature: str, version: int | None, label: str | None
    ) -> Prediction:
        request = {
            "signature_name": signature,
            "inputs": {name: _to_json(array) for name, array in inputs.items()},
        }
        answer = self._ask("POST", f"{self._path(version, label)}:predict", request)["outputs"]
        infos = self._outputs.get(signature, {})
        # Also when a newer version has other outputs than the one that was asked first.
        if not infos or (isinstance(answer, dict) and answer.keys() != infos.keys()):
            signatures = self.metadata(version, label)["metadata"]["signature_def"]
            infos = self._outputs[signature] = signatures["signature_def"][signature]["outputs"]
        # A single output comes without its name.
        named = {next(iter(infos)): answer} if len(infos) == 1 else answer
        return Prediction({k: _from_json(v, infos[k]["dtype"]) for k, v in named.items()}, None)

    def _classify(
        self, examples: Examples, signature: str, version: int | None, label: str | None
    ) -> Classes:
        # A number without a decimal point would be taken for an integer feature.
        shown = [{k: [float(v) for v in values] for k, values in e.items()} for e in examples]
        request = {"signature_name": signature, "examples": shown}
        answer = self._ask("POST", f"{self._path(version, label)}:classify", request)
        return [[(str(k), float(v)) for k, v in row] for row in answer["results"]]

    def status(self, version: int | None = None) -> list[VersionState]:
        """The states of one version, or of all that the server ever saw, the highest first."""
        answer = self._ask("GET", self._path(version, None))
        return [
            VersionState(
                int(known["version"]),
                known["state"],
                known["status"]["error_code"],
                known["status"]["error_message"],
            )
            for known in answer["model_version_status"]
        ]

    def metadata(self, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """The answer to a metadata request."""
        answer: dict[str, Any] = self._ask("GET", f"{self._path(version, label)}/metadata")
        return answer

    def close(self) -> None:
        """Close this thread's connection; those of other threads end with them."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _path(self, version: int | None, label: str | None) -> str:
        path = f"{self._url.path}/v1/models/{urllib.parse.quote(self.model, safe='')}"
        if label is not None:
            return f"{path}/labels/{urllib.parse.quote(label, safe='')}"
        return path if version is None else f"{path}/versions/{version}"

    def _ask(self, method: str, path: str, request: Any = None) -> Any:
        body = None if request is None else json.dumps(request).encode()
        return self._retried(lambda left: self._exchange(method, path, body, left))

    def _exchange(self, method: str, path: str, body: bytes | None, left: float) -> Any:
        """One request, on this thread's connection if the server did not close that meanwhile."""
        try:
            status, answer = self._send(method, path, body, left)
        except TimeoutError as error:
            self.close()
            raise ServerError(
                f"{self._url.geturl()} did not answer within {self.options.timeout:g} s",
                status=504,
            ) from error
        except (OSError, HTTPException) as error:
            self.close()
            why = getattr(error, "strerror", None) or type(error).__name__
            raise ServerError(
                f"no server at {self._url.geturl()}: {why}",
                hint="start one: bnpipe serve",
                transient=True,
                broken=isinstance(error, _BROKEN) and not isinstance(error, ConnectionRefusedError),
            ) from error
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if status != 200 or not isinstance(value, dict):
            words = value.get("error") if isinstance(value, dict) else None
            raise ServerError(
                str(words or f"{path}: HTTP status {status}"),
                status=status,
                transient=status in _TRY_AGAIN,
            )
        return value

    def _send(self, method: str, path: str, body: bytes | None, left: float) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
            connection = self._local.connection = kind(self._url.netloc)
        if connection.sock is not None:
            connection.sock.settimeout(left)
            if _was_closed(connection.sock):  # else that would look as if it died under the request
                connection.close()
        connection.timeout = left
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _was_closed(sock: socket.socket) -> bool:
    """True if the server closed a connection that waits for a request: there is an end to read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _to_json(array: npt.NDArray[Any]) -> Any:
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        array = np.asarray(np.frompyfunc(_to_base64, 1, 1)(array), np.object_)
    return array.tolist()


def _to_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _to_bytes(value: Any) -> Any:
    """A string of an answer; outputs whose names end in `_bytes` come as `{"b64": ...}`."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


def _from_json(value: Any, dtype: str) -> npt.NDArray[Any]:
    if dtype == "DT_STRING":
        array = np.array(value, np.object_)
        return np.asarray(np.frompyfunc(_to_bytes, 1, 1)(array), np.object_)
    return np.array(value, _TYPES.get(dtype))
