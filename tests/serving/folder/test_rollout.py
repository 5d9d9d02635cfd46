"""Two edits on a running server: push, roll back, promote, and what happens when it cannot."""

import dataclasses
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bnpipe.serving.client.base import Options, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, ledger, model_config, publish, standing, versions
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.local.server import LocalServer
from bnpipe.serving.local.states import Settings
from tests.serving.folder.served import events, served
from tests.waiting import PATIENCE

FEATURES = {"features": np.zeros((1, 784), np.float32)}
FOLLOWING = Settings(
    poll_wait_seconds=0.05,
    config_poll_wait_seconds=0.05,
    max_num_load_retries=0,
    allow_labels_for_unavailable=True,
)
DEAF = dataclasses.replace(FOLLOWING, config_poll_wait_seconds=0)


class World:
    """A served folder, a server that follows it, and models that differ in one asset."""

    def __init__(self, base, export):
        self.base, self.export = base, export
        self.model("a")
        self.publish("a")
        self.server = LocalServer(base / "models.config", FOLLOWING)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.rest_port}"

    def rollout(self, *servers, wait=PATIENCE):
        return Rollout(self.base, servers or (self.url,), wait)

    def model(self, name):
        folder = self.base.parent / f"model-{name}"
        if not folder.exists():
            shutil.copytree(self.export, folder)
            (folder / "assets.extra").mkdir(exist_ok=True)
            (folder / "assets.extra/name").write_text(name)
        return folder

    def publish(self, name, **options):
        return publish.publish(
            self.base,
            self.model(name),
            model_name="mnist",
            provenance={"dataset": {"name": "mnist"}},
            compared_with=None,
            **options,
        )

    def push(self, name, **options):
        return self.rollout(**options).finish(self.publish(name, hold=True))

    def stable(self, label="stable"):
        with connect(self.url, "mnist") as client:
            return int(client.metadata(label=label)["model_spec"]["version"])

    def restart(self, settings):
        self.server.stop()
        self.server = LocalServer(self.base / "models.config", settings)


@pytest.fixture
def world(tmp_path, exports):
    made = World(tmp_path / "mnist", exports[0])
    yield made
    made.server.stop()


def broken(world, name):
    """A model that no server can load."""
    (world.model(name) / "saved_model.pb").write_bytes(b"\xff" * 20)
    return name


def test_a_push_becomes_live_once_the_server_has_loaded_it(world):
    done = world.push("b")
    assert (done.version, done.new, done.live) == (2, True, True)
    assert versions.live(world.base) == world.stable() == 2
    assert events(world.base)[2:] == [("reserved", 2), ("listed", 2), ("promoted", 2)]
    assert served(world.base) == ([1, 2], {"stable": 2})


def test_over_grpc_and_to_all_replicas(world):
    other = LocalServer(world.base / "models.config", FOLLOWING)
    try:
        grpc, rest = f"grpc://127.0.0.1:{other.grpc_port}", f"http://127.0.0.1:{other.rest_port}"
        world.rollout(world.url, grpc).finish(world.publish("b", hold=True))
        with connect(rest, "mnist") as client:
            assert client.metadata(label="stable")["model_spec"]["version"] == "2"
        assert world.stable() == 2
    finally:
        other.stop()


def test_a_version_that_the_server_cannot_load_is_withdrawn_with_the_servers_words(world):
    with pytest.raises(
        ServingError, match=r"v2 is withdrawn, v1 stays live; .*DATA_LOSS: .*bnpipe run"
    ):
        world.push(broken(world, "bad"))
    assert versions.live(world.base) == world.stable() == 1
    assert served(world.base) == ([1], {"stable": 1})
    digest = tree_digest(world.model("bad"))
    held = standing.state_of(world.base, digest).sentence
    assert held.startswith("held back (v2 withdrawn: server: ") and "saved_model" in held
    assert world.push("c").version == 3 == world.stable()


def test_time_that_runs_out_withdraws_nothing_and_the_same_push_goes_on(world):
    world.restart(DEAF)
    with pytest.raises(ServingError, match=r"nothing is withdrawn, live in .* is v1; run the same"):
        world.push("b", wait=0.3)
    assert versions.live(world.base) == 1 and versions.waiting(world.base) == 2
    digest = tree_digest(world.model("b"))
    publishing = standing.state_of(world.base, digest)
    assert publishing.needed and "v2 waits until the server has loaded it" in publishing.sentence
    world.restart(FOLLOWING)
    done = world.push("b")
    assert (done.version, done.new, done.live) == (2, True, True)
    assert world.stable() == 2 and versions.waiting(world.base) is None


def test_a_push_that_is_killed_while_it_waits_is_finished_by_the_next(world, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Rollout, "_wait_until_ready", killed)
    with pytest.raises(KeyboardInterrupt):
        world.push("b")
    monkeypatch.undo()
    assert versions.live(world.base) == 1
    assert served(world.base) == ([1, 2], {"stable": 1})
    assert world.push("b").version == 2
    assert world.stable() == 2


def test_no_server_is_waited_for_with_the_first_version(tmp_path, exports):
    base = tmp_path / "first"
    published = publish.publish(
        base,
        exports[0],
        model_name="mnist",
        provenance={"dataset": {"name": "mnist"}},
        compared_with=None,
        hold=True,
    )
    assert published.live
    begun = time.monotonic()
    assert Rollout(base, ("http://127.0.0.1:1",), 600).finish(published) == published
    assert time.monotonic() - begun < PATIENCE


def test_a_rollback_to_a_version_that_is_not_listed_has_it_loaded_first(world):
    world.push("b")
    world.push("c")
    assert served(world.base) == ([2, 3], {"stable": 3})
    stop, faults = threading.Event(), []

    def ask():
        with connect(world.url, "mnist", Options(attempts=1)) as client:
            while not stop.is_set():
                try:
                    client.predict(FEATURES, label="stable")
                except Exception as error:
                    faults.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert world.rollout().rollback(reason="bad", to=1) == 1
    finally:
        stop.set()
        thread.join()
    assert faults == []
    assert world.stable() == 1 and served(world.base) == ([1], {"stable": 1})
    assert events(world.base)[-2:] == [("listed", 1), ("rolled_back", 3)]


def test_a_rollback_to_the_version_before_is_one_edit(world):
    world.push("b")
    assert world.rollout().rollback(reason="bad") == 1
    assert world.stable() == 1
    assert events(world.base)[-2:] == [("promoted", 2), ("rolled_back", 2)]


def test_a_canary_is_loaded_then_labelled_then_promoted(world):
    world.push("b")
    world.push("c")
    world.rollout().rollback(reason="bad", to=1)
    world.rollout().promote(2, label="canary")
    assert (world.stable("canary"), world.stable()) == (2, 1)
    world.rollout().promote(2)
    assert world.stable() == 2
    with pytest.raises(ServingError, match="v1 is older than v2, which is live"):
        world.rollout().promote(1)


def test_a_server_that_refused_one_edit_is_brought_along_by_pushing_again(world):
    assert world.publish("b").live  # without addresses: one edit
    time.sleep(0.3)
    assert versions.live(world.base) == 2 and world.stable() == 1
    done = world.push("b")
    assert (done.version, done.new) == (2, False)
    assert world.stable() == 2 and served(world.base) == ([1, 2], {"stable": 2})


def test_a_server_that_refused_one_edit_is_brought_along_before_the_next_push(world):
    assert world.publish("b").live
    assert world.push("c").version == 3
    assert world.stable() == 3 and served(world.base) == ([2, 3], {"stable": 3})


def test_a_live_version_that_the_server_cannot_load_is_named_and_passed_over(world):
    """Published without addresses, it is live by the folder; the server has stayed at v1."""
    assert world.publish(broken(world, "bad")).live
    with pytest.raises(ServingError, match=r"stable is v2 in .*cannot load it: .*rollback"):
        world.rollout().confirm(2, label="stable")
    assert world.stable() == 1
    assert world.push("c").version == world.stable() == 3


def test_a_live_version_that_the_server_cannot_load_is_rolled_back(world):
    assert world.publish(broken(world, "bad")).live
    assert world.rollout().rollback(reason="bad") == world.stable() == 1
    assert world.push("c").version == world.stable() == 3


def test_a_version_that_was_just_delisted_is_loaded_anew_before_a_label_moves_there(world):
    """The server looks at the folders much later than at models.config."""
    world.restart(dataclasses.replace(FOLLOWING, poll_wait_seconds=1.0))
    world.push("b")
    world.push("c")  # delists v1, which stays loaded until the next look at the folders
    assert world.rollout().rollback(reason="bad", to=1) == 1
    assert world.stable() == 1
    assert world.push("d").version == world.stable() == 4


def test_nothing_is_begun_while_one_of_several_servers_is_down(world):
    world.push("b")
    before = events(world.base), served(world.base)
    both = world.rollout(world.url, "http://127.0.0.1:9")
    for verb in (lambda: both.rollback(reason="bad", to=1), lambda: both.promote(2)):
        with pytest.raises(ServingError, match=r"no server at http://127.0.0.1:9: nothing is ch"):
            verb()
    assert (events(world.base), served(world.base)) == before
    assert world.stable() == 2


def test_a_rollback_that_the_server_does_not_follow_says_so(world):
    world.push("b")
    world.restart(DEAF)
    with pytest.raises(
        ServingError, match=r"stable is v1 in .*, but http.* within 1.5 s: there it is v2"
    ):
        world.rollout(wait=1.5).rollback(reason="bad")
    assert versions.live(world.base) == 1


def test_a_version_that_waits_is_taken_back_by_naming_the_live_one(world):
    world.restart(DEAF)
    with pytest.raises(ServingError):
        world.push("b", wait=0.2)
    with pytest.raises(ServingError, match=r"v2 waits until .*live is v1; .*rollback --to 1"):
        labels.rollback(world.base, reason="bad")
    assert labels.rollback(world.base, reason="bad", to=1) == 1
    assert labels.rollback(world.base, reason="bad", to=1) == 1
    assert model_config.label(Path(world.base), "stable") == 1
    assert versions.waiting(world.base) is None
    digest = tree_digest(world.model("b"))
    assert standing.state_of(world.base, digest).sentence == "held back (v2 withdrawn: bad)"


def test_a_canary_is_loaded_beside_the_live_version_and_is_not_published_twice(world):
    model = world.model("b")
    digest = tree_digest(model)
    rollout = dataclasses.replace(world.rollout(), canary=True)
    done = rollout.finish(world.publish("b", hold=True))
    assert (done.version, done.new, done.live) == (2, True, False)
    assert (versions.live(world.base), versions.on_trial(world.base)) == (1, 2)
    assert (world.stable(), world.stable("canary")) == (1, 2)
    assert standing.state_of(world.base, digest).sentence == "on trial (v2 is canary, v1 live)"
    again = rollout.finish(world.publish("b", hold=True))
    assert (again.version, again.live) == (2, False)

    rollout.promote(2)
    assert world.stable() == versions.live(world.base) == 2
    assert versions.on_trial(world.base) is None
    assert standing.state_of(world.base, digest).sentence == "up to date (v2 live)"


def test_a_canary_whose_move_was_cut_short_is_finished(world):
    """Killed between the ledger and models.config: the server does not know the label."""
    world.publish("b", hold=True)
    ledger.append(world.base, "promoted", 2, label="canary")
    digest = tree_digest(world.model("b"))
    assert standing.state_of(world.base, digest) == standing.Standing(True, "publish (finish v2)")
    with pytest.raises(ServerError, match="Unrecognized servable version label: canary"):
        world.stable("canary")
    world.rollout().confirm(2, label="canary")
    assert world.stable("canary") == 2
    assert standing.state_of(world.base, digest).sentence == "on trial (v2 is canary, v1 live)"

    with pytest.raises(ServingError, match="no server at"):
        world.rollout("http://127.0.0.1:9").confirm(2, label="canary")
    graph = world.base / "2" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes() + b"x")
    assert "bytes of v2 are damaged" in standing.state_of(world.base, digest).sentence


def test_a_withdrawal_that_was_cut_short_is_finished(world):
    dataclasses.replace(world.rollout(), canary=True).finish(world.publish("b", hold=True))
    digest = tree_digest(world.model("b"))
    ledger.append(world.base, "withdrawn", 2, digest=digest, reason="slow")
    assert served(world.base) == ([1, 2], {"stable": 1, "canary": 2})
    world.rollout().complete()
    assert served(world.base) == ([1], {"stable": 1})


def test_a_withdrawn_canary_is_held_back_and_the_next_one_gets_its_label(world):
    rollout = dataclasses.replace(world.rollout(), canary=True)
    rollout.finish(world.publish("b", hold=True))
    rollout.withdraw(2, reason="slow")
    assert (world.stable(), versions.on_trial(world.base)) == (1, None)
    held = standing.state_of(world.base, tree_digest(world.model("b"))).sentence
    assert held == "held back (v2 withdrawn: slow)"
    assert rollout.finish(world.publish("c", hold=True)).version == 3
    assert (world.stable(), world.stable("canary")) == (1, 3)


def test_a_canary_is_compared_with_what_it_was_compared_with(world):
    digest = tree_digest(world.model("b"))
    dataclasses.replace(world.rollout(), canary=True).finish(
        publish.publish(
            world.base,
            world.model("b"),
            model_name="mnist",
            provenance={"dataset": {"name": "mnist"}},
            compared_with=1,
            hold=True,
        )
    )
    assert standing.champion(world.base, digest).version == 1
    assert standing.champion(world.base, None).version == 1
    assert standing.champion(world.base, "another").version == 1


def test_the_first_version_is_live_whatever_the_rollout(tmp_path, exports):
    base = tmp_path / "mnist"
    provenance = {"dataset": {"name": "mnist"}}
    first = publish.publish(
        base,
        exports[0],
        model_name="mnist",
        provenance=provenance,
        compared_with=None,
        hold=True,
    )
    assert Rollout(base, ("http://127.0.0.1:9",), 1.0, canary=True).finish(first).live
    assert versions.on_trial(base) is None
