"""Questions to Prometheus about servers, in PromQL: those of the rules and of the dashboard.

Only metrics that tensorflow_model_server has, and `bnpipe_served_version` of the file that
`notify.prometheus_file` names. Names of the server's begin with a colon, latencies are in
microseconds; `request_count` counts probes and status requests too, `request_latency` counts what
succeeded, with an empty `API` for requests that infer nothing. A load whose warmup fails counts as
a successful one, and a folder without saved_model.pb as none at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.data.json_text import json_text

_SERVING = ":tensorflow:serving:"
_LOADS = ":tensorflow:cc:saved_model:load_attempt_count"
_WARMUPS = f"{_SERVING}model_warmup_latency_count"


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
        """Requests a second that failed by the server's fault.

        Not INVALID_ARGUMENT: without a canary a share of the requests gets that for its label.
        """
        status = 'status!~"OK|INVALID_ARGUMENT"'
        return f"sum(rate({_SERVING}request_count{{{self._model},{status}}}[5m]))"

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
        """True when a load or a warmup failed in the last ten minutes.

        Not `increase`, which does not see a counter appear.
        """
        failed = f'{_LOADS}{{{self._job},status="fail"}}'
        return " or ".join(
            f"sum({counter}) > (sum({counter} offset 10m) or vector(0))"
            for counter in (failed, self._failed_warmups)
        )

    @property
    def live_not_loaded(self) -> str:
        """True when fewer servers have ever loaded the live version than can be read."""
        live = f"bnpipe_served_version{{model={_text(self.model)}}}"
        loaded = f'{_LOADS}{{{self._job},status="success"}}'
        path = '"version", "$1", "model_path", ".*/([0-9]+)/?"'
        there = f'label_replace({loaded}, {path}) and on (version) count_values("version", {live})'
        servers = f"count(count by (instance) ({there})) or vector(0)"
        return f"sum({self._up}) > ({servers}) and on () {live}"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The charts of the dashboard."""
        by_api = f"sum by (API) (rate({_SERVING}request_latency_count{self._inferences}[5m]))"
        by_status = f"sum by (status) (rate({_SERVING}request_count{{{self._model}}}[5m]))"
        runtime = f"rate({_SERVING}runtime_latency_bucket{{{self._model}}}[5m])"
        loads = f"sum by (status) ({_LOADS}{{{self._job}}})"
        warmups = f"sum({self._failed_warmups})"
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
            Panel(
                "Loads",
                "Since the servers started.",
                "short",
                (("{{status}}", loads), ("warmup failed", warmups)),
            ),
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
    def _job(self) -> str:
        return f"job={_text(self.job)}"

    @property
    def _failed_warmups(self) -> str:
        return f'{_WARMUPS}{{{self._job},status!="OK"}}'

    @property
    def _up(self) -> str:
        return f"up{{{self._job}}}"


def _text(value: str) -> str:
    """A string of PromQL, which has Go's syntax."""
    return json_text(value)
