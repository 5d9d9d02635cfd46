"""Questions to Prometheus about servers, in PromQL: those of the rules and of the dashboard.

Only metrics that tensorflow_model_server has. Names begin with a colon, latencies are in
microseconds; `request_count` counts probes and status requests too, `request_latency` counts what
succeeded, with an empty `API` for requests that infer nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.data.json_text import json_text

_SERVING = ":tensorflow:serving:"
_LOADS = ":tensorflow:cc:saved_model:load_attempt_count"


@dataclass(frozen=True)
class Panel:
    """A chart of the dashboard: title, description, unit, and legend and query of each line."""

    title: str
    description: str
    unit: str
    targets: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Queries:
    """The questions about one model.

    Args:
        model: its name.
        job: of Prometheus, which scrapes its servers.
    """

    model: str
    job: str

    @property
    def no_replica(self) -> str:
        """True when no server answers Prometheus, or none is known."""
        return f"sum({self._up}) == 0 or absent({self._up})"

    @property
    def answered(self) -> str:
        """Inferences a second that succeeded."""
        return f"sum(rate({_SERVING}request_latency_count{self._inferences}[5m]))"

    @property
    def failed(self) -> str:
        """Requests a second that failed."""
        return f'sum(rate({_SERVING}request_count{{{self._model},status!="OK"}}[5m]))'

    @property
    def error_ratio(self) -> str:
        """Failed ones among those that failed or were inferred; probes do not thin it out."""
        return f"{self.failed} / ({self.failed} + ({self.answered} or vector(0)))"

    @property
    def p99(self) -> str:
        """99th percentile of the latency in milliseconds."""
        return self.latency(0.99)

    @property
    def failed_load(self) -> str:
        """True when a load failed in the last ten minutes.

        Not `increase`, which does not see a counter appear.
        """
        failed = f'{_LOADS}{{job={_text(self.job)},status="fail"}}'
        return f"sum({failed}) > (sum({failed} offset 10m) or vector(0))"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The charts of the dashboard."""
        by_api = f"sum by (API) (rate({_SERVING}request_latency_count{self._inferences}[5m]))"
        by_status = f"sum by (status) (rate({_SERVING}request_count{{{self._model}}}[5m]))"
        runtime = f"rate({_SERVING}runtime_latency_bucket{{{self._model}}}[5m])"
        loads = f"sum by (status) ({_LOADS}{{job={_text(self.job)}}})"
        percentiles = tuple((f"p{q * 100:g}", self.latency(q)) for q in (0.5, 0.9, 0.99))
        session_p99 = f"histogram_quantile(0.99, sum by (le) ({runtime})) / 1000"
        inferences = "That succeeded; Predict is gRPC, predict is REST."
        requests = "Status requests and probes included."
        latency = "Of inferences that succeeded, in the server."
        return (
            Panel("Inferences", inferences, "reqps", (("{{API}}", by_api),)),
            Panel("Requests by status", requests, "reqps", (("{{status}}", by_status),)),
            Panel("Latency", latency, "ms", percentiles),
            Panel(
                "Latency of the session",
                "Of it, what TensorFlow itself takes.",
                "ms",
                (("p99", session_p99),),
            ),
            Panel(
                "Failed requests", "Share of all.", "percentunit", (("failed", self.error_ratio),)
            ),
            Panel("Servers", "That Prometheus can read.", "short", (("up", f"sum({self._up})"),)),
            Panel("Loads", "Since the servers started.", "short", (("{{status}}", loads),)),
        )

    def latency(self, quantile: float) -> str:
        """A quantile of the latency of inferences, in milliseconds."""
        buckets = f"rate({_SERVING}request_latency_bucket{self._inferences}[5m])"
        return f"histogram_quantile({quantile:g}, sum by (le) ({buckets})) / 1000"

    @property
    def _model(self) -> str:
        return f"model_name={_text(self.model)}"

    @property
    def _inferences(self) -> str:
        return f'{{{self._model},API!=""}}'

    @property
    def _up(self) -> str:
        return f"up{{job={_text(self.job)}}}"


def _text(value: str) -> str:
    """A string of PromQL, which has Go's syntax."""
    return json_text(value)
