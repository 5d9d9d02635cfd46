"""Data sets as others publish them: what `plan` accepts, the pipeline can finish."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components import (
    evaluator,
    example_gen,
    example_validator,
    statistics_gen,
    trainer,
    transform,
)
from bnpipe.data.sources import tfds_source
from bnpipe.data.sources.checksums import LocalArchives
from bnpipe.serving.export.golden import Golden

DECLARED, LETTERS = 6, (1, 2, 3, 4)


def letters(data_dir: Path) -> Any:
    """A small emnist/letters: more classes than occur, the first one is 1, and train alone."""
    import tensorflow_datasets as tfds

    class Letters(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "letters"

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=DECLARED),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self, features=features, supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            rng = np.random.default_rng(0)
            for key in range(6000):
                label = LETTERS[key % len(LETTERS)]
                image = rng.integers(0, 120, (8, 8, 1), np.uint8)
                image[label : label + 2] += 100
                yield key, {"image": image, "label": label}

    return Letters(data_dir=str(data_dir))


@pytest.mark.slow
def test_a_set_that_declares_more_classes_than_occur_is_blessed(
    run_component: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfds_source, "find", lambda *_, **__: letters(tmp_path / "tfds"))
    monkeypatch.setattr(
        tfds_source, "check_archives", lambda *_: LocalArchives(None, (), {}, {}, ())
    )

    def ran(module: Any, params: Any, name: str = "", **inputs: Any) -> Any:
        folder = tmp_path / (name or module.COMPONENT.name)
        return run_component(module.COMPONENT, module.Inputs(**inputs), params, folder).outputs

    examples = ran(example_gen, example_gen.Params(dataset="emnist/letters")).examples
    statistics = ran(statistics_gen, statistics_gen.Params(), examples=examples).statistics
    checked = ran(
        example_validator, example_validator.Params(), examples=examples, statistics=statistics
    )
    verdict = checked.anomalies.verdict()
    assert verdict.passed
    assert "classes" in verdict.sentence
    transformed = ran(transform, transform.Params(), examples=examples).transformed
    small = {"hidden_units": (16,), "epochs": 5}
    candidate = ran(trainer, trainer.Params(**small), examples=transformed).model
    plain = trainer.Params(**small, normalization="none")
    baseline = ran(trainer, plain, "baseline", examples=transformed).model
    judged = ran(
        evaluator,
        evaluator.Params(),
        examples=transformed,
        candidate=candidate,
        baseline=baseline,
    )
    verdict = judged.blessing.verdict()
    assert verdict.passed, verdict.sentence
    metrics = judged.evaluation.read_json("metrics.json")
    slices = {name for name in metrics["slices"] if name.startswith("label:")}
    assert slices == {f"label:{label}" for label in LETTERS}
    of_candidate = metrics["models"]["candidate"]
    for name in ("macro_f1", "macro_precision", "macro_recall", "macro_auc"):
        assert of_candidate[name] > 0.9, name
    # What is served is the label of the data set, not its place among those that occur.
    golden = Golden.read(judged.evaluation.path / "golden.npz")
    assert set(golden.answers["serving_default"]["class_id"].tolist()) == set(LETTERS)
