"""Pushes and rollbacks on a running server under constant load: no request is lost.

The load is open: requests are due at a constant rate whatever the server does, none is sent twice,
and each counts from when it was due.
"""

import shutil
import sys
import time

import pytest

from bnpipe.serving.folder.publish import publish
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.local.server import LocalServer
from bnpipe.serving.local.states import Settings
from tests.serving.model_server import RATE, Load
from tests.waiting import PATIENCE, wait_for

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
    sys.stdout.write(f"{rounds} rollbacks, {len(was_live) - 1} pushes\n")
    for name, told in (("REST", over_rest.report), ("gRPC", over_grpc.report)):
        sys.stdout.write(f"{told.row(name)}\n")


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
