"""A client of TF Serving's REST interface; numpy and the standard library only."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client.base import (
    Arrays,
    Classes,
    Client,
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

    def classify(
        self,
        examples: Sequence[Mapping[str, Sequence[float]]],
        *,
        signature: str = "classify",
        version: int | None = None,
        label: str | None = None,
    ) -> Classes:
        """Label and score of every class, for examples given as float features by name."""
        # A number without a decimal point would be taken for an integer feature.
        shown = [{k: [float(v) for v in values] for k, values in e.items()} for e in examples]
        request = {"signature_name": signature, "examples": shown}
        answer = self._ask("POST", f"{self._path(version, label)}:classify", request)
        return [[(str(k), float(v)) for k, v in row] for row in answer["results"]]

    def status(self, version: int | None = None) -> list[VersionState]:
        """What the server says of one version, or of all it ever saw, the highest first."""
        answer = self._ask("GET", self._path(version, None))
        return [
            VersionState(
                int(found["version"]),
                found["state"],
                found["status"]["error_code"],
                found["status"]["error_message"],
            )
            for found in answer["model_version_status"]
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
        except (OSError, http.client.HTTPException) as error:
            self.close()
            why = getattr(error, "strerror", None) or type(error).__name__
            raise ServerError(
                f"no server at {self._url.geturl()}: {why}",
                hint="start one: bnpipe serve",
                transient=True,
            ) from error
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if status != 200 or not isinstance(value, dict):
            told = value.get("error") if isinstance(value, dict) else None
            raise ServerError(
                str(told or f"{path}: HTTP status {status}"),
                status=status,
                transient=status in _TRY_AGAIN,
            )
        return value

    def _send(self, method: str, path: str, body: bytes | None, left: float) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            kind = (
                http.client.HTTPSConnection
                if self._url.scheme == "https"
                else http.client.HTTPConnection
            )
            connection = kind(self._url.netloc, timeout=left)
            self._local.connection = connection
        if connection.sock is not None:
            connection.sock.settimeout(left)
        connection.timeout = left
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _to_json(array: npt.NDArray[Any]) -> Any:
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        return _bytes_to_json(array.tolist())
    return array.tolist()


def _bytes_to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes_to_json(element) for element in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value


def _to_bytes(value: Any) -> Any:
    """A string of an answer; outputs whose names end in `_bytes` come as `{"b64": ...}`."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


def _from_json(value: Any, dtype: str) -> npt.NDArray[Any]:
    if dtype == "DT_STRING":
        array = np.array(value, np.object_)
        return np.asarray(np.frompyfunc(_to_bytes, 1, 1)(array), np.object_)
    return np.array(value, _TYPES.get(dtype))
