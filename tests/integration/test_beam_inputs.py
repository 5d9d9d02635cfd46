"""No Beam step ends well unless its workers read all of its input, and what they wrote is here."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components import statistics_gen, transform
from bnpipe.components.artifacts import SPLITS, Examples, TransformedExamples
from bnpipe.components.evaluator.inference import predict
from bnpipe.data import beam_io, beam_statistics, beam_transform
from bnpipe.data.errors import DataError
from tests.conftest import RunComponent

Step = Callable[[Any, Path], Any]


def _missing(shard: Path) -> None:
    shard.unlink()


def _empty(shard: Path) -> None:
    shard.write_bytes(b"")


def _cut(shard: Path) -> None:
    whole = shard.read_bytes()
    length = 16 + int.from_bytes(whole[:8], "little")
    shard.write_bytes(whole[:length])  # one whole record


def _doubled(shard: Path) -> None:
    shard.write_bytes(2 * shard.read_bytes())


def _no_folder(shard: Path) -> None:
    shutil.rmtree(shard.parent)


DAMAGES = (_missing, _empty, _cut, _doubled, _no_folder)


def copy(artifact: Any, folder: Path) -> Any:
    return artifact.at(Path(shutil.copytree(artifact.path, folder / "copy")))


@pytest.mark.parametrize(
    "split", [SPLITS[0], *(pytest.param(split, marks=pytest.mark.slow) for split in SPLITS[1:])]
)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("step", [statistics_gen, transform], ids=["statistics_gen", "transform"])
def test_images_that_are_missing_or_too_many_fail_the_step(
    step: Any,
    damage: Callable[[Path], None],
    split: str,
    tiny_examples: Examples,
    run_component: RunComponent,
    tmp_path: Path,
) -> None:
    examples = copy(tiny_examples, tmp_path)
    damage(examples.shards(split)[0])
    with pytest.raises(DataError, match=f"Split-{split}/"):
        run_component(
            step.COMPONENT, step.Inputs(examples=examples), step.Params(), tmp_path / "out"
        )


def asked(
    examples: TransformedExamples, folder: Path, meanwhile: Callable[[], None] = lambda: None
) -> Any:
    counts = examples.record_counts()
    names = sorted(name for name in counts if name.startswith("Split-test/"))

    def pipeline() -> AbstractContextManager[Any]:
        meanwhile()
        return beam_io.pipeline([])  # type: ignore[no-any-return]

    shards = {examples.path / name: counts[name] for name in names}
    return predict(pipeline, shards, {}, 100, folder / "answers")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_images_that_are_missing_or_too_many_are_not_evaluated(
    damage: Callable[[Path], None], tiny_transformed: TransformedExamples, tmp_path: Path
) -> None:
    examples = copy(tiny_transformed, tmp_path)
    whole = asked(examples, tmp_path)
    assert len(whole.labels) == sum(
        n for name, n in examples.record_counts().items() if "test" in name
    )
    assert not (tmp_path / "answers").exists()
    damage(examples.shards("test")[0])
    with pytest.raises(DataError, match="Split-test/"):
        asked(examples, tmp_path)


def test_an_answer_of_a_job_that_was_thought_dead_is_not_taken(
    tiny_transformed: TransformedExamples, tmp_path: Path
) -> None:
    def still_at_it() -> None:
        stale = tmp_path / "answers/99999.npz"
        np.savez(stale, id=np.array([b"stale"]), label=np.array([1]))

    answers = asked(tiny_transformed, tmp_path, still_at_it)
    assert b"stale" not in answers.ids.tolist()


def _blind(process: Any, shard_of: Callable[[Any], str]) -> Any:
    """A worker that sees nothing of the second train shard, and does not know it."""

    def blind(self: Any, element: Any, *rest: Any) -> Any:
        for found in process(self, element, *rest):
            is_report = hasattr(found, "tag")
            if is_report or "train" not in shard_of(element) or "-00001-" not in shard_of(element):
                yield found

    return blind


def test_a_worker_that_sees_no_images_fails_the_statistics(
    tiny_examples: Examples,
    run_component: RunComponent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reports the file as read: what counts are the images in the statistics."""
    reader = beam_statistics.ReadShard
    monkeypatch.setattr(reader, "process", _blind(reader.process, lambda element: element[1]))
    inputs = statistics_gen.Inputs(examples=tiny_examples)
    with pytest.raises(DataError, match="records of train for the statistics, expected"):
        run_component(statistics_gen.COMPONENT, inputs, statistics_gen.Params(), tmp_path / "out")


def test_a_worker_that_sees_no_images_fails_the_quartiles(
    tiny_examples: Examples,
    run_component: RunComponent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cuts the ink by the images of others, while those write whole shards."""
    counter = beam_transform.CountInk
    monkeypatch.setattr(counter, "process", _blind(counter.process, str))
    inputs = transform.Inputs(examples=tiny_examples)
    with pytest.raises(DataError, match="train images for the ink quartiles, expected"):
        run_component(transform.COMPONENT, inputs, transform.Params(), tmp_path / "out")
