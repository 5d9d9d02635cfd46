"""A case, the server that it is asked of, and the outcome."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.png import encode_stored
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.serving.client import Client, Options, ServerError, connect

TOLERANCE = 1e-6
_TIMEOUT = 10.0


class Match(StrEnum):
    """How an answer is compared: the whole text, a part of it, or its values."""

    EXACT = "exact"
    SUB = "sub"
    JSON = "json"


class Failed(Exception):
    """The server answered something else."""


class NotApplicable(Exception):
    """The server is not set up for this case."""


@dataclass(frozen=True)
class Answer:
    """What came back over REST."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value.

        Raises:
            Failed: it has none.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Failed(f"expected JSON, received {self.body[:200]!r}") from error


@dataclass(frozen=True)
class Target:
    """The server, and what its model's metadata says.

    Attributes:
        url: of REST, `http://HOST:PORT`.
        model: the model's name.
        grpc_address: `HOST:PORT`, or None to leave gRPC out.
        intrusive: whether cases may run that a server could take as a change of its configuration.
    """

    url: str
    model: str
    grpc_address: str | None = None
    intrusive: bool = False

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request over REST.

        Raises:
            ServerError: nobody answers.
        """
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        except OSError as error:
            raise ServerError(
                f"no server at {self.url}: {error}", hint="start one: bnpipe serve"
            ) from error
        finally:
            connection.close()

    @cached_property
    def rest(self) -> Client:
        """A client for REST."""
        return connect(self.url, self.model, Options(timeout=_TIMEOUT))

    def close(self) -> None:
        """Close the client's connection, if there is one."""
        if "rest" in vars(self):
            self.rest.close()

    @cached_property
    def version(self) -> int:
        """The version that answers requests without version and label."""
        return int(self.rest.metadata()["model_spec"]["version"])

    @cached_property
    def signatures(self) -> Any:
        """Signatures by name."""
        return self.rest.metadata()["metadata"]["signature_def"]["signature_def"]

    @cached_property
    def image(self) -> npt.NDArray[np.uint8]:
        """uint8[H, W], the same every time."""
        dims = self.signatures["serve_images"]["inputs"]["images"]["tensor_shape"]["dim"]
        height, width = (int(dim["size"]) for dim in dims[1:])
        return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)

    @cached_property
    def features(self) -> list[float]:
        """The image as `serving_default` takes it."""
        scaled = flatten_and_scale(self.image[None])[0]
        return [float(v) for v in np.asarray(scaled)]

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        outputs = self.signatures["serving_default"]["outputs"]
        return int(outputs["probabilities"]["tensor_shape"]["dim"][1]["size"])

    @cached_property
    def values(self) -> dict[str, Any]:
        """What stands for `$name` in the texts of cases."""
        width = self.image.size
        return {
            "model": self.model,
            "version": self.version,
            "absent": self.version + 90001,
            "zeros": json.dumps([0.0] * width),
            "short": json.dumps([0.0] * (width - 1)),
            "whole": json.dumps([0] * width),
            "mixed": json.dumps([0.0, 1] + [0.0] * (width - 2)),
            "nan": json.dumps([float("nan")] + [0.0] * (width - 1)),
            "features": json.dumps(self.features),
            "image": json.dumps(self.image.tolist()),
            "fraction": json.dumps([[0.5] * self.image.shape[1]] * self.image.shape[0]),
            "png": base64.b64encode(encode_stored(self.image)).decode(),
            "hello": base64.b64encode(b"hello").decode(),
            "width": width,
            "less": width - 1,
        }

    def fill(self, text: str) -> str:
        """A text of a case with this server's values."""
        return Template(text).substitute(self.values)


@dataclass(frozen=True)
class Case:
    """One thing that a server must do.

    Attributes:
        number: its number.
        title: what is asked.
        match: how literally the answer is compared.
        check: asks; raises Failed or NotApplicable.
        seen: whether the expected answer was seen on a real server or stands in TF Serving's own
            tests or documentation; else it was read in its source.
    """

    number: int
    title: str
    match: Match
    check: Callable[[Target], None] = field(repr=False)
    seen: bool = True


@dataclass(frozen=True)
class Result:
    """What became of a case: `passed`, `failed` or `skipped`, and why."""

    case: Case
    outcome: str
    detail: str = ""


def run_case(case: Case, target: Target) -> Result:
    """Ask the server.

    Raises:
        ServerError: nobody answers.
    """
    try:
        case.check(target)
    except Failed as error:
        return Result(case, "failed", str(error))
    except NotApplicable as error:
        return Result(case, "skipped", str(error))
    return Result(case, "passed")


def expect(what: str, expected: Any, received: Any) -> None:
    """Compare; numbers within TOLERANCE.

    Raises:
        Failed: they differ.
    """
    if not same(expected, received):
        raise Failed(f"{what}: expected {_short(expected)}, received {_short(received)}")


def same(left: Any, right: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two JSON values are equal, floating point numbers nearly so."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k], tolerance) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            same(a, b, tolerance) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= tolerance or (left != left and right != right)
    return type(left) is type(right) and bool(left == right)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


def refused(
    number: int,
    request: str,
    body: str,
    status: int,
    error: str,
    match: Match = Match.EXACT,
    *,
    title: str = "",
    seen: bool = True,
) -> Case:
    """A REST request that fails.

    Args:
        number: the case's number.
        request: `VERB /path`.
        body: the request's body; `$names` are filled in, here and in the other texts.
        status: the expected HTTP status.
        error: the expected error text, or a part of it.
        match: EXACT or SUB.
        title: what is asked; the request by default.
        seen: see `Case`.
    """

    def check(target: Target) -> None:
        method, _, path = target.fill(request).partition(" ")
        answer = target.ask(method, path, target.fill(body).encode())
        expect("status", status, answer.status)
        received = answer.json().get("error", "")
        expected = target.fill(error)
        if match is Match.EXACT:
            expect("error", expected, received)
            shown = json.dumps(received, ensure_ascii=False)
            expect("body", f'{{\n    "error": {shown}\n}}', answer.body.decode())
        elif expected not in received:
            raise Failed(f"error: expected a text with {expected!r}, received {_short(received)}")

    return Case(number, title or request, match, check, seen)


def answered(
    number: int,
    request: str,
    body: str,
    verify: Callable[[Target, Any], None],
    *,
    title: str = "",
    seen: bool = True,
) -> Case:
    """A REST request that is answered with JSON.

    Args:
        number: the case's number.
        request: `VERB /path`.
        body: the request's body; `$names` are filled in.
        verify: looks at the answer; raises Failed.
        title: what is asked; the request by default.
        seen: see `Case`.
    """

    def check(target: Target) -> None:
        method, _, path = target.fill(request).partition(" ")
        answer = target.ask(method, path, target.fill(body).encode())
        if answer.status != 200:
            raise Failed(f"status: expected 200, received {answer.status} {answer.body[:300]!r}")
        expect("content type", "application/json", answer.headers.get("Content-Type"))
        verify(target, answer.json())

    return Case(number, title or request, Match.JSON, check, seen)
