"""Pushes and rollbacks on a running server under constant load: no request is lost.

The load is open: requests are due at a constant rate whatever the server does, none is sent twice,
and each counts from when it was due.
"""

import dataclasses
import shutil
import sys
import threading
import time

import numpy as np
import pytest

from bnpipe.serving import load, model_config
from bnpipe.serving.client import Options, connect
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.server import LocalServer
from bnpipe.serving.local.states import Settings
from bnpipe.serving.publish import publish
from bnpipe.serving.rollout import Rollout
from tests.waiting import PATIENCE, wait_for

FEATURES = {"features": np.zeros((1, 784), np.float32)}
RATE = 40.0
FOLLOWING = Settings(
    poll_wait_seconds=0.05,
    config_poll_wait_seconds=0.05,
    max_num_load_retries=0,
    allow_labels_for_unavailable=True,
)


def push(base, exports, number, **options):
    """A model that differs from the one before in its answers, and from all in an asset."""
    model = base.parent / f"model-{number}"
    shutil.copytree(exports[number % 2], model)
    (model / "assets.extra").mkdir(exist_ok=True)
    (model / "assets.extra/number").write_text(str(number))
    published = publish(
        base,
        model,
        model_name="mnist",
        provenance={"dataset": {"name": "mnist"}},
        compared_with=None,
        **options,
    )
    shutil.rmtree(model)
    return published


@pytest.fixture
def base(tmp_path, exports):
    base = tmp_path / "mnist"
    push(base, exports, 1)
    return base


@pytest.fixture
def server(base):
    running = LocalServer(base / "models.config", FOLLOWING)
    yield running
    running.stop()


class Load:
    """Requests to an address, until it is over; `answers` and `failures` are those so far."""

    def __init__(self, url, label="stable"):
        self.over, self.label = threading.Event(), label
        self.client = connect(url, "mnist", Options(attempts=1, timeout=PATIENCE))
        self.answers, self.failures, self.report = [], 0, None
        self.thread = threading.Thread(target=self._run)

    def _ask(self):
        try:
            answer = self.client.predict(FEATURES, label=self.label)
        except Exception:
            self.failures += 1
            raise
        self.answers.append(answer.version)
        return answer

    def _run(self):
        self.report = load.run(
            self._ask,
            rate=RATE,
            seconds=3600,
            connections=16,
            stopped=self.over.is_set,
        )

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.client.close()


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_pushes_and_rollbacks_lose_no_request(server, base, exports, rounds):
    rest, grpc = f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}"
    rollout = Rollout(base, (rest,), PATIENCE)
    live, was_live = 1, [1]
    with Load(rest) as over_rest, Load(grpc) as over_grpc:

        def went_live(version):
            was_live.append(version)
            wait_for(lambda: version in over_grpc.answers)

        begun = time.monotonic()
        wait_for(lambda: over_grpc.answers)
        for turn in range(rounds):
            published = rollout.finish(push(base, exports, 2 + turn, hold=True))
            assert published.live
            went_live(published.version)
            if turn % 2 == 0:  # back to the one before, and from there on
                assert rollout.rollback(reason="a drill") == live
            else:
                assert rollout.rollback(reason="a drill", to=live) == live
            if turn % 2:
                live = rollout.finish(push(base, exports, 1000 + turn, hold=True)).version
                went_live(live)
        seconds = time.monotonic() - begun
    for told in (over_rest.report, over_grpc.report):
        assert told.errors == {}
        # Nobody held the requests back: as many as were due.
        assert len(told.samples) >= RATE * seconds * 0.95
    assert set(over_grpc.report.versions) == set(was_live)
    for name, told in (("REST", over_rest.report), ("gRPC", over_grpc.report)):
        summary = told.summary()
        sys.stdout.write(f"{name}: {rounds} rollbacks, {len(was_live) - 1} pushes: {summary}\n")


def test_a_version_that_arrives_by_rename_fails_no_request(tmp_path, exports):
    """Cases 88 and 94: policy latest, no labels; versions come and go by rename."""
    base = tmp_path / "latest"
    shutil.copytree(exports[1], base / "1")
    server = LocalServer([ModelEntry("mnist", str(base))], FOLLOWING)
    rest, grpc = f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}"
    try:
        with (
            connect(rest, "mnist") as client,
            Load(rest, None) as over_rest,
            Load(grpc, None) as over_grpc,
        ):
            for version in range(2, 6):
                staged = base / f".staging-{version}"
                shutil.copytree(exports[version % 2], staged)
                staged.rename(base / str(version))
                client.wait_until_available(version)
                wait_for(lambda version=version: version in over_grpc.answers)
            for version in range(5, 2, -1):
                (base / str(version)).rename(base / f".bad-{version}")
                client.wait_until_available(version - 1)
            states = {s.version: s.state for s in client.status()}
    finally:
        server.stop()
    assert over_rest.report.errors == over_grpc.report.errors == {}
    assert set(over_grpc.report.versions) == {1, 2, 3, 4, 5}
    assert list(states) == [5, 4, 3, 2, 1]
    assert states[2] == "AVAILABLE" and states[5] == "END"


def test_a_stop_under_load_gives_no_wrong_answer(base):
    """Whoever comes too late finds no server; gRPC may cancel what arrives at that moment."""
    server = LocalServer(base / "models.config", FOLLOWING)
    rest, grpc = f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}"
    with Load(rest) as over_rest, Load(grpc) as over_grpc:
        wait_for(lambda: over_rest.answers and over_grpc.answers)
        server.stop()
        wait_for(lambda: over_rest.failures and over_grpc.failures)
    for told in (over_rest.report, over_grpc.report):
        assert any(not sample.error for sample in told.samples)
        assert told.errors
        refused = ("no server at", "CANCELLED")
        assert all(any(text in error for text in refused) for error in told.errors), told.errors


def test_one_edit_that_lists_a_version_and_moves_the_label_never_converges(server, base, exports):
    """Case 96, as on the real server; what was live stays live, and two edits do it."""
    shutil.copytree(exports[0], base / "2")

    def tell(stable):
        labels = {"stable": stable}
        model_config.write(base, model_config.ModelConfig("mnist", str(base), (1, 2), labels))

    tell(2)
    with connect(f"http://127.0.0.1:{server.rest_port}", "mnist") as client:
        time.sleep(0.5)
        assert [(s.version, s.state) for s in client.status()] == [(1, "AVAILABLE")]
        assert client.metadata(label="stable")["model_spec"]["version"] == "1"
        tell(1)
        client.wait_until_available(2)
        tell(2)
        wait_for(lambda: client.metadata(label="stable")["model_spec"]["version"] == "2")


def test_a_restart_with_labels_needs_the_flag(base):
    from bnpipe.serving.local.status import StatusError

    with pytest.raises(StatusError, match="Request to assign label to version 1 of model mnist"):
        LocalServer(
            base / "models.config",
            dataclasses.replace(FOLLOWING, allow_labels_for_unavailable=False),
        )
