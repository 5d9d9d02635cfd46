"""Retraining that is left alone while its data drifts: eleven spans, a server, a client."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.pipeline.engine.collect import size_of
from bnpipe.pipeline.schedule.outcome import Outcome, Result, outcomes
from bnpipe.serving.client.base import Client, Options
from bnpipe.serving.client.connect import connect
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, versions
from tests.integration.background import free_port, process, rss
from tests.integration.conftest import SMALL, MakeProject, Project
from tests.span_folders import drifted, write_drifted
from tests.waiting import wait_for

CONFIG = """\
serving: {{keep_versions: 3, server_url: "http://127.0.0.1:{rest}"}}
validator: {{checks: {{image_drift: warn, image_outliers: warn, class_statistics: warn}}}}
schedule:
  every: 10s
  tick_seconds: 2
  triggers: [new_span, drift]
  keep_runs: 3
"""
MODEL = "rendered_digits"
SPANS = 11
MISLABELLED, UNTRAINED = 3, 4
SETTLED = 7
"""From this span on the retention policy has something to remove after every run."""


@dataclass
class Asked:
    """What a client saw: how often which version answered, how often it was right, what failed."""

    answers: list[tuple[int, bool]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    level: float = 0.0


@dataclass(frozen=True)
class Slot:
    """How things stood when a slot was settled; sizes in MB."""

    outcome: Outcome
    server: float
    scheduler: float
    home: float
    served: float


class World:
    """A project with a server and a scheduler that nobody looks after; spans come, more and more
    unlike the first."""

    def __init__(self, project: Project, spans: Path, grpc: int) -> None:
        self.project, self.spans, self.grpc = project, spans, grpc
        self.base = project.home / "served" / MODEL
        self.asked = Asked()
        self.slots: list[Slot] = []

    def span(self, number: int) -> Path:
        """A new span."""
        folder = self.spans / str(number)
        write_drifted(folder, number, number, train=400, test=100)
        return folder

    def settled(self) -> list[Outcome]:
        """The slots that came to a run."""
        return [o for o in outcomes(self.project.home) if o.run is not None]

    def wait_for_slot(self, scheduler: int, server: int | None = None) -> Outcome:
        before = len(self.slots)
        wait_for(lambda: len(self.settled()) > before)
        time.sleep(3)  # the tick applies the retention policy, the server unloads
        home = sum(size_of(self.project.home / name) for name in ("objects", "runs", "steps"))
        slot = Slot(
            self.settled()[before],
            rss(server) if server else 0.0,
            rss(scheduler),
            home / 1e6,
            size_of(self.base) / 1e6,
        )
        self.slots.append(slot)
        show(row(slot))
        return slot.outcome


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_retraining_is_left_alone(make_project: MakeProject, tmp_path: Path) -> None:
    rest, grpc = free_port(), free_port()
    spans = tmp_path / "spans"
    spans.mkdir()
    data = SMALL.replace("shards: 2", f'shards: 2, spans: "{spans}/{{SPAN}}", span_window: 3')
    project = make_project(data + CONFIG.format(rest=rest))
    world = World(project, spans, grpc)
    ports = ("--port", str(rest), "--grpc-port", str(grpc))
    with process(project, tmp_path / "scheduler.log", "schedule", "run") as scheduler:
        wait_for(lambda: "ticking" in (tmp_path / "scheduler.log").read_text())
        world.span(1)
        assert world.wait_for_slot(scheduler).result is Result.PUSHED
        with (
            process(project, tmp_path / "server.log", "serve", *ports) as server,
            client_at_work(world),
        ):
            for number in range(2, SPANS + 1):
                world.asked.level = number
                if number == MISLABELLED:
                    check_mislabelled(world, scheduler, server)
                elif number == UNTRAINED:
                    check_untrained(world, scheduler, server)
                else:
                    check_new_data(world, number, scheduler, server)
    check_all(world)


def check_new_data(world: World, number: int, scheduler: int, server: int) -> None:
    """A span that drifted once more is a reason to retrain; gates judge what comes of it."""
    world.span(number)
    done = world.wait_for_slot(scheduler, server)
    assert done.result in (Result.PUSHED, Result.NOT_BLESSED), done
    # A span that appears while triggers are asked is seen by the later one alone.
    assert {"new_span", "drift"} & {reason.trigger for reason in done.reasons}


def check_mislabelled(world: World, scheduler: int, server: int) -> None:
    """The data gate stops a span whose labels are all the same; somebody takes it away."""
    bad = world.spans / str(MISLABELLED)
    write_drifted(bad, MISLABELLED, MISLABELLED, label=7, train=400, test=100)
    live = versions.live(world.base)
    done = world.wait_for_slot(scheduler, server)
    assert (done.result, done.exit_code) == (Result.BLOCKED, 3), done
    assert versions.live(world.base) == live
    shutil.rmtree(bad)


def check_untrained(world: World, scheduler: int, server: int) -> None:
    """The evaluator stops a model that a mistake in the configuration made; it is taken back."""
    file = world.project.folder / "bnpipe.yaml"
    good = file.read_text()
    file.write_text(good.replace("epochs: 6", "epochs: 1").replace("0.003", "0.000001"))
    live = versions.live(world.base)
    world.span(UNTRAINED)
    done = world.wait_for_slot(scheduler, server)
    assert (done.result, done.exit_code) == (Result.NOT_BLESSED, 3), done
    assert versions.live(world.base) == live
    file.write_text(good)


def check_all(world: World) -> None:
    done = [slot.outcome for slot in world.slots]
    results = [outcome.result for outcome in done]
    show("\n".join(map(row, world.slots)))
    assert len(results) == SPANS == len({outcome.run for outcome in done})
    retrained = [r for r in results if r in (Result.PUSHED, Result.NOT_BLESSED)]
    assert len(retrained) >= 10 and results.count(Result.PUSHED) >= 7
    drift = [o for o in done if "drift" in {reason.trigger for reason in o.reasons}]
    assert len(drift) >= 7
    assert not [o for o in outcomes(world.project.home) if o.result is Result.FAILED]

    assert world.asked.faults == []
    answered = [version for version, _ in world.asked.answers]
    published = set(ledger.read(world.base).entries)
    assert set(answered) <= published and answered == sorted(answered)
    assert answered[-1] == versions.live(world.base) == max(published)
    right = np.mean([correct for _, correct in world.asked.answers])
    show(f"{len(answered)} answers of {len(set(answered))} versions, {right:.3f} right")
    assert right > 0.8

    # What came before is the room that runs need; from here on it is the policy's.
    for measured in ("server", "scheduler", "home", "served"):
        sizes = [getattr(slot, measured) for slot in world.slots[SETTLED - 1 :]]
        assert max(sizes[-3:]) < 1.15 * max(sizes[:3]), (measured, sizes)
    assert len(versions.complete_versions(world.base)) <= 5
    assert len(list((world.project.home / "runs").iterdir())) <= 3 + 5


@contextmanager
def client_at_work(world: World) -> Iterator[None]:
    """Somebody who asks ten times a second, with old and new images in turn."""
    stop = threading.Event()
    options = Options(timeout=10.0, attempts=1)
    with connect(f"grpc://127.0.0.1:{world.grpc}", MODEL, options) as client:
        client.wait_until_available(1)
        wait_for(lambda: follows(client))
        thread = threading.Thread(target=ask, args=(client, world.asked, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def follows(client: Client) -> bool:
    try:
        return bool(client.metadata(label="stable"))
    except ServingError:
        return False


def ask(client: Client, asked: Asked, stop: threading.Event) -> None:
    turn = 0
    while not stop.wait(0.1):
        level = asked.level if turn % 2 else 0.0
        images, labels = sample(level)
        i = turn % len(images)
        turn += 1
        try:
            answer = client.predict(
                {"images": images[i : i + 1]}, signature="serve_images", label="stable"
            )
        except Exception as error:  # whatever it is, a client would have seen it
            asked.faults.append(f"{type(error).__name__}: {error}")
            continue
        assert answer.version is not None
        correct = int(answer.outputs["class_id"][0]) == labels[i]
        asked.answers.append((answer.version, correct))


SAMPLES: dict[float, Any] = {}


def sample(level: float) -> Any:
    """Images that nothing was trained on."""
    if level not in SAMPLES:
        SAMPLES[level] = drifted(999, "test", level)
    return SAMPLES[level]


def show(text: str) -> None:
    """For those who run this with `-s`."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def row(slot: Slot) -> str:
    """A line of the table."""
    o = slot.outcome
    version = f"v{o.version}" if o.version else "-"
    reasons = "; ".join(map(str, o.reasons))
    sizes = (slot.server, slot.scheduler, slot.home, slot.served)
    return " | ".join(
        (o.slot, reasons, o.result, version, o.sentence, " ".join(f"{s:.1f}" for s in sizes))
    )
