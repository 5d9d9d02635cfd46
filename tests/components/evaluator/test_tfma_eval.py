"""The standard TFMA output, and that it holds TFMA's own numbers."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import validation_result_pb2

from bnpipe.components.evaluator import tfma_config, tfma_eval
from bnpipe.components.evaluator.evidence import BASELINE, CANDIDATE, CHAMPION
from bnpipe.components.evaluator.params import Params, Rules
from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.data.errors import DataError
from tests.components.evaluator import fakes, tfma_alone

MODELS = (CANDIDATE, BASELINE, CHAMPION)


def values(folder) -> dict[tuple[str, str], float]:
    """Every single number of an output folder, by slice and metric key."""
    found = {}
    for record in tfma.load_metrics(str(folder)):
        part = tfma.slicer.stringify_slice_key(tfma.slicer.deserialize_slice_key(record.slice_key))
        for metric in record.metric_keys_and_values:
            key = str(metric.key).replace("\n", " ")
            found[part, key] = metric.value.double_value.value
    return found


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory):
    """TFMA loading the SavedModels itself (tf_generic): the same metrics, and those per class."""
    folder = tmp_path_factory.mktemp("tfma_alone")
    models = {name: getattr(world, name).saved_model for name in MODELS}
    asked = tfma_config.eval_config(Params(), [BASELINE, CHAMPION])
    configs = {folder / "asked": asked, folder / "per_class": tfma_alone.per_class(asked, 10)}
    tfma_alone.evaluate(world.examples.shards("test"), models, configs)
    return folder


def test_every_number_is_the_one_that_tfma_gets_from_the_saved_models(evaluated, alone):
    expected = values(alone / "asked")
    received = values(evaluated.outputs.evaluation.path / "tfma")
    assert received.keys() == expected.keys()
    assert {name for name in MODELS if any(f'"{name}"' in key for _, key in received)} == {*MODELS}
    for key, value in expected.items():
        assert received[key] == pytest.approx(value, abs=2e-6), key


def test_numbers_per_class_are_those_that_tfma_gets_from_the_saved_models(evaluated, alone):
    metrics = evaluated.outputs.evaluation.read_json("metrics.json")
    for name in MODELS:
        told = metrics["models"][name]
        result = tfma.load_eval_result(str(alone / "per_class"), model_name=name)
        overall, drawn = dict(result.slicing_metrics)[()][""], dict(result.plots)[()][""][""]
        for k, numbers in enumerate(told["classes"]):
            area = overall[f"classId:{k}"]["auc"]["doubleValue"]
            assert area == pytest.approx(numbers["auc"], abs=1e-3)
        (matrix,) = drawn["multiClassConfusionMatrixAtThresholds"]["matrices"]
        cells = np.zeros((fakes.CLASSES, fakes.CLASSES))
        for cell in matrix["entries"]:
            # A proto has no entry for class 0.
            row, column = (cell.get(f"{kind}ClassId", 0) for kind in ("actual", "predicted"))
            cells[row, column] = cell["numWeightedExamples"]
        assert cells.tolist() == told["confusion_matrix"]


def test_both_loaders_of_tfma_open_the_output(evaluated):
    folder = str(evaluated.outputs.evaluation.path / "tfma")
    for name in MODELS:
        result = tfma.load_eval_result(folder, model_name=name)
        slices = {key for key, _ in result.slicing_metrics}
        assert {(), (("label", 0),), (("ink_quartile", 3), ("label", 9))} <= slices
    validation = tfma.load_validation_result(folder)
    assert validation.validation_ok
    assert not validation.missing_thresholds
    checked = {
        tuple(spec.feature_keys)
        for details in [validation.validation_details]
        for spec in (d.slicing_spec for d in details.slicing_details)
    }
    assert {(), ("label",), ("ink_quartile",)} <= checked


def test_metrics_json_and_tfma_say_the_same(evaluated):
    metrics = evaluated.outputs.evaluation.read_json("metrics.json")
    folder = str(evaluated.outputs.evaluation.path / "tfma")
    for name in MODELS:
        result = tfma.load_eval_result(folder, model_name=name)
        seen = 0
        for key, found in result.slicing_metrics:
            part = metrics["slices"][tfma.slicer.stringify_slice_key(key) if key else "overall"]
            told = {k: v["doubleValue"] for k, v in found[""][""].items() if "doubleValue" in v}
            assert told["example_count"] == part["images"]
            for metric in ("accuracy", "loss"):
                assert told[metric] == pytest.approx(part["models"][name][metric], abs=1e-5)
            seen += 1
        assert seen == len(metrics["slices"])


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """TFMA's verdict on the answers of models that name the true class that often."""

    def judge(params: Params, **accuracies: float) -> tuple[str, ...] | None:
        images = 2 * tfma_eval.BLOCK_IMAGES + 1
        labels = np.arange(images) % 2
        answers = {}
        for name, accuracy in accuracies.items():
            right = np.arange(images) < accuracy * images
            named = np.where(right, labels, 1 - labels)
            answers[name] = np.where(named[:, None] == [0, 1], 0.9, 0.1).astype(np.float32)
        folder = tmp_path_factory.mktemp("judged")
        stored = folder / "predictions.npz"
        Predictions(np.full(images, b"x"), labels, {}, answers).write(stored)
        config = tfma_config.eval_config(params, [name for name in accuracies if name != CANDIDATE])
        tfma_eval.evaluate(stored, config, folder / "tfma")
        return tfma_eval.failures(config, folder / "tfma")

    return judge


def test_only_the_candidate_has_to_reach_the_thresholds(judged):
    params = Params(slices=("label",))
    assert judged(params, candidate=0.99, baseline=0.5, champion=0.4) == ()
    (told,) = judged(params, candidate=0.9, baseline=0.9, champion=0.99)
    assert told.startswith("accuracy on Overall")


def test_without_a_baseline_the_champion_is_what_tfma_compares_with(judged):
    params = Params(slices=(), min_accuracy=0.5)
    (told,) = judged(params, candidate=0.9, champion=0.95)
    assert told.startswith("accuracy on Overall")


def test_thresholds_that_tfma_did_not_look_at_are_failures(evaluated, tmp_path):
    asked = tfma_config.eval_config(Params(), [BASELINE])
    assert tfma_eval.failures(asked, evaluated.outputs.evaluation.path / "tfma") == ()
    names = ("accuracy_floor", "worst_class", "slice_floor", "baseline_non_inferior")
    rules = Rules(**dict.fromkeys(names, "off"))
    unasked = tfma_config.eval_config(Params(rules=rules), [BASELINE])
    assert tfma_eval.failures(unasked, tmp_path) is None
    result = validation_result_pb2.ValidationResult(missing_thresholds=True)
    with tf.io.TFRecordWriter(str(tmp_path / "validations.tfrecord")) as writer:
        writer.write(result.SerializeToString())
    (told,) = tfma_eval.failures(asked, tmp_path)
    assert "checked no threshold" in told


def test_images_that_a_worker_did_not_see_end_the_evaluation(evaluated, tmp_path, monkeypatch):
    reader = tfma_eval.ReadBlocks.process

    def blind(self, block):
        return reader(self, block) if block[0] else ()

    monkeypatch.setattr(tfma_eval.ReadBlocks, "process", blind)
    stored = evaluated.outputs.evaluation.path / "predictions.npz"
    config = tfma_config.eval_config(Params(), [BASELINE, CHAMPION])
    with pytest.raises(DataError, match=r"saw \d+ images in TFMA's metrics, expected"):
        tfma_eval.evaluate(stored, config, tmp_path / "tfma")
