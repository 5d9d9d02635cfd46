"""Checks of any server for all that clients of ours rely on: `bnpipe smoke`.

Every check is asked over REST and, if its address is given, over gRPC. They only ask: nothing on
the server changes. REST needs numpy and the standard library only.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.json_text import json_text
from bnpipe.data.png import encode_stored
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.serving.client.base import Arrays, Client, Options, ServerError
from bnpipe.serving.client.connect import connect

TOLERANCE = 1e-6
BATCH, BATCH_TOLERANCE = 64, 1e-5
_TIMEOUT = 10.0
_NO_SERVER = (0, 14)  # no answer at all; gRPC's UNAVAILABLE
# Not read from `export.signatures`: what clients rely on must not change with what is exported.
_INPUTS = {
    "serving_default": ("features", "DT_FLOAT"),
    "serve_images": ("images", "DT_UINT8"),
    "serve_png": ("image_bytes", "DT_STRING"),
    "classify": ("inputs", "DT_STRING"),
    "probabilities_only": ("features", "DT_FLOAT"),
}


class Failed(Exception):
    """The server answered something else."""


class NotApplicable(Exception):
    """The server is not set up for this check."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check: `passed`, `failed` or `skipped`, and why."""

    check: str
    over: str
    outcome: str
    detail: str = ""


class Session:
    """A server over one protocol, and an image in every form that its signatures take.

    Args:
        address: `http://HOST:PORT` or `grpc://HOST:PORT`.
        model: the model's name.
        client: asks for that model.
    """

    def __init__(self, address: str, model: str, client: Client) -> None:
        self.address, self.model, self.client = address, model, client
        self.grpc = address.startswith("grpc:")
        metadata = client.metadata()
        self.version = int(metadata["model_spec"]["version"])
        self.signatures = metadata["metadata"]["signature_def"]["signature_def"]

    @cached_property
    def image(self) -> npt.NDArray[np.uint8]:
        """uint8[H, W], the same every time."""
        dims = self.signatures["serve_images"]["inputs"]["images"]["tensor_shape"]["dim"]
        height, width = (int(dim["size"]) for dim in dims[1:])
        return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)

    @cached_property
    def features(self) -> Arrays:
        """The image as `serving_default` takes it: float32[1, D] in [0, 1], by its name."""
        return {"features": np.asarray(flatten_and_scale(self.image[None]))}

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """float32[K], the answer of `serving_default` for the image."""
        return np.asarray(self.client.predict(self.features).outputs["probabilities"][0])

    def expect_probabilities(self, received: Any) -> None:
        """Raises Failed unless they are those that `serving_default` answers."""
        same("probabilities", self.probabilities, received)


def same(what: str, expected: Any, received: Any, tolerance: float = TOLERANCE) -> None:
    """Compare; numbers within the tolerance.

    Raises:
        Failed: they differ.
    """
    if isinstance(expected, np.ndarray):
        equal = np.shape(received) == expected.shape and np.allclose(
            expected, received, rtol=0, atol=tolerance
        )
    else:
        equal = expected == received
    if not equal:
        raise Failed(f"{what}: expected {_short(expected)}, received {_short(received)}")


def _short(value: Any) -> str:
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _status(on: Session) -> None:
    versions = on.client.status()
    numbers = [state.version for state in versions]
    same("order", sorted(numbers, reverse=True), numbers)
    state = {state.version: state.state for state in versions}.get(on.version)
    same(f"state of v{on.version}", "AVAILABLE", state)


def _metadata(on: Session) -> None:
    for name, (key, dtype) in _INPUTS.items():
        if name not in on.signatures:
            raise Failed(f"signatures: expected {name}, received {', '.join(on.signatures)}")
        inputs = {k: info["dtype"] for k, info in on.signatures[name]["inputs"].items()}
        same(f"inputs of {name}", {key: dtype}, inputs)


def _serving_default(on: Session) -> None:
    outputs = on.client.predict(on.features).outputs
    same("outputs", ["class_id", "probabilities"], sorted(outputs))
    probabilities = outputs["probabilities"][0]
    same("sum of probabilities", np.array(1.0), probabilities.sum(), 1e-5)
    same("class_id", int(np.argmax(probabilities)), int(outputs["class_id"][0]))


def _signature(name: str) -> Callable[[Session], None]:
    def check(on: Session) -> None:
        image = {
            "serve_images": on.image,
            "serve_png": encode_stored(on.image),
            "probabilities_only": on.features["features"][0],
        }[name]
        batch = np.array([image], np.object_ if isinstance(image, bytes) else image.dtype)
        answer = on.client.predict({_INPUTS[name][0]: batch}, signature=name)
        on.expect_probabilities(answer.outputs["probabilities"][0])

    return check


def _classify(on: Session) -> None:
    (row,) = on.client.classify([{"features": on.features["features"][0].tolist()}])
    on.expect_probabilities([score for _, score in row])
    same("number of labels", len(row), len({label for label, _ in row}))


def _rows(on: Session) -> None:
    """`instances`, as most write it by hand; our client sends `inputs`."""
    url = f"{on.address.rstrip('/')}/v1/models/{urllib.parse.quote(on.model, safe='')}:predict"
    body = json_text({"instances": on.features["features"].tolist()}).encode()
    # Like our client over REST, which asks no proxy either.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, body, timeout=_TIMEOUT) as response:
        (row,) = json.load(response)["predictions"]
    on.expect_probabilities(row["probabilities"])


def _batch(on: Session) -> None:
    """Batch normalisation must use its stored statistics, not those of the batch."""
    others = np.random.default_rng(1).random((BATCH - 1, on.image.size), np.float32)
    batch = {"features": np.concatenate([others, on.features["features"]])}
    received = on.client.predict(batch).outputs["probabilities"][-1]
    same("the last of 64 rows", on.probabilities, received, BATCH_TOLERANCE)


def _version(on: Session) -> None:
    answer = on.client.predict(on.features, version=on.version)
    on.expect_probabilities(answer.outputs["probabilities"][0])


def _label(on: Session) -> None:
    version = on.client.version_behind("stable")
    if version is None:
        raise NotApplicable("no version has the label stable")
    by_label, by_version = (
        on.client.predict(on.features, **where).outputs["probabilities"]
        for where in ({"label": "stable"}, {"version": version})
    )
    same("probabilities", by_version, by_label)


def _refused(
    ask: Callable[[Session], object], rest: int, grpc: int, words: str = ""
) -> Callable[[Session], None]:
    """A request that fails, with the HTTP status or gRPC's code and with some words."""

    def check(on: Session) -> None:
        try:
            ask(on)
        except ServerError as error:
            same("status", grpc if on.grpc else rest, error.status)
            if words not in error.headline:
                raise Failed(f"expected {words!r} in {_short(error.headline)!r}") from error
            return
        raise Failed("expected a refusal, received an answer")

    return check


def _wrong_shape(on: Session) -> object:
    return on.client.predict({"features": on.features["features"][:, 1:]})


def _no_png(on: Session) -> object:
    return on.client.predict({"image_bytes": np.array([b"hello"], object)}, signature="serve_png")


def _unknown_signature(on: Session) -> object:
    return on.client.predict(on.features, signature="serving_default_")


def _unknown_label(on: Session) -> object:
    return on.client.predict(on.features, label="no_such_label")


def _unknown_model(on: Session) -> object:
    with connect(on.address, f"{on.model}_", Options(timeout=_TIMEOUT)) as client:
        return client.predict(on.features)


CHECKS: dict[str, Callable[[Session], None]] = {
    "status: the version that answers is AVAILABLE": _status,
    "metadata: five signatures with their inputs": _metadata,
    "serving_default: probabilities and class": _serving_default,
    "serve_images: as serving_default": _signature("serve_images"),
    "serve_png: as serving_default": _signature("serve_png"),
    "probabilities_only: as serving_default": _signature("probabilities_only"),
    "classify: a score for every label": _classify,
    "instances: rows as columns": _rows,
    "a row alone and among 64": _batch,
    "by version": _version,
    "by label stable": _label,
    "a wrong shape is refused": _refused(_wrong_shape, 400, 3),
    "what is no PNG is refused": _refused(_no_png, 400, 3, "PNG"),
    "an unknown signature is refused": _refused(_unknown_signature, 400, 9),
    "an unknown label is refused": _refused(_unknown_label, 400, 3, "no_such_label"),
    "an unknown model is not found": _refused(_unknown_model, 404, 5),
}


def run(url: str, model: str, grpc_address: str | None = None) -> list[CheckResult]:
    """All checks, over REST and, if its address is given, over gRPC.

    Args:
        url: of REST, `http://HOST:PORT`.
        model: the model's name.
        grpc_address: `HOST:PORT`, or None to leave gRPC out.

    Raises:
        ServerError: nobody answers, or the model is not there.
    """
    addresses = {"REST": url} | ({"gRPC": f"grpc://{grpc_address}"} if grpc_address else {})
    results = []
    for over, address in addresses.items():
        with connect(address, model, Options(timeout=_TIMEOUT)) as client:
            on = Session(address, model, client)
            for name, check in CHECKS.items():
                if check is not _rows or not on.grpc:  # rows are a format of REST
                    results.append(_run(check, name, over, on))
    return results


def _run(check: Callable[[Session], None], name: str, over: str, on: Session) -> CheckResult:
    try:
        check(on)
    except NotApplicable as error:
        return CheckResult(name, over, "skipped", str(error))
    except Failed as error:
        return CheckResult(name, over, "failed", str(error))
    except ServerError as error:
        if error.status in _NO_SERVER:
            raise
        return CheckResult(name, over, "failed", error.headline)
    except Exception as error:  # a client of ours cannot read what the server answers
        return CheckResult(name, over, "failed", f"cannot read the answer: {error!r}")
    return CheckResult(name, over, "passed")
