"""example_validator as a step: statistics in, a verdict and protos out."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from bnpipe.components import statistics_gen
from bnpipe.components.artifacts import SPLITS, Anomalies, Examples, Statistics
from bnpipe.components.example_validator import COMPONENT, Inputs, Params
from bnpipe.components.example_validator.gate import DRIFT_CHECKS
from bnpipe.components.example_validator.params import Checks
from bnpipe.components.example_validator.step import probe
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError, RequestError
from bnpipe.data.records.examples import encode, read_batches
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.statistics.schema import derived
from tests.child import environment
from tests.components.example_validator.validator_data import healthy, profile

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def statistics(run_component: Run, tiny_examples: Examples, tmp_path_factory: Any) -> Statistics:
    inputs = statistics_gen.Inputs(examples=tiny_examples)
    folder = tmp_path_factory.mktemp("statistics")
    ran = run_component(statistics_gen.COMPONENT, inputs, statistics_gen.Params(), folder)
    made: Statistics = ran.outputs.statistics
    return made


@pytest.fixture
def validate(run_component: Run, tiny_examples: Examples, statistics: Statistics) -> Run:
    def run(
        folder: Path,
        champion: Statistics | None = None,
        schema: str | None = None,
        **levels: Any,
    ) -> Any:
        inputs = Inputs(examples=tiny_examples, statistics=statistics, champion_statistics=champion)
        params = Params(schema=schema, checks=Checks(**levels))
        return run_component(COMPONENT, inputs, params, folder)

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


BY_CLASS = ("class_drawn", "class_steps", "class_squares")


def of_fours_only(folder: Path) -> Statistics:
    """Statistics of a champion that saw one label only."""
    splits = healthy()
    splits["train"]["label"][:] = 4
    summaries = profile(splits).splits
    for name, summary in summaries.items():
        (folder / f"Split-{name}").mkdir(parents=True)
        summary.write(folder / f"Split-{name}")
    return Statistics("champion.statistics", folder)


def test_a_small_data_set_of_another_name_passes(
    validate: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    ran = validate(tmp_path)
    anomalies: Anomalies = ran.outputs.anomalies
    assert anomalies.verdict().passed
    assert anomalies.verdict().sentence.startswith("data passed: 512 images of rendered_digits")
    assert ran.facts["passed"]
    stored = anomalies.read_json("verdict.json")
    assert stored["schema"] == "derived from what rendered_digits declares of itself"
    keys = {"name", "level", "outcome", "sentence", "value", "bound"}
    assert all(set(check) == keys for check in stored["checks"])
    schema = text_format.Parse((anomalies.path / "schema.pbtxt").read_text(), schema_pb2.Schema())
    assert schema == derived(DatasetInfo.read(tiny_examples.path))
    for split in SPLITS:
        proto = anomalies_pb2.Anomalies()
        proto.ParseFromString((anomalies.path / f"Split-{split}" / "SchemaDiff.pb").read_bytes())
        assert proto.baseline_v1 == schema
        severe = [
            i for i in proto.anomaly_info.values() if i.severity == anomalies_pb2.AnomalyInfo.ERROR
        ]
        assert not severe


def test_equal_inputs_give_equal_bytes(
    validate: Run, statistics: Statistics, tmp_path: Path
) -> None:
    first = validate(tmp_path / "first", statistics).outputs.anomalies
    second = validate(tmp_path / "second", statistics).outputs.anomalies
    assert files(first.path) == files(second.path)


def test_the_same_data_as_the_champions_has_not_drifted(
    validate: Run, statistics: Statistics, tmp_path: Path
) -> None:
    ran = validate(tmp_path, statistics)
    assert ran.outputs.anomalies.read_json("verdict.json")["champion"] is True
    proto = anomalies_pb2.Anomalies()
    proto.ParseFromString(
        (ran.outputs.anomalies.path / "Split-train" / "SchemaDiff.pb").read_bytes()
    )
    (label,) = proto.drift_skew_info
    assert [measured.value for measured in label.drift_measurements] == [0.0, 0.0]
    assert not label.skew_measurements  # train is not compared with itself
    checks = ran.outputs.anomalies.read_json("verdict.json")["checks"]
    assert {c["outcome"] for c in checks if c["name"] in DRIFT_CHECKS} == {"ok"}


def test_other_data_than_the_champions_is_a_verdict_and_can_be_let_pass(
    validate: Run, tmp_path: Path
) -> None:
    champion = of_fours_only(tmp_path / "champion")
    verdict = validate(tmp_path / "out", champion).outputs.anomalies.verdict()
    assert not verdict.passed
    assert verdict.sentence.startswith("data blocked: label 4 makes up ")
    warned = validate(
        tmp_path / "warned", champion, label_drift="warn", label_divergence="warn"
    ).outputs.anomalies
    assert warned.verdict().passed
    levels = {c["name"]: c["level"] for c in warned.read_json("verdict.json")["checks"]}
    assert (levels["label_drift"], levels["leak"]) == ("warn", "block")


def test_statistics_of_a_champion_from_before_there_were_parts_are_compared(
    validate: Run, statistics: Statistics, tmp_path: Path
) -> None:
    """Such a folder holds whole splits only, with NaN and infinity in one number, none by class."""
    old = Path(shutil.copytree(statistics.path, tmp_path / "old"))
    for path in old.glob("Split-*/summary.json"):
        stored = json.loads(path.read_text())
        for feature in stored["features"].values():
            del feature["nan"]
        path.write_text(json.dumps(stored))
        with np.load(path.with_name("arrays.npz")) as file:
            arrays = {n: file[n] for n in file.files if n not in BY_CLASS}
        np.savez_compressed(path.with_name("arrays.npz"), **arrays)
    champion = Statistics("champion.statistics", old)
    verdict = validate(tmp_path / "out", champion).outputs.anomalies.read_json("verdict.json")
    assert verdict["champion"] is True
    assert verdict["passed"]
    by_class = next(c for c in verdict["checks"] if c["name"] == "class_statistics")
    assert "the champion's data" not in by_class["sentence"]


def test_unreadable_statistics_of_the_champion_are_one_line_with_a_way_out(
    validate: Run, tmp_path: Path
) -> None:
    (tmp_path / "champion").mkdir()
    champion = Statistics("champion.statistics", tmp_path / "champion")
    with pytest.raises(DataError, match="the champion's statistics cannot be read") as caught:
        validate(tmp_path / "out", champion)
    assert "validator.checks.label_drift=off" in caught.value.hint
    assert "\n" not in str(caught.value)
    off = dict.fromkeys(DRIFT_CHECKS, "off")
    assert validate(tmp_path / "again", champion, **off).outputs.anomalies.verdict().passed


def test_the_users_schema_counts_by_its_bytes(
    validate: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    path = tmp_path / "mine.pbtxt"
    schema = derived(DatasetInfo.read(tiny_examples.path))
    schema.feature[1].int_domain.max = 8
    path.write_text(text_format.MessageToString(schema))
    verdict = validate(tmp_path / "out", schema=str(path)).outputs.anomalies.verdict()
    assert not verdict.passed
    assert "labels in train are out of range: expected 0 to 8" in verdict.sentence
    moved = Path(shutil.copy(path, tmp_path / "moved.pbtxt"))
    named = probe(Params(schema=str(path)), tmp_path)
    assert named == probe(Params(schema=str(moved)), tmp_path)
    moved.write_text(path.read_text() + "# edited\n")
    assert named != probe(Params(schema=str(moved)), tmp_path)
    assert probe(Params(), tmp_path) == {}


def test_images_that_leaked_are_named(
    run_component: Run, tiny_examples: Examples, tmp_path: Path
) -> None:
    copy = tiny_examples.at(Path(shutil.copytree(tiny_examples.path, tmp_path / "copy")))
    (train, *_), (test, *_) = copy.shards("train"), copy.shards("test")
    donor = next(iter(read_batches(train))).columns
    columns = next(iter(read_batches(test))).columns
    count = len(columns["label"])
    length = donor["id"].shape[1]
    leaked = {
        name: np.concatenate([column[: count // 2], donor[name][: count - count // 2]])
        for name, column in columns.items()
        if name != "id"
    }
    leaked["id"] = np.frombuffer(b"x" * length * count, np.uint8).reshape(count, length)
    rest = [b.columns for b in read_batches(test)][1:]
    test.write_bytes(b"".join(frame(encode(part)).tobytes() for part in [leaked, *rest]))
    statistics = run_component(
        statistics_gen.COMPONENT,
        statistics_gen.Inputs(examples=copy),
        statistics_gen.Params(),
        tmp_path / "statistics",
    ).outputs.statistics
    inputs = Inputs(examples=copy, statistics=statistics)
    anomalies = run_component(COMPONENT, inputs, Params(), tmp_path / "out").outputs.anomalies
    assert "images in test also occur in train, tolerated" in anomalies.verdict().sentence
    groups = anomalies.read_json("verdict.json")["equal_images"]
    assert 1 <= len(groups) <= 5
    for group in groups:
        assert "x" * length in group
        assert any(name.startswith("rendered_digits:1.0.0/train/") for name in group)


def test_a_schema_file_that_is_not_there_is_found_when_planning(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"schema: cannot read .*nowhere"):
        probe(Params(schema=str(tmp_path / "nowhere")), tmp_path)


def test_the_step_is_a_gate_whose_curated_schema_is_in_its_key() -> None:
    assert COMPONENT.gate
    for name in COMPONENT.data_files:
        assert (Path(__file__).parents[3] / name).is_file()


def test_planning_a_run_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\n"
        "import bnpipe.components.statistics_gen, bnpipe.components.example_validator\n"
        "print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    )
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], env=environment()))
    assert not {"numpy", "scipy", "tensorflow", "apache_beam"} & set(loaded)
