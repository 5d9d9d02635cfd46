"""Every rendered alert fires at the fault it is for, and at none of the others.

The metrics are those of a real server, as it was seen to write them (2.21): a load whose warmup
fails counts as a success, a folder without saved_model.pb as no attempt at all.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import promql_parser
import pytest
import yaml

from bnpipe.serving.deploy.render import render
from bnpipe.serving.folder.model_config import ModelConfig
from tests.serving.deploy import test_render as rendered
from tests.serving.deploy.promql import Labels, fires, labels

DEPLOYMENT = dataclasses.replace(
    rendered.DEPLOYMENT, models=ModelConfig("mnist", "/srv/served/mnist", (1,), {"stable": 1})
)
HOUR, FAULT, STEP = 3600, 1800, 15
LOADS = ":tensorflow:cc:saved_model:load_attempt_count"
WARMUPS = ":tensorflow:serving:model_warmup_latency_count"
REQUESTS = ":tensorflow:serving:request_count"
LATENCIES = ":tensorflow:serving:request_latency"
BUCKETS_US = (10.0, 1000.0, 10_000.0, 100_000.0, 1e6)

Value = Callable[[float], float | None]


def always(value: float) -> Value:
    return lambda _: value


def since_fault(value: float, before: float | None = None) -> Value:
    return lambda t: before if t < FAULT else value


def rising(per_second: float, after: float | None = None) -> Value:
    """A counter, with another slope from the fault on."""
    slope = per_second if after is None else after
    return lambda t: per_second * min(t, FAULT) + slope * max(t - FAULT, 0)


@dataclass
class World:
    """An hour of metrics, with a fault in its middle."""

    series: dict[tuple[str, Labels], Value] = field(default_factory=dict)

    def put(self, name: str, value: Value, **of: str) -> None:
        own = {} if name.startswith("bnpipe_") else {"job": "mnist", "instance": "a:8501"}
        self.series[name, labels(**{**own, **of})] = value

    def load(self, version: int, value: Value, status: str = "success", **of: str) -> None:
        self.put(LOADS, value, model_path=f"/srv/served/mnist/{version}", status=status, **of)

    def warmup(self, version: int, value: Value, status: str = "OK") -> None:
        self.put(WARMUPS, value, model_path=f"/srv/served/mnist/{version}", status=status)

    def latencies(self, fast: Value, slow: Value) -> None:
        """Requests below 10 ms and others between 100 ms and 1 s."""
        of = {"model_name": "mnist", "API": "predict", "entrypoint": "REST"}
        for bound in BUCKETS_US:
            value = (lambda t: fast(t) + slow(t)) if bound > 1e5 else fast  # type: ignore[operator]
            self.put(f"{LATENCIES}_bucket", value, le=f"{bound:g}", **of)
        self.put(f"{LATENCIES}_bucket", lambda t: fast(t) + slow(t), le="+Inf", **of)  # type: ignore[operator]
        self.put(f"{LATENCIES}_count", lambda t: fast(t) + slow(t), **of)  # type: ignore[operator]

    def firing(self) -> set[str]:
        """The alerts that have been true for as long as they ask, at the end."""
        samples = {
            key: [(float(t), v) for t in range(0, HOUR, STEP) if (v := value(t)) is not None]
            for key, value in self.series.items()
        }
        (group,) = yaml.safe_load(render("monitoring", DEPLOYMENT)["monitoring/rules.yaml"])[
            "groups"
        ]
        found = set()
        for rule in group["rules"]:
            wait = promql_parser.parse_duration(rule["for"]) if "for" in rule else timedelta()
            # One that does not wait is told at once: it has to be true a minute after the fault.
            end = HOUR - STEP if wait else FAULT + 60
            moments = range(end - int(wait.total_seconds()), end + 1, 60)
            if all(fires(rule["expr"], samples, float(t)) for t in moments):
                found.add(rule["alert"])
        return found


@pytest.fixture
def world() -> World:
    """A server that is well: version 1 is live and loaded, probes and requests are answered."""
    made = World()
    made.put("up", always(1))
    made.load(1, always(1))
    made.warmup(1, always(1))
    made.put(REQUESTS, rising(12), model_name="mnist", status="OK")
    made.put(f"{LATENCIES}_count", rising(2), model_name="mnist", API="", entrypoint="REST")
    made.latencies(rising(10), always(0))
    made.put("bnpipe_served_version", always(1), model="mnist", job="node")
    return made


def well(_: World) -> None:
    """Nothing happens."""


def pushed(world: World) -> None:
    world.put("bnpipe_served_version", since_fault(2, 1), model="mnist", job="node")
    world.load(2, since_fault(1))
    world.warmup(2, since_fault(1))


def rolled_back(world: World) -> None:
    pushed(world)
    world.put("bnpipe_served_version", since_fault(1, 2), model="mnist", job="node")
    world.load(2, always(1))


def on_trial(world: World) -> None:
    world.load(2, since_fault(1))


def restarted(world: World) -> None:
    world.load(1, always(2), status="fail")  # long ago, and mended
    world.load(1, since_fault(1, 3))


def without_our_file(world: World) -> None:
    del world.series["bnpipe_served_version", labels(model="mnist", job="node")]


def no_canary(world: World) -> None:
    """A tenth of the requests is for a label that is not there."""
    world.put(REQUESTS, rising(0, 1), model_name="mnist", status="INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "event", [well, pushed, rolled_back, on_trial, restarted, without_our_file, no_canary]
)
def test_nothing_fires_when_all_is_well(world: World, event: Callable[[World], None]) -> None:
    event(world)
    assert world.firing() == set()


def the_server_is_gone(world: World) -> None:
    world.series = {
        k: (lambda t, v=v: v(t) if t < FAULT else None) for k, v in world.series.items()
    }
    world.put("up", since_fault(0, 1))


def nobody_knows_a_server(world: World) -> None:
    world.series.clear()


def requests_fail(world: World) -> None:
    world.put(REQUESTS, rising(0, 1), model_name="mnist", status="INTERNAL")


def all_requests_fail(world: World) -> None:
    world.latencies(rising(10, 0), always(0))
    requests_fail(world)


def answers_are_slow(world: World) -> None:
    world.latencies(rising(10, 9), rising(0, 1))


def a_graph_is_damaged(world: World) -> None:
    world.load(2, since_fault(1), status="fail")


def a_warmup_fails(world: World) -> None:
    world.load(2, since_fault(1))
    world.warmup(
        2, since_fault(1), status='FAILED_PRECONDITION: Serving signature key "x" not found.'
    )


def a_second_warmup_fails(world: World) -> None:
    world.warmup(2, always(1), status="INVALID_ARGUMENT: old")
    a_warmup_fails(world)


def a_graph_is_missing(world: World) -> None:
    """The version is live by models.config; of it the server's metrics say nothing."""
    world.put("bnpipe_served_version", since_fault(2, 1), model="mnist", job="node")


def a_graph_is_missing_for_one_server_of_two(world: World) -> None:
    pushed(world)
    world.put("up", always(1), instance="b:8501")
    world.load(1, always(1), instance="b:8501")


@pytest.mark.parametrize(
    ("fault", "alert"),
    [
        (the_server_is_gone, "ServingNoReadyReplica"),
        (nobody_knows_a_server, "ServingNoReadyReplica"),
        (requests_fail, "ServingErrorRatio"),
        (all_requests_fail, "ServingErrorRatio"),
        (answers_are_slow, "ServingLatency"),
        (a_graph_is_damaged, "ServingVersionNotLoaded"),
        (a_warmup_fails, "ServingVersionNotLoaded"),
        (a_second_warmup_fails, "ServingVersionNotLoaded"),
        (a_graph_is_missing, "ServingLiveVersionNotLoaded"),
        (a_graph_is_missing_for_one_server_of_two, "ServingLiveVersionNotLoaded"),
    ],
)
def test_an_alert_fires_at_its_fault_alone(
    world: World, fault: Callable[[World], None], alert: str
) -> None:
    fault(world)
    assert world.firing() == {alert}


def test_every_alert_is_proven(world: World) -> None:
    (group,) = yaml.safe_load(render("monitoring", DEPLOYMENT)["monitoring/rules.yaml"])["groups"]
    (cases,) = (m.args[1] for m in test_an_alert_fires_at_its_fault_alone.pytestmark)
    assert {rule["alert"] for rule in group["rules"]} == {alert for _, alert in cases}
