"""Data sets from TFDS: what is prepared, what is refused, and what an interruption leaves."""

import logging
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.data.errors import DataError
from bnpipe.data.sources import tfds_source
from bnpipe.data.sources.source import BadRecord, Source
from bnpipe.data.sources.tfds_source import describe, prepare, source
from tests import published_set
from tests.published_set import publish
from tests.waiting import PATIENCE

LABELS = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def read_all(source: Source, on_bad: Any = None) -> tuple[np.ndarray, np.ndarray]:
    def fail(record: BadRecord) -> None:
        raise AssertionError(record)

    batches = list(source.read_slice(0, source.size, on_bad or fail))
    return (
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )


def assert_same_as_tfds(builder: Any, split: str) -> None:
    """Our reader and TFDS's own must see the same images in the same order."""
    images, labels = read_all(source(builder, split))
    import tensorflow_datasets as tfds

    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = builder.as_dataset(
        split=split, batch_size=1000, as_supervised=True, read_config=in_order
    )
    batches = list(dataset.as_numpy_iterator())
    np.testing.assert_array_equal(images, np.concatenate([b[0] for b in batches])[..., 0])
    np.testing.assert_array_equal(labels, np.concatenate([b[1] for b in batches]))


def test_of_two_that_want_the_same_at_once_one_prepares_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, waits = threading.Event(), threading.Event()
    prepared: list[Any] = []
    really = tfds_source._download_and_prepare

    def prepare_when_both_are_here(builder: Any, *words: Any) -> None:
        prepared.append(builder)
        began.set()
        assert waits.wait(PATIENCE)
        really(builder, *words)

    class Log(logging.Logger):
        def info(self, text: object, *words: object, **_: Any) -> None:
            if str(text).startswith("waiting for another process"):
                waits.set()

    monkeypatch.setattr(tfds_source, "_download_and_prepare", prepare_when_both_are_here)
    publish(monkeypatch, {"train": 54, "test": 10})
    with ThreadPoolExecutor(2) as pool:
        words = ("mnist", None, tmp_path)
        one = pool.submit(prepare, *words)
        assert began.wait(PATIENCE)
        told: list[str] = []
        two = pool.submit(prepare, *words, log=Log("two"), tell=told.append)
        builders = [one.result(), two.result()]
    assert len(prepared) == 1
    assert told[0] == "waiting for another process, which prepares mnist"
    assert told[1:] == ["preparing mnist"]
    assert describe(builders[0]) == describe(builders[1])
    assert read_all(source(builders[1], "train"))[0].shape == (54, 5, 9)


def test_mnist_comes_from_the_archives(
    mnist_archives: Path, shared_cache: Path, no_network: None
) -> None:
    builder = prepare("mnist", mnist_archives, shared_cache)
    info = describe(builder)
    assert (info.name, info.version, info.splits) == (
        "mnist",
        "3.0.1",
        {"train": 60000, "test": 10000},
    )
    assert not info.synthetic
    assert_same_as_tfds(builder, "test")


def test_a_damaged_archive_is_named_even_when_data_is_prepared(
    tmp_path: Path, shared_cache: Path
) -> None:
    (tmp_path / LABELS).write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(DataError, match=f"{LABELS} is damaged: expected sha256 f7ae60f9"):
        prepare("mnist", tmp_path, shared_cache)


def test_no_network_and_no_archives_names_both_ways_out(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(DataError) as caught:
        prepare("mnist", None, tmp_path)
    message = str(caught.value)
    assert "could not reach https://storage.googleapis.com/cvdf-datasets/mnist/" in message
    assert "BNPIPE_ARCHIVES" in message
    assert "--set data.dataset=rendered_digits" in message
    assert "\n" not in message


def test_an_archive_that_the_folder_lacks_is_named_when_it_cannot_be_had(
    mnist_archives: Path, tmp_path: Path, no_network: None
) -> None:
    shutil.copy(mnist_archives / LABELS, tmp_path)
    with pytest.raises(DataError, match=f"{tmp_path} does not hold t10k-images-idx3-ubyte.gz"):
        prepare("mnist", tmp_path, tmp_path / "cache")


def test_archives_of_another_data_set_are_not_called_damaged(
    mnist_archives: Path, tmp_path: Path, no_network: None
) -> None:
    with pytest.raises(DataError, match="could not reach http://fashion-mnist") as caught:
        prepare("fashion_mnist", mnist_archives, tmp_path)
    assert "is the archive of mnist, not of fashion_mnist;" in str(caught.value)
    assert "remove" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        ("mnits", "unknown data set 'mnits'"),
        (
            "cifar10",
            r"one channel \(height, width, 1\) of 8 bits, received image of shape \(32, 32, 3\)",
        ),
        ("binarized_mnist", "expected images with a class label"),
        ("emnist/digitz", "did you mean --set data.dataset=emnist/digits"),
        ("mnist/digits", "expected one of its configurations"),
    ],
)
def test_unfit_data_sets_get_one_line(
    tmp_path: Path, no_network: None, dataset: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        prepare(dataset, None, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_interrupted_prepare_does_not_poison_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, {"train": 54, "test": 10})

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(published_set, "random_images", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare("mnist", None, tmp_path)
    # What a kill -9 leaves: TFDS's unpublished folder.
    leftover = tmp_path / "tfds/four/incomplete.ABC_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "four-train.tfrecord-00000-of-00001").write_bytes(b"half")
    builder = prepare("mnist", None, tmp_path)
    assert read_all(source(builder, "train"))[0].shape == (54, 5, 9)
    assert not leftover.exists()


def test_any_shape_and_encoding_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are stored uncompressed; images that come as files are read all the same."""
    import io

    import tensorflow_datasets as tfds
    from PIL import Image

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 5, 9, 1), np.uint8)

    class Grey(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("2.0.0")
        name = "grey"

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict(
                {
                    "picture": tfds.features.Image(shape=(5, 9, 1)),
                    "kind": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self, features=features, supervised_keys=("picture", "kind")
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {"train": self._generate_examples(True), "test": self._generate_examples(False)}

        def _generate_examples(self, arrays: bool) -> Any:
            for key, image in enumerate(images):
                buffer = io.BytesIO()
                Image.fromarray(image[..., 0]).save(buffer, "PNG")
                buffer.seek(0)
                yield key, {"picture": image if arrays else buffer, "kind": key % 3}

    monkeypatch.setattr(tfds_source, "check_dataset_name", lambda name: None)
    monkeypatch.setattr(tfds_source, "find", lambda *_, **__: Grey(data_dir=str(tmp_path)))
    builder = prepare("grey", None, tmp_path)
    info = describe(builder)
    assert (info.height, info.width, info.label_names) == (5, 9, ("cat", "dog", "owl"))
    assert_same_as_tfds(builder, "train")
    assert sorted(im.tobytes() for im in read_all(source(builder, "test"))[0]) == sorted(
        im.tobytes() for im in images
    )
    with pytest.raises(DataError, match="expected the split validation, received test, train"):
        source(builder, "validation")


def test_slices_of_a_source_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, {"train": 1667})
    train = source(prepare("mnist", None, tmp_path), "train")
    whole, _ = read_all(train)

    def fail(record: BadRecord) -> None:
        raise AssertionError(record)

    for start, stop in [(0, 1), (410, 1001), (1500, train.size), (7, 7)]:
        batches = list(train.read_slice(start, stop, fail))
        assert [int(n) for b in batches for n in b.numbers] == list(range(start, stop))
        if batches:
            images = np.concatenate([b.images for b in batches])
            np.testing.assert_array_equal(images, whole[start:stop])
