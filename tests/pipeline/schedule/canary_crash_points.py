"""Stops the trial of a canary at every file-system call, and lets the next attempt finish it.

`python -m tests.pipeline.schedule.canary_crash_points FOLDER STORY FAULT` prints the number of
points. A story is what its soak and its bake come to, e.g. `pass,fail`.
"""

import json
import shutil
import sys
from pathlib import Path

from bnpipe.data.json_text import json_text
from bnpipe.pipeline.configuration.config import Config, from_values
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule import canary
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.client.soak import Soaked, Verdict, Watch
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, versions
from bnpipe.serving.folder.rollout import Rollout
from tests.fault_injection import NOT_REACHED, stopped
from tests.serving.folder.served import events, leftovers, push, saved_model, torn

LIVE, TRIED = 1, 2
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
        return Soaked(verdict, f"{given[4]}: {verdict}", Watch())

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


def main(folder: Path, told: str, fault: str) -> int:
    begun = Story(folder / "0", told)
    begun.begin()
    for point in range(1, 2000):
        shutil.rmtree(folder / "1", ignore_errors=True)
        shutil.copytree(folder / "0", folder / "1")
        story = Story(folder / "1", told)
        story.base.joinpath("models.config").unlink()  # it has the path of the other one
        labels.promote(story.base, TRIED, label="canary")
        refusals = (ServingError, OSError)
        ended = stopped(story.attempt, fault, point, refusals=refusals)  # type: ignore[arg-type]
        assert ended in (-9, 0, 7, NOT_REACHED), f"point {point}: exit status {ended}"
        assert story.broken() == [], f"point {point}: {story.broken()}"
        story.check(story.attempt())
        if ended == NOT_REACHED:
            return point - 1
    raise AssertionError("a trial makes more calls than expected")


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))  # noqa: T201
