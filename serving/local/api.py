"""Requests of REST, answered: routes, codes and bodies. No sockets here."""

from __future__ import annotations

import re
import urllib.parse
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from bnpipe.data.json_text import json_text
from bnpipe.serving.folder.names import parse_version
from bnpipe.serving.local import codec, inference
from bnpipe.serving.local.manager import Manager
from bnpipe.serving.local.servable import Servable
from bnpipe.serving.local.status import Code, StatusError, invalid

_INFERENCE = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?:(classify|predict)", re.I
)
_MODELS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/([0-9]+)|/labels/([^/:]+))?(?:/(metadata))?", re.I
)
_OURS = re.compile(r"/v1/.*", re.I | re.S)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LARGEST_BODY = 100 << 20
_NOT_FOUND = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    b"</BODY></HTML>\n"
)


@dataclass(frozen=True)
class Reply:
    """An answer to be sent."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"


class BadUrl(Exception):
    """A part of the URL cannot be decoded; the answer has no body."""


class RestApi:
    """Answers requests.

    Args:
        manager: what is loaded.
    """

    def __init__(self, manager: Manager[Servable]) -> None:
        self._manager = manager

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request; never raises."""
        if not _OURS.fullmatch(path):
            return Reply(404, _NOT_FOUND, "text/html")
        if method == "OPTIONS":
            known = (headers.get("Origin") or "").startswith(("http://", "https://"))
            return Reply(200 if known else 400)
        try:
            return Reply(200, self._answer(method, path, _inflated(headers, body)))
        except BadUrl:
            return Reply(400)
        except StatusError as error:
            return Reply(error.code.http, codec.error_body(error.message))
        except Exception as error:  # the connection must survive a fault of ours
            message = f"{type(error).__name__}: {error}"
            return Reply(Code.INTERNAL.http, codec.error_body(message))

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if method == "POST" and (match := _INFERENCE.fullmatch(path)):
            verb = {"predict": self._predict, "classify": self._classify}.get(match[4])
            if verb is not None:
                return verb(*_where(match), body)
        if method == "GET" and (match := _MODELS.fullmatch(path)):
            name, version, label = _where(match)
            if not name:
                raise invalid("Missing model name in request.")
            if match[4] == "metadata":
                return self._metadata(name, version, label)
            return self._status(name, version)
        raise invalid(f"Malformed request: {method} {path}")

    def _predict(self, name: str, version: int | None, label: str | None, body: bytes) -> bytes:
        request = codec.parse(body)
        signature = codec.signature_name(request)
        with self._manager.acquire(name, version, label) as (_, servable):
            specs = inference.input_specs(servable, signature)
            arrays, rows = codec.predict_inputs(request, specs)
            outputs = inference.predict(servable, signature, arrays)
        return codec.predictions(outputs, rows=rows)

    def _classify(self, name: str, version: int | None, label: str | None, body: bytes) -> bytes:
        signature, serialized = _examples(body)
        with self._manager.acquire(name, version, label) as (_, servable):
            return codec.classifications(inference.classify(servable, signature, serialized))

    def _status(self, name: str, version: int | None) -> bytes:
        versions = [
            {
                "version": str(known.number),
                "state": known.state.name,
                "status": {
                    "error_code": known.error.code.name if known.error else "OK",
                    "error_message": known.error.message if known.error else "",
                },
            }
            for known in self._manager.statuses(name, version)
        ]
        return _json({"model_version_status": versions})

    def _metadata(self, name: str, version: int | None, label: str | None) -> bytes:
        with self._manager.acquire(name, version, label) as (number, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        shown = json_format.MessageToDict(
            signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        spec = {"name": name, "signature_name": "", "version": str(number)}
        return _json({"model_spec": spec, "metadata": {"signature_def": shown}})


def _json(value: Any) -> bytes:
    return (json_text(value, indent=1, ensure_ascii=False) + "\n").encode()


def _where(match: re.Match[str]) -> tuple[str, int | None, str | None]:
    """Model, version and label of a URL."""
    name, digits, label = match[1] or "", match[2], match[3]
    version = parse_version(digits or "")
    if _BAD_ESCAPE.search(f"{name} {label}") or (digits and version is None):
        raise BadUrl
    return urllib.parse.unquote(name), version, urllib.parse.unquote(label) if label else None


def _inflated(headers: Mapping[str, str], body: bytes) -> bytes:
    if (headers.get("Content-Encoding") or "").lower() != "gzip":
        return body
    try:
        inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        inflated = inflater.decompress(body, _LARGEST_BODY)
    except zlib.error as error:
        raise invalid(f"Failed to uncompress the request body: {error}") from error
    if inflater.unconsumed_tail:
        raise invalid(f"The uncompressed request body has more than {_LARGEST_BODY} bytes")
    return inflated


def _examples(body: bytes) -> tuple[str, list[bytes]]:
    """The signature that a request names, and its examples as the graph reads them.

    A context's bytes come before those of every example; merging is what the parser then does.
    """
    request = codec.parse(body)
    signature = codec.signature_name(request)
    examples, context = codec.examples(request)
    head = _serialized(context)
    return signature, [head + _serialized(example) for example in examples]


def _serialized(example: codec.Example) -> bytes:
    message = example_pb2.Example()
    for name, (kind, values) in example.items():
        feature = message.features.feature[name]
        if kind:
            getattr(feature, f"{kind}_list").value.extend(values)
    return bytes(message.SerializeToString())
