"""A day with canaries behind nginx, with clients that ask all the while: none of them notices."""

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bnpipe.serving.folder import versions
from tests.integration.conftest import Project
from tests.integration.test_canary import Forwarded, Proxy, Trial, answers
from tests.serving.deploy.nginx import Front, front, needs_nginx
from tests.serving.model_server import Addresses, Load
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), needs_nginx]


class Spoiling(Forwarded):
    """Between nginx and the server: a label fails, or takes a fifth of a second."""

    disable_nagle_algorithm = True

    def do_POST(self) -> None:  # noqa: N802
        label, server = re.search("/labels/(.*):", self.path), self.server
        assert isinstance(server, Spoiler)
        if label and label[1] == server.failing:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        time.sleep(0.2 if label and label[1] == server.slow else 0.0)
        self.do_GET()


class Spoiler(Proxy):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.RequestHandlerClass = Spoiling
        self.failing = self.slow = ""


def test_a_day_with_canaries_costs_no_client_request(
    kept: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial(kept.copied_to(tmp_path), tmp_path / "server.log")
    spoiler = Spoiler(trial.url)
    behind = Addresses(
        f"http://127.0.0.1:{spoiler.server_address[1]}", f"grpc://127.0.0.1:{trial.ports[1]}"
    )
    trial.project.call("deploy", "render", "--kind", "compose")
    text = (trial.project.folder / "deploy/nginx.conf").read_text()
    try:
        with trial.serve(), front(text, behind, tmp_path / "nginx") as at:
            trial.url = at.rest
            wait_for(lambda: answers(trial))
            with Load(at.rest, label=None) as load:
                said = spoiled(trial, spoiler, at), promoted_then_slow(trial, spoiler, at)
                assert status(trial, at)["sentence"] == "no version is on trial"
            wait_for(lambda: sum(shares(at).values()) == len(load.answers))
    finally:
        spoiler.shutdown()
        spoiler.server_close()
    counts = shares(at)
    first = Counter(
        line["canary"].partition(" ")[0] or line["upstream_status"]
        for line in lines(at)
        if line["label"] == "canary"
    )
    with capsys.disabled():
        figures = f"{len(load.answers)} requests of clients, {load.failures} failed; by label "
        figures += f"{dict(counts)}, answers of the canary itself {dict(first)}"
        sys.stdout.write("\n".join(["", figures, *said, ""]))
    assert load.failures == 0
    assert 0.05 < counts["canary"] / counts.total() < 0.15
    assert {line["status"] for line in lines(at) if line["label"]} == {200}


def lines(at: Front) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (at.traffic / "requests.jsonl").read_text().splitlines()]


def shares(at: Front) -> Counter[str]:
    return Counter(line["label"] for line in lines(at) if line["label"])


def status(trial: Trial, at: Front) -> Any:
    return trial.project.json("canary", "status", "--set", f"deploy.traffic_log={at.traffic}")


def spoiled(trial: Trial, spoiler: Spoiler, at: Front) -> str:
    """A canary that answers nobody; whoever asks it gets the answer of `stable`."""
    words = ("--json", "--set", "trainer.epochs=5", *trial.words(soak="10m", rate=0.4))
    spoiler.failing = "canary"
    time.sleep(1.1)
    tick = trial.project.start("retrain", "--due", *words)
    wait_for(lambda: versions.on_trial(trial.base) == 2 or tick.poll() is not None)
    wait_for(lambda: status(trial, at)["verdict"] == "fail" or tick.poll() is not None)
    found = status(trial, at)
    assert found["verdict"] == "fail", found  # long before the soak is as sure
    out, err = tick.communicate()
    assert tick.returncode == 3, out + err
    assert "v2 is withdrawn: canary failed" in out
    assert (versions.live(trial.base), versions.on_trial(trial.base)) == (1, None)
    spoiler.failing = ""
    return f"spoiled: {found['sentence']}"


def promoted_then_slow(trial: Trial, spoiler: Spoiler, at: Front) -> str:
    """A good one goes live; a fault makes it slow while it is watched."""
    rules = {"soak": "10s", "rate": 10, "latency_margin": 3, "bake": "2m"}
    time.sleep(1.1)
    words = ("--json", "--set", "trainer.epochs=4", *trial.words(**rules))
    tick = trial.project.start("retrain", "--due", *words)
    wait_for(lambda: versions.on_trial(trial.base) == 3 or tick.poll() is not None)
    time.sleep(5)  # of its soak
    found = status(trial, at)
    wait_for(lambda: versions.live(trial.base) == 3 or tick.poll() is not None)
    assert versions.live(trial.base) == 3, tick.communicate()
    spoiler.slow = "stable"
    out, err = tick.communicate()
    spoiler.slow = ""
    assert tick.returncode == 3, out + err
    assert "v3 is withdrawn: rolled back to v1: stable is slower than v1" in out
    assert versions.live(trial.base) == 1
    assert found["verdict"] == "inconclusive"
    return f"good: {found['sentence']}; then slow: {json.loads(out)['sentence']}"
