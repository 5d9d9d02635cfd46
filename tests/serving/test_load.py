"""The open-loop load: when requests are sent, what counts, and what is told."""

import itertools
import threading
import time

import pytest

from bnpipe.serving.client import Prediction, ServerError
from bnpipe.serving.load import LoadResult, Sample, run


def answer(version=None):
    return Prediction({}, version)


def test_requests_come_at_the_rate_and_not_when_the_server_is_ready():
    """The server takes longer than the time between two requests."""

    def slow():
        time.sleep(0.1)
        return answer(7)

    begun = time.monotonic()
    report = run(slow, rate=50, seconds=1, connections=20)
    assert time.monotonic() - begun < 3  # one after the other it would be 5
    assert [round(s.due * 50) for s in report.samples] == list(range(50))
    assert all(s.sent >= s.due for s in report.samples)
    assert report.versions == {7: 50} and not report.errors


def test_a_stall_is_charged_for_all_requests_of_its_time():
    """Half a second without answers: a closed loop would tell of one slow request."""
    lock, until = threading.Lock(), []

    def stall_once():
        with lock:
            if not until:
                until.append(time.monotonic() + 0.5)
        time.sleep(max(0.0, until[0] - time.monotonic()))
        return answer()

    # One connection: everything behind the first waits here, not in the server.
    report = run(stall_once, rate=100, seconds=1, connections=1)
    slow = (report.milliseconds > 100).sum()
    assert 35 <= slow <= 60
    assert report.sent_late >= slow
    assert report.summary()["milliseconds"]["p50"] < 600


def test_failures_are_counted_by_reason_and_their_time_counts():
    calls = itertools.count()

    def failing():
        match next(calls) % 4:
            case 0:
                raise ServerError("queue is full\nmore", status=503)
            case 1:
                time.sleep(0.02)
                raise ServerError("no server at http://x: Connection refused")
        return answer()

    report = run(failing, rate=400, seconds=0.1, connections=1)
    told = report.summary()
    assert (told["requests"], told["failed"]) == (40, 20)
    assert told["errors"] == {
        "503 queue is full": 10,
        "no server at http://x: Connection refused": 10,
    }
    assert report.milliseconds.max() >= 20


def test_a_fault_of_ours_is_not_an_answer():
    def broken():
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        run(broken, rate=100, seconds=0.1)


def test_it_can_be_stopped():
    begun = time.monotonic()
    report = run(answer, rate=10, seconds=3600, stopped=lambda: time.monotonic() - begun > 0.3)
    assert 2 <= len(report.samples) <= 6


def test_parts_and_percentiles():
    samples = [Sample(i / 10, i / 10, i / 10 + (i + 1) / 1000) for i in range(100)]
    report = LoadResult(10, samples)
    told = report.summary()["milliseconds"]
    assert told == {"p50": 50.5, "p90": 90.1, "p99": 99.01, "p99.9": 99.901, "max": 100.0}
    assert [s.due for s in report.between(1, 1.2).samples] == [1.0, 1.1]
    assert report.between(50, 60).summary()["requests"] == 0
