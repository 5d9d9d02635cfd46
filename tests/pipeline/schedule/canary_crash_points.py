"""Stops the trial of a canary at every file-system call, and lets the next attempt finish it.

`python -m tests.pipeline.schedule.canary_crash_points FOLDER STORY FAULT` prints the number of
points. A story is what its soak and its bake come to, e.g. `pass,fail`; `real` asks the server.

The folder has a server, which is the stand-in's manager: it reads models.config, looks at the
folders, loads and unloads whenever somebody waits for it. Those waits are points too, and a server
lives on when who waited is killed.
"""

import itertools
import json
import mmap
import pickle
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bnpipe.data.json_text import json_text
from bnpipe.pipeline.configuration.config import Config, from_values
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule import canary
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.client import base as client_base
from bnpipe.serving.client import soak as client_soak
from bnpipe.serving.client.base import Prediction
from bnpipe.serving.client.paired import Paired
from bnpipe.serving.client.soak import Soaked, Verdict, Watch
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, rollout, versions
from bnpipe.serving.folder.rollout import Rollout
from tests.fault_injection import NOT_REACHED, stopped
from tests.serving.folder.served import events, leftovers, push, saved_model, torn
from tests.serving.folder.test_rollout_search import Asked, Server

LIVE, TRIED = 1, 2
SOAK, REAL_SOAK = canary._soak, client_soak.soak
RUN = {"id": "0001", "steps": [{"name": "transform", "outputs": {"transformed": "images"}}]}


class Story:
    """A home whose canary waits for its soak, with soaks that come to what they are told."""

    def __init__(self, root: Path, told: str) -> None:
        self.base, self.store = root / "served", Store(root / "home")
        soak, _, bake = told.partition(",")
        self.ends = {"soak": Verdict(soak), "bake": Verdict(bake or "pass")}
        settings = {"bake": "30m"} if bake else {}
        self.config: Config = from_values(
            {"serving": {"base_path": str(self.base), "rollout": "canary"}, "canary": settings}
        )
        canary._soak = self.soaked  # type: ignore[assignment]
        canary.rollout = lambda *_: Rollout(self.base)  # type: ignore[assignment]

    def begin(self) -> None:
        models = self.base.parent / "models"
        push(self.base, saved_model(models / "a", "a"))
        published = push(self.base, saved_model(models / "b", "b"), hold=True)
        labels.promote(self.base, published.version, label="canary")
        pushed = {"version": TRIED, "label": "canary", "digest": published.digest}
        self.store.runs.mkdir(parents=True)
        (self.store.runs / "run.json").write_text(json_text(RUN | {"pushed": pushed}))

    def soaked(self, *given: object, **_: object) -> Soaked:
        verdict = self.ends[str(given[4])]
        return Soaked(verdict, f"{given[4]}: {verdict}", Watch(latency=Paired(better=1)))

    def attempt(self) -> Ran:
        """As `schedule.retraining` does it."""
        run = json.loads((self.store.runs / "run.json").read_text())
        if canary.on_trial(self.config, self.store.home) is not None:
            return canary.try_canary(self.config, self.store, run)
        if canary.baking(self.config, self.store.home) is not None:
            return canary.bake(self.config, self.store, run)
        ran = canary.decided(self.config, self.store.home, run)
        assert ran is not None, "nothing is left to do, and nothing was decided"
        return ran

    def broken(self) -> list[str]:
        live = versions.live(self.base)
        return torn(self.base) + ([] if live in (LIVE, TRIED) else [f"live is {live}"])

    def check(self, ran: Ran) -> None:
        good = self.ends == dict.fromkeys(self.ends, Verdict.PASS)
        assert ran.result is (Result.PUSHED if good else Result.WITHDRAWN), ran
        assert versions.live(self.base) == (TRIED if good else LIVE)
        history = ledger.read(self.base)
        assert versions.on_trial(self.base) is versions.baking(self.base) is None
        assert bool(history.withdrawn) is not good
        names = [event for event, _ in events(self.base)]
        assert names.count("rolled_back") <= 1 and names.count("baked") <= 1, names
        assert self.broken() + leftovers(self.base) == []


class Answering(Asked):
    """Knows every image, by the versions that its server has loaded."""

    def _predict(
        self, inputs: Any, signature: str, version: int | None, label: str | None
    ) -> Prediction:
        self.metadata(version, label)
        return Prediction({"class_id": inputs["features"][:, 0]}, None)


class Served(Story):
    """A story whose folder has a server."""

    def __init__(self, root: Path, told: str) -> None:
        super().__init__(root, told.replace("real", "pass"))
        self.target = Rollout(self.base, ("http://server",), 60.0)
        self.server = Server(self.base / "models.config")
        self.shared, self.stepping = mmap.mmap(-1, 1 << 20), False
        self.time, self.steps = 0.0, itertools.cycle("CFM")
        clock = SimpleNamespace(monotonic=lambda: self.time, sleep=self.sleep)
        rollout.time = client_base.time = clock  # type: ignore[assignment]
        rollout.connect = lambda *_: Answering(self.server)  # type: ignore[assignment]
        canary.rollout = lambda *_: self.target  # type: ignore[assignment]
        if "real" in told:
            settings = {
                "soak": "1s",
                "rate": 8,
                "margin": 0.9,
                "bake": "1s" if "," in told else None,
            }
            served = {"base_path": str(self.base), "rollout": "canary"}
            self.config = from_values({"serving": served, "canary": settings})
            images = np.arange(40, dtype=np.float32).reshape(20, 2) % 10
            canary._probes = lambda *_: (images, images[:, 0].astype(int))  # type: ignore[assignment]
            canary._soak = SOAK
            client_soak.FEWEST, client_soak._POINTS = 8, 2  # type: ignore[misc]
            client_soak.soak = partial(REAL_SOAK, sleep=self.sleep)  # type: ignore[assignment]

    def serve(self) -> None:
        for _ in range(9):
            self.sleep(0)

    def sleep(self, _: float) -> None:
        self.base.stat()  # a point of its own
        self.time += 1
        self.stepping = True
        self.server.step(next(self.steps))
        self.shared.seek(0)
        self.shared.write(pickle.dumps(self.server.keep()))
        self.stepping = False

    def see_the_server(self) -> None:
        """It is as it was when the one who waited for it was killed."""
        self.shared.seek(0)
        self.server.restore(pickle.loads(self.shared.read()))

    def broken(self) -> list[str]:
        answers = Answering(self.server).version_behind("stable") in (LIVE, TRIED)
        return super().broken() + ([] if answers else ["the server has no stable version"])

    def check(self, ran: Ran) -> None:
        super().check(ran)
        for _ in range(9):
            self.sleep(0)
        has = {
            label: Answering(self.server).version_behind(label) for label in ("stable", "canary")
        }
        assert has["stable"] == versions.live(self.base), has
        assert has["canary"] in (None, has["stable"]) and not self.server.refused(), has


def main(folder: Path, told: str, fault: str) -> int:
    begun = Story(folder / "0", told.replace("real", "pass"))
    begun.begin()
    (begun.store.runs / RUN["id"]).mkdir()
    for point in range(1, 5000):
        shutil.rmtree(folder / "1", ignore_errors=True)
        shutil.copytree(folder / "0", folder / "1")
        story = Served(folder / "1", told)
        story.base.joinpath("models.config").unlink()  # it has the path of the other one
        labels.promote(story.base, TRIED, label="canary")
        story.serve()
        ended = stopped(
            story.attempt,  # type: ignore[arg-type]
            fault,
            point,
            refusals=(ServingError, OSError),
            armed=lambda story=story: not story.stepping,  # type: ignore[misc]
        )
        assert ended in (-9, 0, 7, NOT_REACHED), f"point {point}: exit status {ended}"
        story.see_the_server()
        assert story.broken() == [], f"point {point}: {story.broken()}"
        story.check(story.attempt())
        if ended == NOT_REACHED:
            return point - 1
    raise AssertionError("a trial makes more calls than expected")


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))  # noqa: T201
