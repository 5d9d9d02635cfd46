"""Pushes and rollbacks by label on a running server: no request fails, every move is seen."""

import shutil
import threading
import time

import numpy as np
import pytest

from serving import model_config
from serving.client import Options, connect
from serving.local.server import LocalServer
from serving.local.states import Settings

FEATURES = {"features": np.zeros((1, 784), np.float32)}
PATIENCE = 30.0
FOLLOWING = Settings(
    poll_wait_seconds=0.05,
    config_poll_wait_seconds=0.05,
    max_num_load_retries=0,
    allow_labels_for_unavailable=True,
)


class Folder:
    """A served folder whose models.config is edited step by step."""

    def __init__(self, base, exports):
        self.base, self.exports = base, exports

    def add(self, version):
        staged = self.base / f".staging-{version}"
        shutil.copytree(self.exports[version % 2], staged)
        staged.rename(self.base / str(version))

    def tell(self, versions, stable):
        labels = {"stable": stable}
        config = model_config.ModelConfig("mnist", str(self.base), tuple(versions), labels)
        model_config.write(self.base, config)


@pytest.fixture
def folder(tmp_path, exports):
    base = tmp_path / "mnist"
    base.mkdir()
    made = Folder(base, exports)
    made.add(1)
    made.tell([1], stable=1)
    return made


@pytest.fixture
def server(folder):
    running = LocalServer(folder.base / "models.config", FOLLOWING)
    yield running
    running.stop()


def wait_for_label(client, version):
    deadline = time.monotonic() + PATIENCE
    while client.metadata(label="stable")["model_spec"]["version"] != str(version):
        assert time.monotonic() < deadline, f"stable does not reach v{version}"
        time.sleep(0.02)


@pytest.mark.parametrize("pushes", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_pushes_and_rollbacks_lose_no_request(server, folder, pushes):
    rest, grpc = f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}"
    stop, faults, versions = threading.Event(), [], set()

    def ask(url):
        with connect(url, "mnist", Options(attempts=1)) as client:
            while not stop.is_set():
                try:
                    versions.add(client.predict(FEATURES, label="stable").version)
                except Exception as error:
                    faults.append(error)
                time.sleep(0.002)

    threads = [threading.Thread(target=ask, args=(url,)) for url in (rest, grpc)]
    for thread in threads:
        thread.start()
    try:
        with connect(rest, "mnist") as client:
            for version in range(2, pushes + 2):
                folder.add(version)
                # Two edits: list and wait, then move. The version before stays for a rollback.
                folder.tell([version - 1, version], stable=version - 1)
                client.wait_until_available(version)
                folder.tell([version - 1, version], stable=version)
                wait_for_label(client, version)
                if version % 2 == 0:
                    folder.tell([version - 1, version], stable=version - 1)
                    wait_for_label(client, version - 1)
                    folder.tell([version - 1, version], stable=version)
                    wait_for_label(client, version)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not faults
    assert versions - {None} >= {1, pushes + 1}


def test_one_edit_that_lists_a_version_and_moves_the_label_never_converges(server, folder):
    """As on the real server; what was live stays live."""
    folder.add(2)
    folder.tell([1, 2], stable=2)
    with connect(f"http://127.0.0.1:{server.rest_port}", "mnist") as client:
        time.sleep(0.5)
        assert [(s.version, s.state) for s in client.status()] == [(1, "AVAILABLE")]
        wait_for_label(client, 1)


def test_a_restart_with_labels_needs_the_flag(folder):
    from dataclasses import replace

    from serving.local.status import StatusError

    with pytest.raises(StatusError, match="Request to assign label to version 1 of model mnist"):
        LocalServer(
            folder.base / "models.config", replace(FOLLOWING, allow_labels_for_unavailable=False)
        )
