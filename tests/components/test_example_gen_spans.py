"""example_gen and transform with spans: new labelled data beside the data set."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnpipe.components import example_gen, transform
from bnpipe.components.artifacts import SPLITS, Examples, TransformedExamples
from bnpipe.components.example_gen import Params, probe
from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import as_strings, read_batches
from bnpipe.data.records.tfrecord import read_runs
from bnpipe.data.sources.digit_renderer import draw_chunk
from tests.span_folders import write_images, write_records
from tests.transformed import read_transformed

BASE = "rendered_digits:1.0.0"


def params(folder: Path, **more: Any) -> Params:
    pattern = f"{folder}/{{SPAN}}"
    return Params(dataset="rendered_digits", size=512, shards=2, spans=pattern, **more)


@dataclass
class WithSpans:
    """What example_gen and transform made of two spans, and the folder of the spans."""

    folder: Path
    facts: Any
    examples: Examples
    transformed: TransformedExamples


@pytest.fixture(scope="module")
def with_spans(
    run_component: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> WithSpans:
    folder = tmp_path_factory.mktemp("spans")
    write_images(folder / "2", seed=5, train=60, test=20)
    write_records(folder / "2026-11-20", seed=6, train=70)
    shutil.copy(next((folder / "2").rglob("*.png")), folder / "2" / "train" / "7" / "_DSC1234.png")
    out = tmp_path_factory.mktemp("with_spans")
    ran = run_component(
        example_gen.COMPONENT, example_gen.Inputs(), params(folder), out / "examples"
    )
    inputs = transform.Inputs(examples=ran.outputs.examples)
    made = run_component(transform.COMPONENT, inputs, transform.Params(), out / "transformed")
    return WithSpans(folder, ran.facts, ran.outputs.examples, made.outputs.transformed)


def column(examples: Examples, split: str, name: str) -> np.ndarray:
    parts = [b.columns[name] for shard in examples.shards(split) for b in read_batches(shard)]
    return np.concatenate([as_strings(part) if name == "id" else part for part in parts])


def test_spans_come_behind_the_data_set_and_move_nothing(
    with_spans: WithSpans, tiny_examples: Examples
) -> None:
    for split in SPLITS:
        base = column(tiny_examples, split, "id")
        spans = column(with_spans.examples, split, "span")
        np.testing.assert_array_equal(column(with_spans.examples, split, "id")[: len(base)], base)
        assert set(spans[: len(base)]) == {0}
        assert (np.diff(spans) >= 0).all()
    added = {s: column(with_spans.examples, s, "span") for s in SPLITS}
    in_train = np.concatenate([added["train"], added["validation"]])
    assert {n: int((in_train == n).sum()) for n in (2, 20261120)} == {2: 60, 20261120: 70}
    assert (added["validation"] == 2).sum() + (added["validation"] == 20261120).sum() > 0
    assert (added["test"] == 2).sum() == 20
    assert set(column(tiny_examples, "test", "span")) == {0}


def test_images_labels_and_ids_of_spans_are_theirs(with_spans: WithSpans) -> None:
    images, labels = draw_chunk(5, "test", 0)
    mine = column(with_spans.examples, "test", "span") == 2
    names = column(with_spans.examples, "test", "id")[mine]
    pixels = column(with_spans.examples, "test", "image")[mine]
    prefix = f"{BASE}/span-2/test/".encode()
    for name, image, label in zip(
        names, pixels, column(with_spans.examples, "test", "label")[mine], strict=True
    ):
        i = int(name.removeprefix(prefix).split(b"/")[1].removesuffix(b".png"))
        assert name == prefix + f"{labels[i]}/{i}.png".encode()
        assert label == labels[i]
        np.testing.assert_array_equal(image, images[i].reshape(-1))
    names = np.concatenate([column(with_spans.examples, s, "id") for s in ("train", "validation")])
    named = {n for n in names.tolist() if b"/span-2026-11-20/" in n}
    assert named == {f"{BASE}/span-2026-11-20/train/{i}".encode() for i in range(70)}


def test_counts_are_told_per_span(with_spans: WithSpans) -> None:
    for artifact in (with_spans.examples, with_spans.transformed):
        stored = artifact.read_json("dataset.json")
        assert sum(stored["splits"].values()) == 512 + 60 + 20 + 70
        one, other = stored["spans"]["2"], stored["spans"]["2026-11-20"]
        assert (one["number"], one["train"] + one["validation"], one["test"]) == (2, 60, 20)
        assert (other["number"], other["test"], other["bad_records"]) == (20261120, 0, 0)
        assert other["train"] + other["validation"] == 70
        assert str(with_spans.folder) not in json.dumps(stored)
    assert with_spans.facts["spans"] == 2
    assert with_spans.facts["span_names"] == "2, 2026-11-20"
    assert with_spans.facts["left_out_of_spans"] == 1
    assert with_spans.facts["test"] == 85 + 20


def test_metrics_can_be_sliced_by_span(with_spans: WithSpans) -> None:
    test = read_transformed(with_spans.transformed.shards("test"))
    assert np.bincount(test.columns["span"]).tolist() == [85, 0, 20]
    assert len(test.features) == 105
    assert test.id[-1].startswith(f"{BASE}/span-2/test/".encode())


def test_neither_the_place_of_spans_nor_workers_change_a_byte(
    with_spans: WithSpans, run_component: Callable[..., Any], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(with_spans.folder, tmp_path / "elsewhere"))
    assert probe(params(moved), tmp_path) == probe(params(with_spans.folder), tmp_path)
    threads = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
    again = run_component(
        example_gen.COMPONENT,
        example_gen.Inputs(),
        params(moved),
        tmp_path / "out",
        beam_flags=threads,
    ).outputs.examples
    for path in sorted(p for p in with_spans.examples.path.rglob("*") if p.is_file()):
        relative = path.relative_to(with_spans.examples.path)
        assert (again.path / relative).read_bytes() == path.read_bytes()


def test_the_probe_names_every_span(with_spans: WithSpans, tmp_path: Path) -> None:
    named = probe(params(with_spans.folder), tmp_path)
    assert sorted(named) == ["span 2", "span 2026-11-20"]
    assert list(probe(params(with_spans.folder, span_window=1), tmp_path)) == ["span 2026-11-20"]
    assert list(probe(params(with_spans.folder, first_span=3), tmp_path)) == ["span 2026-11-20"]
    assert probe(Params(dataset="rendered_digits"), tmp_path) == {}


def test_what_the_probe_leaves_out_or_cannot_use_it_says(
    with_spans: WithSpans, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    probe(params(with_spans.folder), tmp_path)
    said = "span 2: left out for a name that begins with . or _ (1): train/7/_DSC1234.png"
    assert said in caplog.text
    deeper = Params(
        dataset="rendered_digits",
        spans=f"{with_spans.folder}/{{SPAN}}/train",
        span_settle_seconds=0,
    )
    with pytest.raises(
        DataError, match=r"expected the folders train and test, received .*/2/train"
    ):
        probe(deeper, tmp_path)


def spoiled(folder: Path) -> str:
    """Spoils an image of the span and gives its name below the span."""
    write_images(folder / "2", seed=5, train=60)
    path = sorted((folder / "2" / "train").rglob("*.png"))[17]
    path.write_bytes(path.read_bytes()[:-20])
    return f"span-2/train/{path.parent.name}/{path.name}"


def test_an_unreadable_image_is_named(run_component: Callable[..., Any], tmp_path: Path) -> None:
    name = spoiled(tmp_path / "spans")
    with pytest.raises(DataError, match=r"at offset 0 \(train record \d+\): expected") as caught:
        run_component(
            example_gen.COMPONENT,
            example_gen.Inputs(),
            params(tmp_path / "spans"),
            tmp_path / "out",
        )
    assert name in str(caught.value)
    assert "write span 2 again" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_budget_of_unreadable_images_is_set_aside(
    run_component: Callable[..., Any], tmp_path: Path
) -> None:
    name = spoiled(tmp_path / "spans")
    write_records(tmp_path / "spans" / "3", seed=6, test=9)
    path = tmp_path / "spans" / "3" / "test" / "part-0.tfrecord"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    ran = run_component(
        example_gen.COMPONENT,
        example_gen.Inputs(),
        params(tmp_path / "spans", max_bad_records=2),
        tmp_path / "out",
    )
    examples = ran.outputs.examples
    stored = examples.read_json("dataset.json")
    assert ran.facts["bad_records"] == 2
    assert sum(stored["splits"].values()) == 512 + 60 + 9 - 2
    assert {n: s["bad_records"] for n, s in stored["spans"].items()} == {"2": 1, "3": 1}
    aside = sorted((examples.path / "quarantine").glob("*.jsonl"))
    records = [json.loads(line) for path in aside for line in path.read_text().splitlines()]
    assert sorted(r["file"] for r in records) == [name, "span-3/test/part-0.tfrecord"]
    assert str(tmp_path) not in "".join(path.read_text() for path in aside)
    spoilt = (tmp_path / "spans" / name.removeprefix("span-")).read_bytes()
    kept = [
        run.payload.tobytes() for path in aside for run in read_runs(path.with_suffix(".tfrecord"))
    ]
    assert spoilt in kept


def test_a_truncated_span_is_a_bad_record_within_the_budget(
    run_component: Callable[..., Any], tmp_path: Path
) -> None:
    write_records(tmp_path / "spans" / "3", seed=6, train=30, test=9)
    path = tmp_path / "spans" / "3" / "train" / "part-0.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])

    def ran(allowed: int) -> Any:
        return run_component(
            example_gen.COMPONENT,
            example_gen.Inputs(),
            params(tmp_path / "spans", max_bad_records=allowed),
            tmp_path / f"out-{allowed}",
        )

    with pytest.raises(
        DataError,
        match=r"span-3/train/part-0\.tfrecord at offset \d+ \(train record 29\): the file is cut",
    ) as caught:
        ran(0)
    assert "\n" not in str(caught.value)
    assert "write span 3 again" in caught.value.hint
    examples = ran(1).outputs.examples
    stored = examples.read_json("dataset.json")
    told = stored["spans"]["3"]
    assert (told["train"] + told["validation"], told["test"], told["bad_records"]) == (29, 9, 1)
    assert sum(stored["splits"].values()) == 512 + 29 + 9
    (aside,) = (examples.path / "quarantine").glob("*.jsonl")
    assert json.loads(aside.read_text())["offset"] == len(whole) // 30 * 29


def test_bad_records_of_all_workers_count_together(
    run_component: Callable[..., Any], tmp_path: Path
) -> None:
    """One in each of two slices: neither is over the budget, both together are."""
    spoiled(tmp_path / "spans")
    shutil.copytree(tmp_path / "spans" / "2", tmp_path / "spans" / "3")
    with pytest.raises(DataError, match=r"2 unusable records \(span-2/.*png at offset 0, span-3/"):
        run_component(
            example_gen.COMPONENT,
            example_gen.Inputs(),
            params(tmp_path / "spans", max_bad_records=1),
            tmp_path / "out",
        )


def test_a_span_that_changes_while_it_is_read_is_refused(
    run_component: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnpipe.data import beam_ingest

    write_images(tmp_path / "spans" / "2", seed=5, train=30)
    original = beam_ingest.ingest

    def meanwhile(*args: Any) -> None:
        original(*args)
        path = next((tmp_path / "spans").rglob("*.png"))
        Image.fromarray(draw_chunk(6, "train", 0)[0][0]).save(path)

    monkeypatch.setattr(beam_ingest, "ingest", meanwhile)
    with pytest.raises(DataError, match="span 2 has changed since the run was planned"):
        run_component(
            example_gen.COMPONENT,
            example_gen.Inputs(),
            params(tmp_path / "spans"),
            tmp_path / "out",
        )


def test_a_span_that_arrives_after_the_plan_waits_for_the_next_run(tmp_path: Path) -> None:
    write_images(tmp_path / "2", seed=5, train=3)
    planned = probe(params(tmp_path, span_window=1), tmp_path)
    write_images(tmp_path / "3", seed=6, train=3)
    (found,) = example_gen._planned_spans(params(tmp_path, span_window=1), planned)
    assert found.name == "2"
