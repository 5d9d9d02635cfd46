"""push, versions, rollback and promote, on the toy pipeline."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline import push as pushing
from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.push import NotBlessed
from bnpipe.pipeline.schedule import canary
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, versions
from bnpipe.serving.folder.publish import Published
from bnpipe.serving.folder.rollout import Rollout
from tests.pipeline.toy_home import ToyHome


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyHome:
    home = ToyHome(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(home.home))
    monkeypatch.delenv("BNPIPE_ARCHIVES", raising=False)
    monkeypatch.setattr(pushing, "CANDIDATE", "train")
    monkeypatch.setattr(pushing, "JUDGE", "judge")
    (tmp_path / "bnpipe.yaml").write_text(
        f"serving: {{base_path: '{home.served}', model_name: toy}}"
    )
    return home


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert call([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_refused_model_is_pushed_only_by_force_and_with_a_reason(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run(passes=False)
    with pytest.raises(NotBlessed, match=r"not good enough.*--force --reason"):
        call(["push"])
    assert call(["push", "--force"]) == 2
    assert versions.live(toy.served) is None
    pushed = answer(capsys, "push", "--force", "--reason", "a demo")
    assert (pushed["version"], pushed["new"]) == (1, True)
    (row,) = answer(capsys, "versions", "list")["versions"]
    assert row["note"] == "forced: a demo" and row["run"] == "0001" and row["live"]


def test_a_withdrawn_model_comes_back_under_a_new_number(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    toy.run(rate=2)
    back = answer(capsys, "rollback", "--reason", "odd sevens")
    assert (back["from"], back["to"]) == (2, 1)
    with pytest.raises(ServingError, match="withdrawn"):
        call(["push", "2"])
    assert answer(capsys, "push", "2", "--force", "--reason", "mended")["version"] == 3
    notes = {r["version"]: r["note"] for r in answer(capsys, "versions", "list")["versions"]}
    assert notes[3] == "forced: mended"
    assert versions.live(toy.served) == 3


def test_pushing_what_is_live_changes_nothing(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    assert answer(capsys, "push")["new"] is False
    assert versions.complete_versions(toy.served) == [1]


def test_a_run_without_a_model_cannot_be_pushed(toy: ToyHome) -> None:
    from bnpipe.pipeline.engine.plan import Selection

    toy.run(Selection(to="source"))
    with pytest.raises(ConfigError, match="run 0001 has no model of train"):
        call(["push"])


def test_verify_finds_a_changed_byte(toy: ToyHome, capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    assert call(["versions", "verify"]) == 0
    graph = toy.served / "1" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    assert call(["versions", "verify"]) == 7
    assert "v1" in capsys.readouterr().out


def test_push_says_when_a_version_is_only_the_canary(
    toy: ToyHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    canary = Published(2, toy.served / "2", "digest", new=True, live=False)
    monkeypatch.setattr(pushing, "push", lambda *_, **__: canary)
    capsys.readouterr()
    assert call(["push"]) == 0
    assert "v2 is the canary in" in capsys.readouterr().out
    assert answer(capsys, "push")["label"] == "canary"


def test_signed_versions_are_verified_and_each_is_named(
    toy: ToyHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run(passes=False)
    assert call(["push", "--force", "--reason", "unsigned"]) == 0
    assert call(["versions", "keygen", "key"]) == 0
    key = ["--set", "serving.signing_key=key"]
    toy.run(passes=False, rate=2)
    capsys.readouterr()
    assert call(["push", "--force", "--reason", "signed", *key]) == 0
    assert call(["versions", "verify"]) == 0
    capsys.readouterr()
    assert call(["versions", "verify", "--set", "serving.verify_key=key.pub"]) == 7
    told = capsys.readouterr().out
    assert "1 of 2 versions are what was published and signed" in told and "unsigned" in told
    graph = toy.served / "2" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    assert call(["versions", "verify", *key, "--json"]) == 7
    found = json.loads(capsys.readouterr().out)
    assert [(f["version"], f["status"], f["bad"]) for f in found["versions"]] == [
        (2, "damaged", True),
        (1, "unsigned", True),
    ]
    assert found["versions"][0]["detail"].startswith("saved_model.pb: expected sha256")
    with pytest.raises(ServingError, match=r"v1 .* is refused: unsigned"):
        call(["rollback", "--reason", "bad", *key])
    with pytest.raises(ServingError, match=r"v1 .* is refused: unsigned"):
        call(["serve", *key])


def test_a_push_with_a_public_key_only_is_refused(toy: ToyHome) -> None:
    toy.run(passes=False)
    assert call(["versions", "keygen", "key"]) == 0
    with pytest.raises(ServingError, match=r"would be unsigned; set serving.signing_key"):
        call(["push", "--force", "--reason", "x", "--set", "serving.verify_key=key.pub"])


def test_the_servers_files_follow_the_configuration(toy: ToyHome) -> None:
    toy.run(passes=False)
    assert call(["push", "--force", "--reason", "x", "--set", "serving.prometheus_path=/m"]) == 0
    assert 'path: "/m"' in (toy.served / "monitoring.config").read_text()
    assert (
        call(["push", "--force", "--reason", "x", "--set", "serving.batch_timeout_micros=7"]) == 0
    )
    assert "batch_timeout_micros { value: 7 }" in (toy.served / "batching.config").read_text()
    with pytest.raises(ConfigError, match=r"allowed_batch_sizes: .*max_batch_size 16, received"):
        call(["push", "--set", "serving.max_batch_size=16"])


@pytest.mark.parametrize("url", ["localhost:8501", "ftp://a", "http://"])
def test_a_server_without_a_proper_address_is_refused(toy: ToyHome, url: str) -> None:
    with pytest.raises(ConfigError, match=r"serving.server_url: expected http://HOST:PORT"):
        call(["rollback", "--reason", "x", "--set", f"serving.server_url='{url}'"])


def test_a_server_that_does_not_answer_leaves_what_was_live(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    toy.run(rate=2, passes=False)
    words = ["push", "--force", "--reason", "x", "--set", "serving.server_wait_seconds=0.1"]
    with pytest.raises(ServingError, match=r"no server at .*nothing is withdrawn.*is v1"):
        call([*words, "--set", "serving.server_url=http://127.0.0.1:1"])
    rows = answer(capsys, "versions", "list")["versions"]
    assert [(r["version"], r["live"], r["note"]) for r in rows] == [
        (2, False, "waits until the server has loaded it"),
        (1, True, "good enough"),
    ]
    assert call([*words]) == 0
    assert versions.live(toy.served) == 2


def test_an_object_store_follows_the_folder_of_this_home(
    toy: ToyHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run(passes=False)
    url = f"file://{tmp_path}/bucket"
    store = ["--set", f"serving.base_path={url}"]
    assert answer(capsys, "push", "--force", "--reason", "x", *store)["version"] == 1
    there = tmp_path / "bucket"
    assert f'base_path: "{url}"' in (there / "models.config").read_text()
    assert tree_digest(there / "1") == tree_digest(toy.home / "served/toy/1")
    assert answer(capsys, "versions", "fetch", *store)["fetched"] == []
    shutil.rmtree(toy.home / "served")
    assert answer(capsys, "versions", "fetch", *store)["fetched"] == [1]
    assert answer(capsys, "versions", "list", *store)["versions"][0]["live"] is True
    with pytest.raises(ConfigError, match="there is nothing to fetch; an object store is named"):
        call(["versions", "fetch"])


def test_provenance_leads_back_to_data_code_lock_and_config_and_is_the_same_again(
    toy: ToyHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    found = answer(capsys, "show", "served/1")
    for key in ("code_digest", "config_digest", "lock_digest"):
        assert re.fullmatch("[0-9a-f]{64}", found["code"][key]), key
    assert found["code"]["version_tensorflow"].count(".") == 2
    assert found["run"] == "0001" and found["verdict"] == "good enough"
    assert found["dataset"]["name"] == "toy"
    assert {"model", "blessing"} <= found["inputs"].keys() and "metrics" in found
    again = ToyHome(tmp_path / "again")
    again.run()
    record = "provenance/1.json"
    assert (again.served / record).read_bytes() == (toy.served / record).read_bytes()


def test_promote_moves_a_label_forward_only(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    toy.run(rate=2)
    assert answer(capsys, "promote", "1", "--label", "canary") == {
        "version": 1,
        "label": "canary",
        "watched_for": None,
    }
    with pytest.raises(ServingError, match="rollback --to 1"):
        call(["promote", "1"])
    with pytest.raises(ServingError, match=r"expected stable or canary, received 'best'"):
        call(["promote", "2", "--label", "best"])


@pytest.mark.parametrize(
    ("words", "watched"),
    [
        (
            [
                *("--set", "canary.bake=30m", "--set", "schedule.every=1d"),
                *("--set", "serving.server_url=http://127.0.0.1:9"),
            ],
            True,
        ),
        # Without a timetable nothing ticks.
        (["--set", "canary.bake=30m", "--set", "serving.server_url=http://127.0.0.1:9"], False),
        (["--set", "canary.bake=30m"], False),
        (["--set", "serving.server_url=http://127.0.0.1:9"], False),
    ],
)
def test_a_version_that_is_promoted_by_hand_is_watched_like_any(
    toy: ToyHome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    watched: bool,
) -> None:
    def promote(target: Rollout, version: int, *, label: str, bake: bool) -> None:
        labels.promote(target.base, version, label=label, bake=bake)

    monkeypatch.setattr(Rollout, "promote", promote)
    toy.run()
    toy.run(rate=2)
    labels.rollback(toy.served, reason="try", to=1)
    toy.run(rate=3)
    assert versions.baking(toy.served) is None  # what a push made live is not
    assert call(["promote", "3", "--label", "canary", *words]) == 0
    assert "watches" not in capsys.readouterr().out and versions.baking(toy.served) is None
    assert call(["promote", "3", *words]) == 0
    said = "; the schedule's next tick watches it for 30m" in capsys.readouterr().out
    assert said is watched and versions.baking(toy.served) == (3 if watched else None)


def test_promote_after_a_soak_says_what_came_of_it(
    toy: ToyHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    with pytest.raises(ConfigError, match="--soak asks the running servers, and none is named"):
        call(["promote", "1", "--soak", "10m"])
    with pytest.raises(ConfigError, match=r"canary.soak: .*soon"):
        call(["promote", "1", "--soak", "soon"])
    with pytest.raises(ConfigError, match="--soak: expected --label stable, received 'canary'"):
        call(["promote", "1", "--soak", "10m", "--label", "canary"])
    asked = []

    def soaked(config: Any, store: Any, version: int) -> Ran:
        asked.append((config.canary.soak, version))
        return Ran(sentence="v2 is withdrawn: slow", result=Result.WITHDRAWN, exit_code=3)

    monkeypatch.setattr(canary, "promote_after_soak", soaked)
    assert call(["promote", "2", "--soak", "10m"]) == 3
    assert "v2 is withdrawn: slow" in capsys.readouterr().out
    assert asked == [("10m", 2)]


def test_prune_keeps_the_newest_and_the_live(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate in range(1, 5):
        toy.run(rate=rate)
    assert answer(capsys, "versions", "prune", "--keep", "1")["removed"] == [1, 2]
    assert versions.complete_versions(toy.served) == [3, 4]


def test_a_rollback_to_what_is_live_says_that_nothing_is_withdrawn(
    toy: ToyHome, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    words = ["rollback", "--to", "1", "--reason", "now"]
    assert answer(capsys, *words) == {"from": None, "to": 1, "reason": "now"}
    assert call(words) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == f"v1 is live in {toy.served}; it was already, and nothing is withdrawn"
    (row,) = answer(capsys, "versions", "list")["versions"]
    assert "withdrawn" not in row["note"]


def test_versions_from_before_there_was_a_key_are_signed_by_whoever_vouches_for_them(
    toy: ToyHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.run()
    toy.run(rate=2)
    assert call(["versions", "keygen", str(tmp_path / "key")]) == 0
    with_key = ["--set", f"serving.signing_key={tmp_path}/key"]
    capsys.readouterr()
    assert answer(capsys, "push", *with_key)["signed"] is True
    with pytest.raises(ServingError, match=r"v1 .* is refused: unsigned"):
        call(["rollback", "--reason", "odd sevens", *with_key])
    assert answer(capsys, "versions", "sign", "1", "2", *with_key) == {"signed": [1]}
    assert call(["versions", "verify", *with_key]) == 0
    assert call(["rollback", "--reason", "odd sevens", *with_key]) == 0
    (toy.served / "2/saved_model.pb").write_text("other bytes")
    with pytest.raises(ServingError, match=r"v2 .* is damaged"):
        call(["versions", "sign", "2", *with_key])
    with pytest.raises(ConfigError, match="signing_key is not set"):
        call(["versions", "sign", "1"])
