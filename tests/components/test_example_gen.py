"""example_gen: what a user finds in the Examples that it writes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bnpipe.components.artifacts import SPLITS, Examples
from bnpipe.components.example_gen import COMPONENT, Inputs, Params, probe
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError, RequestError
from bnpipe.data.records.examples import as_strings, encode, read_batches
from bnpipe.data.records.tfrecord import frame, read_runs
from bnpipe.data.sources import tfds_source
from bnpipe.data.sources.source import Source
from bnpipe.data.sources.tfds_source import prepare
from tests.published_set import publish, random_images

PARAMS = Params(dataset="rendered_digits", size=512, shards=2)


FOUR = {"train": 40, "validation": 20, "test": 10, "extra": 7}


def span_of_shapes(folder: Path) -> None:
    images = random_images(9, 30).reshape(30, -1)
    (folder / "train").mkdir(parents=True)
    records = frame(encode({"image": images, "label": np.arange(30) % 2}))
    (folder / "train" / "a.tfrecord").write_bytes(records.tobytes())
    (folder / "_SUCCESS").touch()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def column(examples: Examples, split: str, name: str) -> np.ndarray:
    parts = [b.columns[name] for shard in examples.shards(split) for b in read_batches(shard)]
    if name == "id":
        parts = [as_strings(part) for part in parts]
    return np.concatenate(parts)


def test_the_splits_hold_every_image_once(tiny_examples: Examples) -> None:
    info = DatasetInfo.read(tiny_examples.path)
    assert (info.name, info.version, info.synthetic) == ("rendered_digits", "1.0.0", True)
    assert info.splits["train"] + info.splits["validation"] == 427
    assert info.splits["test"] == 85
    assert 15 <= info.splits["validation"] <= 60
    ids = np.concatenate([column(tiny_examples, split, "id") for split in SPLITS]).tolist()
    prefix = "rendered_digits:1.0.0"
    expected = [f"{prefix}/train/{i}" for i in range(427)]
    expected += [f"{prefix}/test/{i}" for i in range(85)]
    assert sorted(ids) == sorted(name.encode() for name in expected)


def test_tensorflow_reads_the_examples(tiny_examples: Examples) -> None:
    import tensorflow as tf

    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "id": tf.io.FixedLenFeature([], tf.string),
        "content_hash": tf.io.FixedLenFeature([], tf.string),
    }
    files = [str(path) for path in tiny_examples.shards("test")]
    parsed = tf.io.parse_example(next(iter(tf.data.TFRecordDataset(files).batch(1000))), spec)
    images = tf.io.decode_raw(parsed["image"], tf.uint8).numpy()
    assert images.shape == (85, 784)
    np.testing.assert_array_equal(images, column(tiny_examples, "test", "image"))
    assert set(parsed["label"].numpy()) <= set(range(10))
    assert len(set(parsed["content_hash"].numpy())) == 85


def test_equal_data_gives_equal_bytes_whatever_the_workers(
    tiny_examples: Examples, run_component: Callable[..., Any], tmp_path: Path
) -> None:
    again = run_component(COMPONENT, Inputs(), PARAMS, tmp_path / "again")
    assert tree(again.outputs.examples.path) == tree(tiny_examples.path)
    threads = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
    spread = run_component(COMPONENT, Inputs(), PARAMS, tmp_path / "spread", beam_flags=threads)
    assert tree(spread.outputs.examples.path) == tree(tiny_examples.path)


@pytest.mark.slow
def test_worker_processes_write_the_same_bytes(
    tiny_examples: Examples, run_component: Callable[..., Any], tmp_path: Path
) -> None:
    processes = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    spread = run_component(COMPONENT, Inputs(), PARAMS, tmp_path, beam_flags=processes)
    assert tree(spread.outputs.examples.path) == tree(tiny_examples.path)


def test_the_number_of_shards_moves_no_image_between_splits(
    tiny_examples: Examples, run_component: Callable[..., Any], tmp_path: Path
) -> None:
    params = Params(dataset="rendered_digits", size=512, shards=3)
    other = run_component(COMPONENT, Inputs(), params, tmp_path).outputs.examples
    for split in SPLITS:
        assert len(other.shards(split)) == 3
        mine, theirs = (column(examples, split, "id") for examples in (tiny_examples, other))
        np.testing.assert_array_equal(mine, theirs)


def test_facts_name_the_data_and_the_leak(
    run_component: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnpipe.data.sources import rendered_digits
    from bnpipe.data.sources.digit_renderer import draw_chunk

    def with_duplicates(seed: int, split: str, chunk: int) -> Any:
        images, labels = draw_chunk(seed, split, chunk)
        if split == "test":
            train = draw_chunk(seed, "train", 0)[0]
            images[:3] = train[:3]  # three test images are train images
        else:
            images[100:140] = images[0]  # one image many times
        return images, labels

    monkeypatch.setattr(rendered_digits, "draw_chunk", with_duplicates)
    ran = run_component(COMPONENT, Inputs(), PARAMS, tmp_path / "out", cache=tmp_path / "cache")
    assert ran.facts["test_images_in_train_or_validation"] == 3
    assert ran.facts["dataset"] == "rendered_digits"
    assert ran.facts["train"] + ran.facts["validation"] + ran.facts["test"] == 512
    hashes = {split: column(ran.outputs.examples, split, "content_hash") for split in SPLITS}
    train, validation = ({row.tobytes() for row in hashes[s]} for s in ("train", "validation"))
    assert not train & validation


def test_what_preparing_waits_for_is_on_the_progress_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*_: object, tell: Callable[[str], None], **words: object) -> None:
        tell("waiting for another process")
        raise DataError("enough")

    told: list[tuple[int, int, str]] = []
    monkeypatch.setattr(tfds_source, "prepare", waits)
    context = SimpleNamespace(
        cache=tmp_path, outside={}, log=None, progress=lambda *how_far: told.append(how_far)
    )
    with pytest.raises(DataError, match="enough"):
        COMPONENT.run(Inputs(), None, Params(), context)
    assert told[-1] == (0, 0, "waiting for another process")


PUBLISHED = Params(dataset="mnist", shards=2)


@pytest.fixture
def damaged_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[bytearray], None]], Path]:
    """Prepares 512 images and damages the train file."""
    publish(monkeypatch, {"train": 427, "test": 85})
    monkeypatch.setattr(tfds_source, "_SHARDS", 1)
    return lambda damage: damaged(tmp_path / "cache", damage)


def damaged(cache: Path, damage: Callable[[bytearray], None]) -> Path:
    builder = prepare("mnist", None, cache)
    path = Path(builder.info.splits["train"].filepaths[0])
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    return path


def flip_one_bit(content: bytearray) -> None:
    content[len(content) // 427 * 5 + 100] ^= 1


def cut_short(content: bytearray) -> None:
    del content[-10:]


def cut_at_a_boundary(content: bytearray) -> None:
    del content[-len(content) // 427 :]


def flip_a_length(content: bytearray) -> None:
    content[len(content) // 427 * 200] ^= 1


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (flip_one_bit, r"at offset \d+ \(train record 5\): the checksum"),
        (cut_short, r"is cut short at offset \d+: expected a record of"),
        (cut_at_a_boundary, "expected 427 records, received 426"),
        (flip_a_length, r"is damaged at offset \d+: .* which counts as 227 records"),
    ],
)
def test_damaged_prepared_data_is_named(
    run_component: Callable[..., Any],
    tmp_path: Path,
    damaged_source: Callable[..., Path],
    damage: Any,
    complaint: str,
) -> None:
    path = damaged_source(damage)
    with pytest.raises(DataError, match=complaint) as caught:
        run_component(COMPONENT, Inputs(), PUBLISHED, tmp_path / "out", cache=tmp_path / "cache")
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_budget_of_bad_records_is_set_aside_and_counted(
    run_component: Callable[..., Any], tmp_path: Path, damaged_source: Callable[..., Path]
) -> None:
    damaged_source(flip_one_bit)
    params = replace(PUBLISHED, max_bad_records=1)
    ran = run_component(COMPONENT, Inputs(), params, tmp_path / "out", cache=tmp_path / "cache")
    assert ran.facts["bad_records"] == 1
    assert ran.facts["train"] + ran.facts["validation"] == 426
    (aside,) = (ran.outputs.examples.path / "quarantine").glob("*.jsonl")
    record = json.loads(aside.read_text())
    assert record["record"] == 5
    assert "checksum" in record["reason"]
    assert str(tmp_path) not in aside.read_text()
    (kept,) = read_runs(aside.with_suffix(".tfrecord"))
    assert kept.payload.shape[0] == 1
    assert b"\x89PNG" in kept.payload.tobytes()


@pytest.mark.parametrize(
    ("damage", "lost"), [(cut_short, 1), (cut_at_a_boundary, 1), (flip_a_length, 227)]
)
def test_the_unreadable_rest_of_a_file_is_set_aside_within_the_budget(
    run_component: Callable[..., Any],
    tmp_path: Path,
    damaged_source: Callable[..., Path],
    damage: Any,
    lost: int,
) -> None:
    path = damaged_source(damage)
    params = replace(PUBLISHED, max_bad_records=lost)
    ran = run_component(COMPONENT, Inputs(), params, tmp_path / "out", cache=tmp_path / "cache")
    assert ran.facts["bad_records"] == lost
    assert ran.facts["train"] + ran.facts["validation"] == 427 - lost
    aside = sorted((ran.outputs.examples.path / "quarantine").glob("*.jsonl"))
    told = [json.loads(line) for jsonl in aside for line in jsonl.read_text().splitlines()]
    assert sum(record["records"] for record in told) == lost
    assert {(record["file"], record["record"] // 427) for record in told} == {(path.name, 0)}
    (offset,) = {record["offset"] for record in told}
    kept = [run.payload.tobytes() for x in aside for run in read_runs(x.with_suffix(".tfrecord"))]
    assert b"".join(kept) == path.read_bytes()[offset:]
    fewer = replace(PUBLISHED, max_bad_records=lost - 1)
    with pytest.raises(DataError, match=rf"at offset \d+.*allows {lost - 1}"):
        run_component(COMPONENT, Inputs(), fewer, tmp_path / "2", cache=tmp_path / "cache")


def test_splits_of_the_data_set_are_used_or_named(
    run_component: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own validation split is the validation split; what is left out is said."""
    publish(monkeypatch, FOUR)
    spans = tmp_path / "spans"
    span_of_shapes(spans / "1")
    pattern = f"{spans}/{{SPAN}}"
    params = Params(dataset="mnist", shards=2, validation_fraction=0.5, spans=pattern)
    cache = tmp_path / "cache"
    ran = run_component(COMPONENT, Inputs(), params, tmp_path / "out", cache=cache)
    assert ran.facts["left_out"] == "extra (7 images)"
    stored = ran.outputs.examples.read_json("dataset.json")
    assert stored["left_out"] == {"extra": 7}
    ids = {split: column(ran.outputs.examples, split, "id").tolist() for split in SPLITS}
    own = [[name for name in names if b"/span-" not in name] for names in ids.values()]
    assert [len(names) for names in own] == [40, 20, 10]
    assert own[1] == ids["validation"][:20] == [b"four:1.0.0/validation/%d" % i for i in range(20)]
    added = stored["spans"]["1"]
    assert added["train"] + added["validation"] == 30
    assert min(added["train"], added["validation"]) > 0


@pytest.mark.parametrize("sizes", [{"train": 200}, {"train": 200, "validation": 30}])
def test_a_set_without_a_test_split_gets_one_from_train(
    sizes: dict[str, int],
    run_component: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only after the download is it known that there is none; quickdraw_bitmap is 37 GB."""
    publish(monkeypatch, sizes)
    spans = tmp_path / "spans"
    span_of_shapes(spans / "1")
    (spans / "1" / "train").rename(spans / "1" / "test")
    params = Params(dataset="mnist", shards=2, validation_fraction=0.2, spans=f"{spans}/{{SPAN}}")
    ran = run_component(COMPONENT, Inputs(), params, tmp_path / "out", cache=tmp_path / "cache")
    assert ran.facts["test_is_cut_from"] == "train"
    assert ran.facts["test_images_in_train_or_validation"] == 0
    ids = {split: column(ran.outputs.examples, split, "id").tolist() for split in SPLITS}
    expected = {b"four:1.0.0/%s/%d" % (s.encode(), i) for s, n in sizes.items() for i in range(n)}
    added = {name for name in ids["test"] if b"/span-1/test/" in name}
    assert len(added) == 30
    assert set().union(*map(set, ids.values())) == expected | added
    assert sum(map(len, ids.values())) == sum(sizes.values()) + 30
    assert 20 <= len(ids["test"]) - 30 <= 60
    assert ("validation" in sizes) == all(b"/validation/" in name for name in ids["validation"])


def test_labels_out_of_range_are_bad_records(
    run_component: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, FOUR)
    original = tfds_source.source

    def fewer_classes(builder: Any, split: str) -> Source:
        return replace(original(builder, split), classes=1)

    monkeypatch.setattr(tfds_source, "source", fewer_classes)
    with pytest.raises(DataError, match=r"expected a label in 0\.\.0, received 1"):
        run_component(COMPONENT, Inputs(), PUBLISHED, tmp_path, cache=tmp_path / "cache")


def test_a_split_without_images_is_refused(
    run_component: Callable[..., Any], tmp_path: Path
) -> None:
    params = Params(dataset="rendered_digits", size=12, validation_fraction=1e-9)
    with pytest.raises(DataError, match="the validation split is empty: 12 images are too few"):
        run_component(COMPONENT, Inputs(), params, tmp_path)


def test_equal_pictures_are_the_reason_that_is_said(
    run_component: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are enough of them; but those with equal pixels stay in one split."""
    from bnpipe.data.sources import rendered_digits

    def blank(*_: Any) -> Any:
        return np.zeros((1000, 28, 28), np.uint8), np.arange(1000) % 10

    monkeypatch.setattr(rendered_digits, "draw_chunk", blank)
    params = Params(dataset="rendered_digits", size=360)
    with pytest.raises(
        DataError, match="split is empty: of 360 images 1 differ, and those"
    ) as caught:
        run_component(COMPONENT, Inputs(), params, tmp_path / "out", cache=tmp_path / "cache")
    assert caught.value.hint == "look at the images: are they what was meant?"


def test_intact_archives_do_not_change_the_probe(mnist_archives: Path, tmp_path: Path) -> None:
    with_archives = probe(Params(archives=str(mnist_archives)), tmp_path)
    assert with_archives == probe(Params(), tmp_path)
    assert with_archives
    assert probe(Params(dataset="kmnist"), tmp_path) != with_archives
    kmnist = Params(dataset="kmnist", archives=str(mnist_archives))  # not kmnist's archives
    assert probe(kmnist, tmp_path) == probe(Params(dataset="kmnist"), tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert probe(Params(archives=str(tmp_path)), tmp_path) != with_archives


def test_the_probe_refuses_what_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean"):
        probe(Params(dataset="mnits"), tmp_path)
    with pytest.raises(RequestError, match="expected one of its configurations"):
        probe(Params(dataset="emnist/nonsense"), tmp_path)
    with pytest.raises(RequestError, match="not a folder"):
        probe(Params(archives=str(tmp_path / "nowhere")), tmp_path)
    with pytest.raises(RequestError, match=r"data\.size: only rendered_digits"):
        probe(Params(size=1000), tmp_path)
    assert probe(Params(dataset="rendered_digits", size=1000), tmp_path) == {}


def test_mnist_in_full(
    mnist_archives: Path, run_component: Callable[..., Any], tmp_path: Path
) -> None:
    ran = run_component(COMPONENT, Inputs(), Params(archives=str(mnist_archives)), tmp_path)
    splits = {split: ran.facts[split] for split in SPLITS}
    assert splits == {"train": 55004, "validation": 4996, "test": 10000}
    assert ran.facts["test_images_in_train_or_validation"] == 0
    labels = np.concatenate([column(ran.outputs.examples, s, "label") for s in SPLITS])
    # The class counts of the original files.
    assert np.bincount(labels).tolist() == [
        *(6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958)
    ]
