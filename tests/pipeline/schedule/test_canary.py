"""The trial of a new version: what its soak and its bake lead to, wherever they are stopped."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode
from bnpipe.pipeline.schedule import canary
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.serving.client.soak import Verdict
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, versions
from tests.child import WITH_TESTS, environment
from tests.pipeline.schedule.canary_crash_points import LIVE, TRIED, Story
from tests.serving.folder.served import push, saved_model


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    for name in ("_soak", "rollout"):  # a story replaces them; here they come back
        monkeypatch.setattr(canary, name, getattr(canary, name))
    made = Story(tmp_path, "pass,pass")
    made.begin()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("told", ["pass", "fail", "pass,pass", "pass,fail"])
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
    assert ran.sentence == "v2 is live after its soak and 30 minutes of being watched"
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
