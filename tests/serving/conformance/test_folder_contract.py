"""A server follows folders and labels that change under it (cases 88 to 99)."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.records.tfrecord import frame
from bnpipe.serving.client.base import Client, LoadFailed, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.export.warmup import WARMUP_FILE
from bnpipe.serving.folder import model_config
from bnpipe.serving.local.states import Settings
from tests.serving.model_server import FEATURES, Addresses, Load, StartFailed, serving
from tests.waiting import wait_for

QUICK = Settings(
    poll_wait_seconds=0.05,
    config_poll_wait_seconds=0.05,
    max_num_load_retries=0,
    load_retry_seconds=0.05,
    allow_labels_for_unavailable=True,
)


def add(base: Path, export: Path, name: str, spoil: Callable[[Path], object] = id) -> None:
    """A folder that appears whole."""
    staged = base / ".staging"
    shutil.copytree(export, staged)
    spoil(staged)
    staged.rename(base / name)


@pytest.fixture
def versions(tmp_path: Path, exports: list[Path]) -> Path:
    base = tmp_path / "versions"
    shutil.copytree(exports[1], base / "1")
    return base


@pytest.fixture
def at(binary: Path | None, versions: Path) -> Iterator[Addresses]:
    """A server that follows the folder `versions`: the highest number."""
    with serving(binary, versions, QUICK) as at:
        yield at


@pytest.fixture
def client(at: Addresses) -> Iterator[Client]:
    with connect(at.rest, "mnist") as client:
        yield client


@pytest.fixture
def wait(binary: Path | None) -> Callable[[], None]:
    """Long enough for the server to look at folder and configuration."""
    return lambda: time.sleep(0.5 if binary is None else 3)


def states(client: Client) -> dict[int, str]:
    return {found.version: found.state for found in client.status()}


def test_versions_come_and_go_by_rename_and_no_request_fails(
    at: Addresses, client: Client, versions: Path, exports: list[Path]
) -> None:
    """Cases 88 and 94."""
    with Load(at.rest, None) as over_rest, Load(at.grpc, None) as over_grpc:
        for version in range(2, 6):
            add(versions, exports[version % 2], str(version))
            client.wait_until_available(version)
            wait_for(lambda version=version: version in over_grpc.answers)
        for version in range(5, 2, -1):
            (versions / str(version)).rename(versions / f".bad-{version}")
            client.wait_until_available(version - 1)
        found = states(client)
    assert over_rest.report.errors == over_grpc.report.errors == {}
    assert set(over_grpc.report.versions) == {1, 2, 3, 4, 5}
    assert list(found) == [5, 4, 3, 2, 1]
    assert found[2] == "AVAILABLE" and found[5] == "END"


def test_what_is_no_version_or_a_lower_one_changes_nothing(
    client: Client, versions: Path, exports: list[Path], wait: Callable[[], None]
) -> None:
    """Cases 89 and 92."""
    add(versions, exports[0], "0")
    for name in ("3.tmp", ".staging-4", "latest"):
        add(versions, exports[0], name)
    (versions / "README").write_text("")
    wait()
    assert states(client) == {1: "AVAILABLE"}


def unparsable(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"\x0a\xff")


def tagged(folder: Path) -> None:
    pb = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(pb.read_bytes())
    model.meta_graphs[0].meta_info_def.tags.append("x")
    pb.write_bytes(model.SerializeToString())


def warmed_up(*logs: prediction_log_pb2.PredictionLog) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        records = [np.frombuffer(log.SerializeToString(), np.uint8) for log in logs]
        (folder / WARMUP_FILE).parent.mkdir(exist_ok=True)
        content = b"".join(frame(record[None]).tobytes() for record in records)
        (folder / WARMUP_FILE).write_bytes(content)

    return spoil


def predict_log(signature: str) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.inputs["features"].CopyFrom(tf.make_tensor_proto(FEATURES["features"]))
    return log


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        pytest.param(
            lambda folder: (folder / "saved_model.pb").unlink(),
            "NOT_FOUND: Specified file path does not appear to contain a SavedModel bundle",
            id="no saved_model.pb",
        ),
        pytest.param(unparsable, "DATA_LOSS: Can't parse", id="a damaged graph"),
        pytest.param(tagged, "NOT_FOUND: Could not find meta graph def matching", id="other tags"),
        pytest.param(
            warmed_up(predict_log("nope")),
            'FAILED_PRECONDITION: Serving signature key "nope" not found.',
            id="warmup of an unknown signature",
        ),
        pytest.param(
            warmed_up(*[prediction_log_pb2.PredictionLog()] * 1001),
            "INVALID_ARGUMENT: Number of warmup records exceeds the maximum",
            id="1001 warmup records",
        ),
    ],
)
def test_a_version_that_cannot_be_loaded_ends_and_the_one_before_stays(
    client: Client, versions: Path, exports: list[Path], spoil: Callable[[Path], None], error: str
) -> None:
    """Cases 90, 98 and 99."""
    add(versions, exports[0], "2", spoil)
    with pytest.raises(LoadFailed) as raised:
        client.wait_until_available(2)
    assert raised.value.words.startswith(error)
    assert states(client) == {2: "END", 1: "AVAILABLE"}
    client.predict(FEATURES)


@pytest.mark.tf_serving
def test_a_version_without_variables_is_available_and_cannot_answer(
    tf_serving: Path, versions: Path, exports: list[Path]
) -> None:
    """Case 91: why the lint looks for them; the stand-in does not load such a version."""
    with (
        serving(tf_serving, versions, QUICK) as at,
        connect(at.rest, "mnist") as client,
    ):
        add(versions, exports[0], "2", lambda folder: shutil.rmtree(folder / "variables"))
        client.wait_until_available(2)
        with pytest.raises(ServerError):
            client.predict(FEATURES)


def test_bytes_of_a_live_version_are_read_once(
    client: Client, versions: Path, exports: list[Path], wait: Callable[[], None]
) -> None:
    """Case 93."""
    before = client.predict(FEATURES).outputs["probabilities"]
    for file in (versions / "1").rglob("*"):
        if file.is_file():
            shutil.copyfile(exports[0] / file.relative_to(versions / "1"), file)
    wait()
    assert np.array_equal(client.predict(FEATURES).outputs["probabilities"], before)


def test_a_folder_that_goes_away_for_a_while_is_still_served(
    client: Client, versions: Path, exports: list[Path], wait: Callable[[], None]
) -> None:
    """Case 95."""
    away = versions.rename(versions.parent / "away")
    wait()
    client.predict(FEATURES)
    away.rename(versions)
    add(versions, exports[0], "2")
    client.wait_until_available(2)


def listed(base: Path, stable: int, *numbers: int) -> Path:
    """A models.config that lists versions and gives one of them the label `stable`."""
    labels = {"stable": stable}
    model_config.write(base, model_config.ModelConfig("mnist", str(base), numbers, labels))
    return base / model_config.MODELS_CONFIG


def test_one_edit_that_lists_a_version_and_moves_the_label_never_converges(
    binary: Path | None, versions: Path, exports: list[Path], wait: Callable[[], None]
) -> None:
    """Case 96: what was live stays live, and two edits do it."""
    shutil.copytree(exports[0], versions / "2")
    with (
        serving(binary, listed(versions, 1, 1), QUICK) as at,
        connect(at.rest, "mnist") as client,
    ):
        listed(versions, 2, 1, 2)
        wait()
        assert states(client) == {1: "AVAILABLE"}
        assert client.version_behind("stable") == 1
        listed(versions, 1, 1, 2)
        client.wait_until_available(2)
        listed(versions, 2, 1, 2)
        wait_for(lambda: client.version_behind("stable") == 2)


def test_a_start_with_labels_needs_the_flag(binary: Path | None, versions: Path) -> None:
    """Case 97."""
    with (
        pytest.raises(StartFailed, match="Request to assign label to version 1 of model mnist"),
        serving(binary, listed(versions, 1, 1), Settings()),
    ):
        pass
