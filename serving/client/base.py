"""Clients of TF Serving: arrays in, arrays out, retries, deadlines, the server's own error texts.

REST needs numpy and the standard library only. `connect.connect` chooses by the address:
`http://127.0.0.1:8501` or `grpc://127.0.0.1:8500` (which imports TensorFlow for its messages).

    with connect("http://127.0.0.1:8501", "mnist") as client:
        answer = client.predict({"images": images}, signature="serve_images", label="stable")
        answer.outputs["class_id"]
"""

from __future__ import annotations

import abc
import ipaddress
import random
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from bnpipe.serving.errors import ServingError

if TYPE_CHECKING:  # whoever publishes asks for states only, and need not load numpy
    import numpy.typing as npt

    from bnpipe.serving.client.request_log import RequestLog

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
Examples: TypeAlias = Sequence[Mapping[str, Sequence[float]]]
Classes = list[list[tuple[str, float]]]
T = TypeVar("T")


def is_loopback(address: str) -> bool:
    """True if HOST:PORT, or HOST alone, is this machine by a name or address of its own."""
    host = urllib.parse.urlsplit(f"//{address}").hostname or ""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return ip.is_loopback or ip.is_unspecified


class ServerError(ServingError):
    """A server refused a request, or did not answer.

    Args:
        headline: the server's own words.
        hint: what to do about it.
        status: the HTTP status or the number of the gRPC code; 0 without an answer.
        transient: whether the same request may succeed a moment later.
        broken: whether the connection died under the request, as it does when the server crashes.
    """

    def __init__(
        self,
        headline: str,
        *,
        hint: str = "",
        status: int = 0,
        transient: bool = False,
        broken: bool = False,
    ) -> None:
        super().__init__(headline, hint=hint)
        self.broken = broken
        self.status = status
        self.transient = transient

    @property
    def first_line(self) -> str:
        """The server's words without those behind a line break, which name nodes of the graph."""
        return self.headline.partition("\\n")[0]  # escaped, as in all our errors


class LoadFailed(ServerError):
    """A server gave up to load a version.

    Args:
        headline: which version, and what was expected.
        words: why, in the server's words.
    """

    def __init__(self, headline: str, words: str = "", *, hint: str = "") -> None:
        super().__init__(headline, hint=hint)
        self.words = words


@dataclass(frozen=True)
class Prediction:
    """An answer.

    Attributes:
        outputs: arrays by name.
        version: which version answered; None over REST, which does not say.
    """

    outputs: Arrays
    version: int | None


@dataclass(frozen=True)
class VersionState:
    """A version as the server sees it: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error_code: str
    error_message: str

    def __str__(self) -> str:
        return f"{self.state} {self.error_message}".rstrip()


@dataclass(frozen=True)
class Options:
    """The timeout, retries and log of a client.

    Attributes:
        timeout: seconds for one call with all its attempts.
        attempts: how often a request is sent at most; every call here may be repeated safely.
        backoff: upper bound of the first wait in seconds; it doubles with every attempt.
        log: where requests and answers are written, or None.
    """

    timeout: float = 10.0
    attempts: int = 4
    backoff: float = 0.1
    log: RequestLog | None = None


class Client(abc.ABC):
    """One model on one server; may be used by several threads.

    Args:
        model: the model's name.
        options: timeout, retries, log.
    """

    def __init__(self, model: str, options: Options) -> None:
        self.model = model
        self.options = options

    def predict(
        self,
        inputs: Arrays,
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
    ) -> Prediction:
        """Outputs by name.

        Args:
            inputs: arrays by name, with the batch as first dimension; bytes as object arrays.
            signature: which one to run.
            version: which version to ask; the highest loaded one without version and label.
            label: which label to ask, e.g. `stable`.

        Raises:
            ServerError: the server refused, or did not answer in time.
        """
        answer = self._predict(inputs, signature, version, label)
        if self.options.log is not None:
            seen = answer.version if answer.version is not None else version
            self.options.log.predict(self.model, signature, seen, inputs, answer.outputs)
        return answer

    @abc.abstractmethod
    def _predict(
        self, inputs: Arrays, signature: str, version: int | None, label: str | None
    ) -> Prediction: ...

    def classify(
        self,
        examples: Examples,
        *,
        signature: str = "classify",
        version: int | None = None,
        label: str | None = None,
    ) -> Classes:
        """Label and score of every class, example by example.

        Args:
            examples: of each its float features by name.
            signature: as in `predict`, like what follows.
            version: which version to ask.
            label: which label to ask.

        Raises:
            ServerError: the server refused, or did not answer in time.
        """
        return self._classify(examples, signature, version, label)

    @abc.abstractmethod
    def _classify(
        self, examples: Examples, signature: str, version: int | None, label: str | None
    ) -> Classes: ...

    @abc.abstractmethod
    def status(self, version: int | None = None) -> list[VersionState]:
        """The states of one version, or of all that the server ever saw, the highest first.

        Raises:
            ServerError: there is none, or the server did not answer in time.
        """

    @abc.abstractmethod
    def metadata(self, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """The answer to a metadata request, as REST gives it.

        Raises:
            ServerError: the server refused, or did not answer in time.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def version_behind(self, label: str) -> int | None:
        """The version that a label names; None if it names none, or nobody answers."""
        try:
            return int(self.metadata(label=label)["model_spec"]["version"])
        except ServerError:
            return None

    def answers(self) -> bool:
        """True if there is a server, whatever it says."""
        try:
            self.status()
        except ServerError as error:
            return not error.transient
        return True

    def state(self, version: int) -> VersionState:
        """The state of a version; `unknown` with the reason, if the server does not tell.

        Raises:
            LoadFailed: the server gave it up; in its own words.
        """
        try:
            (now,) = self.status(version)
        except ServerError as error:
            return VersionState(version, "unknown", "", error.headline)
        # Without an error it only was unloaded, and may be on its way back.
        if now.state == "END" and now.error_code != "OK":
            raise LoadFailed(
                f"v{version} of {self.model}: expected AVAILABLE, received {now}",
                f"{now.error_code}: {now.error_message}",
            )
        return now

    def wait_until_available(self, version: int, timeout: float = 60.0) -> None:
        """Wait until a version is AVAILABLE.

        Raises:
            LoadFailed: the server gave it up; in its own words.
            ServerError: it is not in time.
        """
        deadline = time.monotonic() + timeout
        while (now := self.state(version)).state != "AVAILABLE":
            if time.monotonic() > deadline:
                raise ServerError(
                    f"v{version} of {self.model}: expected AVAILABLE within {timeout:g} s, "
                    f"received {now}"
                )
            time.sleep(0.1)

    def _retried(self, call: Callable[[float], T]) -> T:
        """Call with the seconds that are left, again after faults that pass.

        The wait is drawn at random below a bound that doubles, so that many clients do not come
        back at once.
        """
        deadline = time.monotonic() + self.options.timeout
        for attempt in range(self.options.attempts):
            left = deadline - time.monotonic()
            try:
                return call(max(left, 0.001))
            except ServerError as error:
                wait = random.uniform(0, self.options.backoff * 2**attempt)
                last = attempt == self.options.attempts - 1
                if not error.transient or last or time.monotonic() + wait > deadline:
                    raise
                time.sleep(wait)
        raise AssertionError("options.attempts is at least 1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
