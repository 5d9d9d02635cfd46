"""The trial of a new version: what its soak and its bake lead to, wherever they are stopped."""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode
from bnpipe.pipeline.schedule import canary
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.health import health
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.retraining import Retraining
from bnpipe.pipeline.schedule.slot import Slot
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.client import soak as client_soak
from bnpipe.serving.client.base import Client
from bnpipe.serving.client.soak import Verdict
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, versions
from bnpipe.serving.folder.rollout import Rollout
from tests.child import WITH_TESTS, environment
from tests.pipeline.schedule.canary_crash_points import LIVE, RUN, TRIED, Story
from tests.serving.client.test_soak import CLASSES, FEATURES, Answers, fail, refuse, within
from tests.serving.folder.served import push, saved_model

SOAK = canary._soak


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    for name in ("_soak", "rollout", "_probes"):  # a story replaces them; here they come back
        monkeypatch.setattr(canary, name, getattr(canary, name))
    made = Story(tmp_path, "pass,pass")
    made.begin()
    return made


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("told", ["fail", "pass,fail", "real", "real,real"])
@pytest.mark.parametrize("fault", ["kill", "enospc"])
def test_wherever_a_trial_stops_the_next_attempt_finishes_it(
    memory: Path, told: str, fault: str
) -> None:
    words = ["-m", "tests.pipeline.schedule.canary_crash_points", str(memory), told, fault]
    done = subprocess.run(
        [sys.executable, *words], env=environment(**WITH_TESTS), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_a_version_that_fails_while_it_is_watched_is_rolled_back(story: Story) -> None:
    story.ends["bake"] = Verdict.FAIL
    ran = story.attempt()
    assert (ran.result, ran.exit_code) == (Result.WITHDRAWN, ExitCode.VERDICT)
    assert ran.sentence == "v2 is withdrawn: rolled back to v1: bake: fail"
    assert versions.live(story.base) == LIVE
    (withdrawal,) = ledger.read(story.base).withdrawn.values()
    assert (withdrawal.version, withdrawal.reason) == (TRIED, "bake: fail")


def test_nothing_shown_while_it_is_watched_keeps_it(story: Story) -> None:
    story.ends["bake"] = Verdict.INCONCLUSIVE
    ran = story.attempt()
    assert ran.sentence == "v2 is live; it was watched for 30 minutes"
    assert versions.live(story.base) == TRIED and versions.baking(story.base) is None


@pytest.mark.parametrize(
    ("decision", "result", "live"),
    [
        ("withdraw", Result.WITHDRAWN, LIVE),
        ("keep", Result.UNCHANGED, LIVE),
        ("promote", Result.PUSHED, TRIED),
    ],
)
def test_a_soak_in_which_nothing_is_shown_ends_as_configured(
    story: Story, decision: str, result: Result, live: int
) -> None:
    story.ends["soak"] = Verdict.INCONCLUSIVE
    serving = {"base_path": str(story.base), "rollout": "canary"}
    story.config = from_values({"serving": serving, "canary": {"inconclusive": decision}})
    ran = story.attempt()
    assert (ran.result, versions.live(story.base)) == (result, live)
    kept = versions.on_trial(story.base)
    assert kept == (TRIED if decision == "keep" else None)
    assert ("stays canary" in ran.sentence) is (decision == "keep")


def test_a_version_that_goes_live_meanwhile_ends_the_watching(story: Story) -> None:
    labels.promote(story.base, TRIED, bake=True)
    assert versions.baking(story.base) == TRIED
    push(story.base, saved_model(story.base.parent / "models" / "c", "c"))
    assert versions.baking(story.base) is None and versions.live(story.base) == 3
    with pytest.raises(ServingError, match="has no version to watch"):
        canary.bake(story.config, story.store, {"id": "0001"})


def test_a_soak_by_hand_needs_a_server(story: Story) -> None:
    with pytest.raises(ConfigError, match="--soak asks the running servers, and none is named"):
        canary.promote_after_soak(story.config, story.store, TRIED)


def test_a_soak_by_hand_disturbs_no_other_trial(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SimpleNamespace(base=story.base, servers=["http://127.0.0.1:9"])
    monkeypatch.setattr(canary, "rollout", lambda config, home: target)
    with pytest.raises(ServingError, match=f"v{LIVE} is live already"):
        canary.promote_after_soak(story.config, story.store, LIVE)
    assert versions.on_trial(story.base) == TRIED
    monkeypatch.setattr(versions, "on_trial", lambda base: 5)
    with pytest.raises(ServingError, match="v5 is on trial: two at a time"):
        canary.promote_after_soak(story.config, story.store, TRIED)


def test_without_a_server_nothing_is_watched(story: Story) -> None:
    labels.promote(story.base, TRIED, bake=True)
    config = from_values({"serving": {"base_path": str(story.base)}, "canary": {"bake": "30m"}})
    assert canary.baking(config, story.store.home) is None


# What pairs have come to is kept


class Asked(Rollout):
    """A folder with one server, which is a client of a test."""

    client: Answers

    @contextmanager
    def clients(self) -> Iterator[dict[str, Client]]:
        yield {"http://s1": self.client}


@pytest.fixture
def client(story: Story, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Answers for the real soaks of a story: 40 images each, of 160."""
    monkeypatch.setattr(canary, "_soak", SOAK)
    monkeypatch.setattr(canary, "_probes", lambda *_: (FEATURES[:160], CLASSES[:160]))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(client_soak, "soak", partial(client_soak.soak, sleep=lambda _: None))
    (story.store.runs / "0001").mkdir(exist_ok=True)
    made = Asked(story.base)
    object.__setattr__(made, "client", Answers())
    monkeypatch.setattr(canary, "rollout", lambda *_: made)
    configure(story)
    return made.client


def configure(story: Story, **settings: Any) -> None:
    serving = {"base_path": str(story.base), "rollout": "canary"}
    rules = {"soak": "4s", "rate": 10, "margin": 0.06, **settings}
    story.config = from_values({"serving": serving, "canary": rules})


def images(client: Answers) -> list[int]:
    return [image for name, image in client.asked if name == "canary"]


def test_a_kept_canary_goes_on_where_it_stopped(story: Story, client: Answers) -> None:
    """What 40 images do not show, 120 do; none of them is asked for twice."""
    sentences = [story.attempt().sentence for _ in range(3)]
    assert ["stays canary" in sentence for sentence in sentences] == [True, True, False]
    assert "over 120 images" in sentences[2] and versions.live(story.base) == TRIED
    assert len(images(client)) == len(set(images(client))) == 120


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"same": 80', '"same": 90'),
        lambda text: "[]",
        lambda text: "",
        lambda text: "{" * 100_000,
        lambda text: text.replace("evidence", "evidences"),
    ],
)
def test_damaged_evidence_is_none(
    story: Story, client: Answers, damage: Callable[[str], str]
) -> None:
    for _ in range(2):
        story.attempt()
    path = story.base / canary.EVIDENCE
    assert damage(path.read_text()) != path.read_text()
    path.write_text(damage(path.read_text()))
    assert "over 40 images" in story.attempt().sentence
    assert "over 80 images" in story.attempt().sentence


@pytest.mark.parametrize("other", ["margin", "images", "version"])
def test_evidence_is_about_what_it_was_gathered_on(
    story: Story, client: Answers, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    for _ in range(2):
        story.attempt()
    if other == "margin":
        configure(story, margin=0.05)
    elif other == "images":
        path = story.store.runs / "run.json"
        path.write_text(path.read_text().replace("images", "more images"))
    else:
        push(story.base, saved_model(story.base.parent / "models" / "c", "c"), hold=True)
        labels.promote(story.base, 3, label="canary")
    assert "over 40 images" in story.attempt().sentence


def test_a_canary_of_which_all_images_show_nothing_is_left_to_people(
    story: Story, client: Answers, retraining: Retraining
) -> None:
    configure(story, margin=0.001)
    for _ in range(4):
        assert Retraining(story.config, story.store.home).trial() == "0001"
        assert "stays canary" in story.attempt().sentence
    assert Retraining(story.config, story.store.home).trial() is None
    assert len(set(images(client))) == len(images(client)) == 160
    left = canary.exhausted(story.config, story.store)
    served, now = story.base, datetime.now(UTC)
    state = health(story.config.schedule, story.store.home, served, now, exhausted=left)
    assert f"; decide: bnpipe promote {TRIED}, or push another" in state.attention[-1]
    # Nor does a slot that is due soak it again.
    assert Retraining(story.config, story.store.home)._unfinished() is None
    configure(story, margin=0.001, inconclusive="withdraw")
    assert Retraining(story.config, story.store.home).trial() == "0001"
    assert story.attempt().result is Result.WITHDRAWN


def test_a_soak_ends_when_what_it_compares_with_is_live_no_more(
    story: Story, client: Answers
) -> None:
    labels.promote(story.base, TRIED)
    push(story.base, saved_model(story.base.parent / "models" / "c", "c"), hold=True)
    labels.promote(story.base, 3, label="canary")
    turn = itertools.count()

    def roll_back(class_id: int) -> int:
        if next(turn) == 10:
            labels.rollback(story.base, reason="bad", to=LIVE)
        return class_id

    client.special["stable"] = roll_back
    with pytest.raises(ServingError, match="a label moved during the soak"):
        story.attempt()
    assert client.count("stable") == 11 and versions.on_trial(story.base) == 3


# What a bake compares with


def baked(story: Story, monkeypatch: pytest.MonkeyPatch) -> tuple[Ran, list[Any]]:
    """The end of a bake, and what it was compared with."""
    asked = []

    def soaked(*given: Any, **named: Any) -> Any:
        asked.append(named["old"])
        return story.soaked(*given, **named)

    monkeypatch.setattr(canary, "_soak", soaked)
    return canary.bake(story.config, story.store, RUN), asked


def test_a_bake_compares_with_what_was_live_whatever_the_numbers(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v2 stayed canary; v3 was promoted from v1."""
    push(story.base, saved_model(story.base.parent / "models" / "c", "c"), hold=True)
    labels.promote(story.base, 3, bake=True)
    story.ends["bake"] = Verdict.FAIL
    ran, asked = baked(story, monkeypatch)
    assert asked == [{"version": LIVE}] and versions.live(story.base) == LIVE
    assert ran.sentence == "v3 is withdrawn: rolled back to v1: bake: fail"


def test_a_bake_with_nothing_to_compare_ends_and_says_so(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.promote(story.base, TRIED, bake=True)
    shutil.rmtree(story.base / str(LIVE))
    ran, asked = baked(story, monkeypatch)
    assert asked == [] and versions.baking(story.base) is None
    assert ran.sentence == "v2 is live; nothing was live before that it could be watched by"


def test_a_bake_beside_a_version_that_the_server_has_not_ends_and_says_so(
    story: Story, client: Answers
) -> None:
    labels.promote(story.base, TRIED, bake=True)
    configure(story, bake="4s")
    client.special["v1"] = fail
    ran = canary.bake(story.config, story.store, RUN)
    assert ran.sentence == "v2 is live; v1, which it would be watched by, answered nothing"
    assert versions.baking(story.base) is None and client.count("stable") == 40


def test_a_bake_that_was_cut_short_takes_the_rest_of_its_time(
    story: Story, client: Answers
) -> None:
    labels.promote(story.base, TRIED, bake=True)
    configure(story, bake="8s")
    client.special = {name: within(range(15, 99), refuse) for name in ("stable", "v1")}
    with pytest.raises(ServingError, match="failed 20 of 35 probes: no server"):
        canary.bake(story.config, story.store, RUN)
    assert versions.baking(story.base) == TRIED
    client.special = {}
    canary.bake(story.config, story.store, RUN)
    assert versions.baking(story.base) is None and client.count("stable") == 80


# What the schedule's ticks go on with


@pytest.fixture
def retraining(story: Story) -> Retraining:
    """The schedule's view of a story whose version was made by a run of its home."""
    folder = story.store.runs / "0001"
    folder.mkdir(exist_ok=True)
    pushed = json.loads((story.store.runs / "run.json").read_text())["pushed"]
    steps = [*RUN["steps"], {"name": "trainer", "outputs": {"model": "m2"}}]
    summary = {"id": "0001", "status": "succeeded", "pushed": pushed, "steps": steps}
    (folder / "run.json").write_text(json.dumps(summary))
    ledger_file = story.base / ledger.LEDGER
    lines = [json.loads(line) for line in ledger_file.read_text().splitlines()]
    for line in lines:
        if line["event"] == "reserved" and line["version"] == TRIED:
            line["provenance"] |= {"run": "0001", "inputs": {"model": "m2"}}
    ledger_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Retraining(story.config, story.store.home)


CLAIM = Claim(slot=Slot(datetime(2026, 1, 1, tzinfo=UTC), by_hand=True), trial="0001")


def test_a_tick_goes_on_with_a_canary_and_trains_nothing(
    story: Story, retraining: Retraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnpipe.pipeline.schedule.child.supervise", None)  # no run is started
    assert retraining.trial() == "0001"
    ran = retraining.run(CLAIM)
    assert (ran.result, ran.version) == (Result.PUSHED, TRIED)
    assert retraining.trial() is None
    # Killed before that was written down, it is said again.
    assert retraining.run(CLAIM).result is Result.PUSHED
    labels.rollback(story.base, reason="bad")
    assert retraining.run(CLAIM).result is Result.WITHDRAWN


def test_a_key_that_cannot_sign_stops_no_trial_and_every_run(
    story: Story, retraining: Retraining
) -> None:
    serving = {"base_path": str(story.base), "rollout": "canary", "signing_key": "none.pem"}
    config = from_values({"serving": serving, "canary": {"bake": "30m"}})
    retraining = Retraining(config, story.store.home)
    assert retraining.run(CLAIM).version == TRIED
    with pytest.raises(ConfigError, match=r"serving\.signing_key none\.pem: expected"):
        retraining.run(dataclasses.replace(CLAIM, trial=None))


def test_a_tick_goes_on_with_a_bake_that_was_cut_short(
    story: Story, retraining: Retraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.promote(story.base, TRIED, bake=True)
    assert retraining.trial() is None  # without servers
    made = Rollout(story.base, ("http://127.0.0.1:9",))
    monkeypatch.setattr(canary, "rollout", lambda *_: made)
    assert retraining.trial() == "0001"


def test_a_tick_leaves_alone_what_nobody_published(story: Story, retraining: Retraining) -> None:
    shutil.copytree(saved_model(story.base.parent / "models" / "c", "c"), story.base / "7")
    labels.promote(story.base, 7, label="canary")
    assert versions.on_trial(story.base) == 7 and retraining.trial() is None


@pytest.mark.parametrize("why", ["another home's", "direct"])
def test_a_tick_leaves_alone_what_it_can_do_nothing_for(
    story: Story, retraining: Retraining, why: str
) -> None:
    path = story.store.runs / "0001" / "run.json"
    if why == "another home's":
        path.write_text(path.read_text().replace("m2", "m3"))
    else:
        config = from_values({"serving": {"base_path": str(story.base)}})
        retraining = Retraining(config, story.store.home)
    assert retraining.trial() is None
