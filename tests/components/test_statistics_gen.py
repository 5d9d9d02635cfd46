"""statistics_gen: statistics of every split, the same bytes on every run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from bnpipe.components.artifacts import SPLITS, Examples
from bnpipe.components.statistics_gen import COMPONENT, Inputs, Params
from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import encode, read_batches
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.statistics.summary import SplitSummary, read_parts

Run = Callable[..., Any]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def ran(run_component: Run, tiny_examples: Examples, tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("statistics_gen")
    return run_component(COMPONENT, Inputs(examples=tiny_examples), Params(), folder)


def test_every_split_is_counted(ran: Any, tiny_examples: Examples) -> None:
    for split in SPLITS:
        batches = [b for shard in tiny_examples.shards(split) for b in read_batches(shard)]
        images = np.concatenate([b.columns["image"] for b in batches])
        labels = np.concatenate([b.columns["label"] for b in batches])
        folder = ran.outputs.statistics.path / f"Split-{split}"
        summary = SplitSummary.read(folder)
        np.testing.assert_array_equal(summary.classes, np.bincount(labels, minlength=10))
        np.testing.assert_array_equal(summary.pixels, np.bincount(images.ravel(), minlength=256))
        proto = statistics_pb2.DatasetFeatureStatisticsList()
        proto.ParseFromString((folder / "FeatureStats.pb").read_bytes())
        assert proto.datasets[0].name == split
        assert proto.datasets[0].num_examples == len(images) == ran.facts[f"{split}_images"]
    assert ran.facts["images"] == 512


def test_equal_examples_give_equal_bytes(
    ran: Any, run_component: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    threads = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
    again = run_component(
        COMPONENT, Inputs(examples=tiny_examples), Params(), tmp_path, beam_flags=threads
    )
    assert files(again.outputs.statistics.path) == files(ran.outputs.statistics.path)
    assert again.facts == ran.facts


def test_a_split_without_records_has_statistics(
    run_component: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    copy = tiny_examples.at(Path(shutil.copytree(tiny_examples.path, tmp_path / "copy")))
    text = (copy.path / "dataset.json").read_text()
    for shard in copy.shards("validation"):
        count = copy.record_counts()[str(shard.relative_to(copy.path))]
        text = text.replace(
            f'"{shard.relative_to(copy.path)}": {count}', f'"{shard.relative_to(copy.path)}": 0'
        )
        shard.write_bytes(b"")
    (copy.path / "dataset.json").write_text(text)
    outputs = run_component(COMPONENT, Inputs(examples=copy), Params(), tmp_path / "out").outputs
    assert SplitSummary.read(outputs.statistics.path / "Split-validation").records == 0


def with_span(examples: Examples, folder: Path) -> Examples:
    """A copy in which the last train shard and half of the last test shard came with spans."""
    copy = examples.at(Path(shutil.copytree(examples.path, folder / "copy")))
    for split, span, share in (("train", 20261120, 1), ("test", 3, 2)):
        shard = copy.shards(split)[-1]
        batches = [dict(b.columns) for b in read_batches(shard)]
        for columns in batches:
            count = len(columns["label"])
            columns["span"] = np.where(np.arange(count) < count // share, span, 0)
        shard.write_bytes(b"".join(frame(encode(b)).tobytes() for b in batches))
    told = copy.read_json("dataset.json")
    told["spans"] = {"2026-11-20": {"number": 20261120}, "3": {"number": 3}}
    (copy.path / "dataset.json").write_text(json.dumps(told))
    return copy


def test_every_span_has_statistics_of_its_own_beside_the_whole(
    ran: Any, run_component: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    examples = with_span(tiny_examples, tmp_path)
    made = run_component(COMPONENT, Inputs(examples=examples), Params(), tmp_path / "out")
    folder = made.outputs.statistics.path
    proto = statistics_pb2.DatasetFeatureStatisticsList()
    proto.ParseFromString((folder / "Split-train" / "FeatureStats.pb").read_bytes())
    assert [d.name for d in proto.datasets] == [
        "All Examples",
        "train/base",
        "train/span-2026-11-20",
    ]
    whole, *parts = proto.datasets
    assert whole.num_examples == sum(part.num_examples for part in parts)
    found = read_parts(folder / "Split-test")
    assert list(found) == ["base", "span-3"]
    plain = SplitSummary.read(ran.outputs.statistics.path / "Split-test")
    np.testing.assert_array_equal(sum(p.classes for p in found.values()), plain.classes)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([p.hashes for p in found.values()])), plain.hashes
    )
    assert read_parts(folder / "Split-validation") == {}
    assert made.facts == ran.facts


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "records, received 0: the file is cut short"),
        (b"\0" * 40, "is damaged at offset 0"),
        (
            frame(np.frombuffer(b"\x0a\x00", np.uint8)[None]).tobytes(),
            "expected a tf.Example with features",
        ),
    ],
)
def test_damage_is_one_line_with_the_file(
    run_component: Run, tiny_examples: Examples, tmp_path: Path, content: bytes, complaint: str
) -> None:
    copy = tiny_examples.at(Path(shutil.copytree(tiny_examples.path, tmp_path / "copy")))
    shard = copy.shards("train")[0]
    shard.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        run_component(COMPONENT, Inputs(examples=copy), Params(), tmp_path / "out")
    assert str(shard) in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_odd_records_are_counted_not_refused(
    run_component: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    copy = tiny_examples.at(Path(shutil.copytree(tiny_examples.path, tmp_path / "copy")))
    shard = copy.shards("test")[0]
    count = copy.record_counts()[str(shard.relative_to(copy.path))]
    odd = {
        "image": np.zeros((count, 100), np.uint8),
        "label": np.full(count, 99),
        "note": np.full((count, 2), np.nan, np.float32),
    }
    shard.write_bytes(frame(encode(odd)).tobytes())
    outputs = run_component(COMPONENT, Inputs(examples=copy), Params(), tmp_path / "out").outputs
    summary = SplitSummary.read(outputs.statistics.path / "Split-test")
    assert summary.outside == count
    assert summary.records - summary.images == count
    assert summary.features["note"].non_finite == 2 * count
