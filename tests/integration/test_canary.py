"""A new version as canary on a running server: withdrawn, killed, promoted, watched, taken back."""

import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.pipeline.schedule.canary import EVIDENCE, RECORD
from bnpipe.pipeline.schedule.outcome import Outcome, Result, outcomes
from bnpipe.serving.client.base import Client, Options, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.folder import versions
from tests.integration.background import free_port, process
from tests.integration.conftest import Project
from tests.waiting import wait_for

MODEL = "mnist"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Trial:
    """A project with a live version and the words of a tick whose new version is a canary."""

    def __init__(self, project: Project, log: Path) -> None:
        self.project, self.log = project, log
        self.base = project.home / "served" / MODEL
        self.ports = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        project.call("retrain", "--due", *self.words())  # the schedule begins

    def words(self, **canary: Any) -> list[str]:
        rules = {"soak": "8s", "rate": 20, "margin": 0.2, "latency_margin": 1000, **canary}
        changes = {
            "schedule.every": "1s",
            "schedule.backoff_seconds": 0,
            "serving.server_url": self.url,
            "serving.rollout": "canary",
            **{f"canary.{name}": value for name, value in rules.items()},
        }
        return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]

    def serve(self) -> Any:
        rest, grpc = map(str, self.ports)
        return process(self.project, self.log, "serve", "--port", rest, "--grpc-port", grpc)

    def tick(self, epochs: int, exit_code: int = 0, **canary: Any) -> dict[str, Any]:
        time.sleep(1.1)
        change = ("--set", f"trainer.epochs={epochs}")
        words = ("retrain", "--due", "--json", *change, *self.words(**canary))
        found: dict[str, Any] = json.loads(self.project.call(*words, exit_code=exit_code))
        return found

    def labels(self) -> dict[str, int | None]:
        """What the server has under its labels."""
        with connect(self.url, MODEL) as client:
            return {label: client.version_behind(label) for label in ("stable", "canary")}

    @property
    def last(self) -> Outcome:
        return outcomes(self.project.home)[-1]


def labelled(client: Client, label: str) -> int:
    return int(client.metadata(label=label)["model_spec"]["version"])


def test_a_canary_on_a_running_server(kept: Project, tmp_path: Path) -> None:
    trial = Trial(kept.copied_to(tmp_path), tmp_path / "server.log")
    with trial.serve():
        wait_for(lambda: answers(trial))
        check_withdrawn(trial)
        check_killed_while_it_soaks(trial)
    check_without_a_server(trial)
    with trial.serve():
        wait_for(lambda: answers(trial))
        check_promoted(trial)
        check_by_hand(trial)


def answers(trial: Trial) -> bool:
    with connect(trial.url, MODEL) as client:
        try:
            return labelled(client, "stable") == 1
        except Exception:
            return False


def check_withdrawn(trial: Trial) -> None:
    """That a model is as good to a thousandth is not to be shown with 400 images."""
    strict = {"margin": 0.001, "inconclusive": "withdraw", "soak": "2s"}
    done = trial.tick(5, exit_code=3, **strict)
    assert done["outcome"]["result"] == "withdrawn", done
    assert "v2 is withdrawn: not shown to be as good: " in done["sentence"]
    assert (versions.live(trial.base), versions.on_trial(trial.base)) == (1, None)
    again = trial.tick(5, **strict)
    assert again["outcome"]["result"] == "unchanged"
    assert "held back (v2 withdrawn" in again["sentence"]


def check_killed_while_it_soaks(trial: Trial) -> None:
    time.sleep(1.1)
    words = ("--set", "trainer.epochs=4", *trial.words(soak="10m"))
    tick = trial.project.start("retrain", "--due", *words)
    wait_for(lambda: versions.on_trial(trial.base) == 3 and has_ended(trial))
    assert trial.labels() == {"stable": 1, "canary": 3}
    tick.kill()
    tick.communicate()
    assert versions.on_trial(trial.base) == 3


def has_ended(trial: Trial) -> bool:
    runs = sorted((trial.project.home / "runs").iterdir())
    return bool(json.loads((runs[-1] / "run.json").read_text())["status"] == "succeeded")


def check_without_a_server(trial: Trial) -> None:
    """Nothing is decided, and the slot is not given up."""
    done = trial.tick(4, exit_code=7)
    assert done["outcome"] is None, done
    assert "no server at http://127.0.0.1" in done["sentence"], done
    assert (versions.live(trial.base), versions.on_trial(trial.base)) == (1, 3)


def check_promoted(trial: Trial) -> None:
    """The slot whose tick was killed is finished; nothing was trained for it again."""
    done = trial.tick(4, bake="2s")
    assert (done["outcome"]["result"], done["outcome"]["version"]) == ("pushed", 3), done
    assert "v3 is live; it was watched for 2 seconds" in done["sentence"]
    assert trial.last.attempt == 3 and trial.last.result is Result.PUSHED
    assert trial.labels()["stable"] == versions.live(trial.base) == 3
    ran = trial.project.json("show", "latest")["steps"]
    assert {s["name"]: s["action"] for s in ran}["trainer"] == "cached"
    kept = json.loads((trial.project.home / "runs" / done["outcome"]["run"] / RECORD).read_text())
    assert kept["soak"]["verdict"] == "pass" and kept["bake"]["verdict"] != "fail"
    page = Path(trial.project.json("report", done["outcome"]["run"])["report"]).read_text()
    assert "Canary" in page and "beside the live version" in page


def check_by_hand(trial: Trial) -> None:
    """What the schedule does, for a version that somebody names; then the one before, at once."""
    trial.project.call("run", "--set", "trainer.epochs=7", *trial.words())
    assert (versions.live(trial.base), versions.on_trial(trial.base)) == (3, 4)
    done = json.loads(trial.project.call("promote", "4", "--soak", "8s", "--json", *trial.words()))
    assert (done["result"], done["version"]) == ("pushed", 4), done
    assert trial.labels()["stable"] == versions.live(trial.base) == 4
    trial.project.call("rollback", "--to", "1", "--reason", "bad", *trial.words())
    assert trial.labels()["stable"] == 1


def test_a_restart_of_the_server_is_no_verdict_and_the_next_tick_goes_on(
    kept: Project, tmp_path: Path
) -> None:
    """Nobody waits for a slot, and nothing is trained for it."""
    trial = Trial(kept.copied_to(tmp_path), tmp_path / "server.log")
    rare = ("--set", "schedule.every=365d")
    evidence = trial.base / EVIDENCE
    with trial.serve():
        wait_for(lambda: answers(trial))
        trial.project.call("run", "--set", "trainer.epochs=5", *trial.words())
        assert versions.on_trial(trial.base) == 2
        tick = trial.project.start("retrain", "--due", "--json", *trial.words(), *rare)
        wait_for(evidence.exists)
    out, _ = tick.communicate()
    assert tick.returncode == 7 and "no server at" in json.loads(out)["sentence"], out
    turns = json.loads(evidence.read_text())["evidence"]["turns"]
    assert turns < 160 and (versions.live(trial.base), versions.on_trial(trial.base)) == (1, 2)
    runs = len(list((trial.project.home / "runs").iterdir()))
    with trial.serve():
        wait_for(lambda: answers(trial))
        done = trial.project.json("retrain", "--due", *trial.words(), *rare)
    assert (done["outcome"]["result"], done["outcome"]["version"]) == ("pushed", 2), done
    assert json.loads(evidence.read_text())["evidence"]["turns"] == 160
    assert len(list((trial.project.home / "runs").iterdir())) == runs


class Proxy(ThreadingHTTPServer):
    """Before a server: with `broken`, it answers every prediction of `stable` with an error."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Forwarded)
        self.url, self.broken = url, False
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Forwarded(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        assert isinstance(self.server, Proxy)
        try:
            if self.server.broken and self.path.endswith("/labels/stable:predict"):
                status, answer = 500, b'{"error": "out of memory"}'
            else:
                with urllib.request.urlopen(self.server.url + self.path, body, timeout=30) as got:
                    status, answer = got.status, got.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


def test_a_fault_while_a_version_is_watched_rolls_it_back(kept: Project, tmp_path: Path) -> None:
    trial = Trial(kept.copied_to(tmp_path), tmp_path / "server.log")
    stop, failed, asked = threading.Event(), [], [0]
    direct = trial.url

    def load() -> None:
        image = {"features": np.zeros((1, 784), np.float32)}
        with connect(direct, MODEL, Options(attempts=1)) as client:
            while not stop.is_set():
                asked[0] += 1
                try:
                    client.predict(image, label="stable")
                except ServerError as error:
                    failed.append(error)

    with trial.serve():
        wait_for(lambda: answers(trial))
        proxy, loading = Proxy(direct), threading.Thread(target=load)
        loading.start()
        try:
            trial.url = f"http://127.0.0.1:{proxy.server_address[1]}"
            time.sleep(1.1)
            words = ("--json", "--set", "trainer.epochs=5", *trial.words(bake="10m"))
            tick = trial.project.start("retrain", "--due", *words)
            wait_for(lambda: trial.labels()["stable"] == 2 or tick.poll() is not None)
            proxy.broken = True
            out, err = tick.communicate()
            assert tick.returncode == 3, out + err
            told = json.loads(out)["sentence"]
            assert "v2 is withdrawn: rolled back to v1: stable failed" in told, told
            assert "out of memory" in told
            with connect(direct, MODEL) as client:
                assert labelled(client, "stable") == versions.live(trial.base) == 1
        finally:
            stop.set()
            loading.join()
            proxy.shutdown()
            proxy.server_close()
    assert failed == [] and asked[0] > 100
