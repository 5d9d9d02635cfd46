"""Versions, policies, labels and swaps, with loaders that load nothing."""

import threading
import time

import pytest

from bnpipe.serving.local import config
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.manager import Manager
from bnpipe.serving.local.states import Settings, State
from bnpipe.serving.local.status import Code, StatusError, not_found
from tests.waiting import wait_for


class Fake:
    """A servable that knows whether it was used after it was closed."""

    def __init__(self, path):
        self.path = path
        self.content = (path / "content").read_text()
        self.closed = False

    def close(self):
        self.closed = True


def add(base, number, content="good"):
    staged = base / f".staging-{number}"
    staged.mkdir(parents=True)
    (staged / "content").write_text(content)
    staged.rename(base / str(number))


def load(path):
    if not (path / "content").is_file():
        raise not_found("Could not find SavedModel")
    return Fake(path)


class Served:
    def __init__(self, base, loader=load, config_file=None, **entry):
        self.base = base
        flags = {"allow_labels_for_unavailable": entry.pop("allow", False)}
        self.manager = Manager(
            loader,
            Settings(
                poll_wait_seconds=0.02,
                config_poll_wait_seconds=0.02 if config_file else 0,
                max_num_load_retries=1,
                load_retry_seconds=0.02,
                **flags,
            ),
            config_file,
        )
        if config_file is None:
            self.manager.reload([ModelEntry("m", str(base), **entry)])
        self.manager.start()

    def states(self):
        try:
            return {s.number: s.state for s in self.manager.statuses("m")}
        except StatusError:
            return {}

    def answers(self, **which):
        with self.manager.acquire("m", **which) as (version, servable):
            assert not servable.closed
            return version

    def available(self, *versions):
        wait_for(
            lambda: {v for v, s in self.states().items() if s is State.AVAILABLE} == {*versions}
        )


@pytest.fixture
def serve(tmp_path):
    base, running = tmp_path / "m", []
    base.mkdir()

    def start(*args, **kwargs):
        running.append(Served(base, *args, **kwargs))
        return running[-1]

    yield start
    for served in running:
        served.manager.stop()


@pytest.fixture
def base(tmp_path):
    return tmp_path / "m"


def test_the_highest_number_is_served_and_the_one_before_ends(serve, base):
    add(base, 1)
    served = serve()
    served.available(1)
    add(base, 10)
    served.available(10)
    wait_for(lambda: served.states() == {10: State.AVAILABLE, 1: State.END})
    assert [s.number for s in served.manager.statuses("m")] == [10, 1]
    assert served.answers() == 10


def test_names_that_are_no_versions_change_nothing(serve, base):
    add(base, 1)
    served = serve()
    served.available(1)
    for name in (".staging-x", "3.tmp", "latest"):
        (base / name).mkdir()
    (base / "README").write_text("8")
    time.sleep(0.1)
    assert served.states() == {1: State.AVAILABLE}


def test_a_lower_number_is_never_served(serve, base):
    add(base, 5)
    served = serve()
    served.available(5)
    add(base, 4)
    time.sleep(0.1)
    with pytest.raises(StatusError, match="Could not find version 4 of model m"):
        served.manager.statuses("m", 4)


def test_an_empty_folder_ends_with_an_error_and_the_old_version_stays(serve, base):
    add(base, 1)
    served = serve()
    served.available(1)
    (base / "4").mkdir()
    wait_for(lambda: served.states().get(4) is State.END)
    (status,) = served.manager.statuses("m", 4)
    assert status.error.code is Code.NOT_FOUND
    assert served.answers() == 1
    (base / "4/content").write_text("too late")
    time.sleep(0.1)
    assert served.states() == {4: State.END, 1: State.AVAILABLE}


def test_a_failed_load_is_tried_again(serve, base):
    calls = []

    def second_time(path):
        calls.append(path)
        if len(calls) == 1:
            raise not_found("not yet")
        return Fake(path)

    add(base, 1)
    serve(second_time).available(1)
    assert len(calls) == 2


def test_a_fault_of_the_loader_is_a_status(serve, base):
    def broken(path):
        raise KeyError("oops")

    add(base, 1)
    served = serve(broken)
    with pytest.raises(StatusError, match=r"1 servable\(s\) did not become available") as raised:
        served.manager.wait_until_available()
    assert raised.value.code is Code.UNKNOWN
    assert "{name: m version: 1} due to error: INTERNAL: KeyError" in raised.value.message


def test_a_removed_version_gives_way_to_the_one_before(serve, base):
    add(base, 1)
    add(base, 2)
    served = serve()
    served.available(2)
    (base / "2").rename(base / ".bad-2")
    served.available(1)
    wait_for(lambda: served.states() == {2: State.END, 1: State.AVAILABLE})


def test_a_version_that_comes_back_is_loaded_again(serve, base):
    add(base, 1)
    add(base, 2, "first")
    served = serve()
    served.available(2)
    (base / "2").rename(base / ".bad-2")
    wait_for(lambda: served.states() == {2: State.END, 1: State.AVAILABLE})
    add(base, 2, "second")
    served.available(2)
    with served.manager.acquire("m") as (_, servable):
        assert servable.content == "second"


def test_a_folder_that_goes_away_for_a_while_is_still_served(serve, base):
    add(base, 1)
    served = serve()
    served.available(1)
    base.rename(base.with_name("away"))
    time.sleep(0.1)
    assert served.answers() == 1
    base.with_name("away").rename(base)
    add(base, 2)
    served.available(2)


def test_a_folder_without_versions_is_an_outage(serve, base):
    """As on the real server: an unmounted disk unloads everything."""
    add(base, 1)
    served = serve()
    served.available(1)
    (base / "1").rename(base / ".gone")
    wait_for(lambda: served.states() == {1: State.END})
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"):
        served.answers()


def test_policies(serve, base):
    for number in (1, 2, 3):
        add(base, number)
    serve(latest=2).available(2, 3)
    serve(latest=0).available(1, 2, 3)
    serve(specific=frozenset({1, 3, 9})).available(1, 3)


def test_of_two_names_for_one_number_the_later_wins(base):
    for name in ("007", "7"):
        (base / name).mkdir(parents=True)
    assert ModelEntry("m", str(base)).wanted() == {7: base / "7"}


def test_labels(serve, base):
    for number in (1, 2):
        add(base, number)
    served = serve(latest=2, allow=True, labels={"stable": 1})
    served.available(1, 2)
    assert served.answers(label="stable") == 1
    assert served.answers() == 2
    with pytest.raises(StatusError, match="Unrecognized servable version label: canary"):
        served.answers(label="canary")


def test_a_label_for_what_is_not_loaded_needs_the_flag(serve):
    with pytest.raises(StatusError, match="Request to assign label to version 1 of model m") as e:
        serve(labels={"stable": 1})
    assert e.value.code is Code.FAILED_PRECONDITION


def test_a_new_label_for_what_is_still_loading_is_not_found_until_it_is_loaded(serve, base):
    """The flag lets a server start so; moving a label that exists still needs a loaded version."""
    add(base, 1)
    served = serve(allow=True, specific=frozenset({1, 3}), labels={"stable": 1, "canary": 3})
    served.available(1)
    with pytest.raises(StatusError, match=r"Servable not found for request: Specific\(m, 3\)") as e:
        served.answers(label="canary")
    assert e.value.code is Code.NOT_FOUND
    moved = [ModelEntry("m", str(base), 1, frozenset({1, 3}), {"stable": 3, "canary": 3})]
    with pytest.raises(StatusError, match="assign label to version 3 of model m"):
        served.manager.reload(moved)
    add(base, 3)
    served.available(1, 3)
    assert served.answers(label="canary") == 3
    served.manager.reload(moved)
    assert served.answers(label="stable") == 3


def test_a_label_moves_in_two_steps_and_never_in_one(serve, base, tmp_path):
    def entry(versions, stable):
        return [ModelEntry("m", str(base), 1, frozenset(versions), {"stable": stable})]

    for number in (1, 2):
        add(base, number)
    served = serve(allow=True, specific=frozenset({1}), labels={"stable": 1})
    served.available(1)
    for _ in range(3):
        with pytest.raises(StatusError, match="not currently available for inference"):
            served.manager.reload(entry({1, 2}, stable=2))
    time.sleep(0.1)
    assert served.states() == {1: State.AVAILABLE}
    served.manager.reload(entry({1, 2}, stable=1))
    served.available(1, 2)
    served.manager.reload(entry({1, 2}, stable=2))
    assert served.answers(label="stable") == 2


def test_models_that_are_no_longer_listed_are_unloaded(serve, base):
    add(base, 1)
    served = serve()
    served.available(1)
    served.manager.reload([])
    wait_for(lambda: served.states() == {1: State.END})


def test_a_swap_fails_no_request(serve, base):
    """Requests in flight keep the old version open; new ones always find a version."""
    add(base, 1)
    served = serve()
    served.available(1)
    stop, answers, faults = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            try:
                with served.manager.acquire("m") as (version, servable):
                    time.sleep(0.001)
                    assert not servable.closed
                    answers.append(version)
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2, 22):
            add(base, number)
            served.available(number)
        for number in range(21, 10, -1):
            (base / str(number)).rename(base / f".bad-{number}")
            served.available(number - 1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not faults
    assert set(answers) >= {1, 21, 10}


def test_a_request_keeps_its_version_open(serve, base):
    add(base, 1)
    served = serve()
    served.available(1)
    with served.manager.acquire("m") as (_, servable):
        add(base, 2)
        served.available(2)
        time.sleep(0.05)
        assert served.states()[1] is State.UNLOADING
        assert not servable.closed
    wait_for(lambda: served.states()[1] is State.END)
    wait_for(lambda: servable.closed)


MODEL = 'config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def write_config(path, base, more=""):
    path.write_text(f"model_config_list {{ {MODEL.format(base=base, more=more)} }}")


def test_the_configuration_file_is_read_again(serve, base, tmp_path):
    for number in (1, 2):
        add(base, number)
    file = tmp_path / "models.config"
    write_config(file, base, "model_version_policy { specific { versions: 1 } }")
    served = serve(config_file=file)
    served.available(1)
    file.write_text("half of a")
    time.sleep(0.1)
    assert served.answers() == 1
    write_config(file, base, "model_version_policy { specific { versions: 2 } }")
    served.available(2)


def test_policies_of_a_configuration(base, tmp_path):
    file = tmp_path / "models.config"
    for policy, latest, specific in (
        ("", 1, None),
        ("latest { num_versions: 3 }", 3, None),
        ("latest { num_versions: 0 }", 1, None),
        ("all {}", 0, None),
        ("specific { versions: 4 versions: 5 }", 1, {4, 5}),
    ):
        write_config(file, base, policy and f"model_version_policy {{ {policy} }}")
        (entry,) = config.read(file)
        assert (entry.latest, entry.specific) == (latest, specific)


def test_a_configuration_that_is_none(tmp_path):
    with pytest.raises(StatusError, match="Invalid protobuf file"):
        config.read(tmp_path / "models.config")


def test_what_an_edit_delists_is_unloaded_at_the_next_look_at_the_folders_only(base, tmp_path):
    """Two loops, each in its own interval; the state in between is of the older edit."""
    add(base, 1)
    add(base, 2)
    file = tmp_path / "models.config"

    def write(*versions):
        listed = " ".join(f"versions: {v}" for v in versions)
        file.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: '
            f'"tensorflow" model_version_policy {{ specific {{ {listed} }} }} version_labels {{ '
            f'key: "edit{len(versions)}" value: 2 }} }} }}'
        )

    write(1, 2)
    flags = Settings(
        poll_wait_seconds=1.5, config_poll_wait_seconds=0.02, allow_labels_for_unavailable=True
    )
    manager = Manager(load, flags, file)
    manager.start()
    try:
        assert manager.wait_until_available()
        wait_for(lambda: all(s.state is State.AVAILABLE for s in manager.statuses("m")))
        write(2)
        wait_for(lambda: manager._labels["m"] == {"edit1": 2})  # the edit is in force
        assert {s.number: s.state for s in manager.statuses("m")}[1] is State.AVAILABLE
        wait_for(lambda: {s.number: s.state for s in manager.statuses("m")}[1] is State.END)
    finally:
        manager.stop()
