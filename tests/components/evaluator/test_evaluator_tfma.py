"""The standard TFMA output, and that it holds TFMA's own numbers."""

import numpy as np
import pytest
import tensorflow_model_analysis as tfma

from bnpipe.components.evaluator import tfma_config
from bnpipe.components.evaluator.evidence import BASELINE, CANDIDATE, CHAMPION
from bnpipe.components.evaluator.params import Params, Rules
from tests.components.evaluator import fakes, tfma_alone


def values(folder) -> dict[tuple[str, str], float]:
    """Every single number of an output folder, by slice and metric key."""
    found = {}
    for record in tfma.load_metrics(str(folder)):
        part = tfma.slicer.stringify_slice_key(tfma.slicer.deserialize_slice_key(record.slice_key))
        for metric in record.metric_keys_and_values:
            key = str(metric.key).replace("\n", " ")
            found[part, key] = metric.value.double_value.value
    return found


def plots(folder) -> dict[str, object]:
    return {
        str(plot.key).replace("\n", " "): plot.value
        for record in tfma.load_plots(str(folder))
        for plot in record.plot_keys_and_values
    }


@pytest.fixture(scope="module")
def loaded_by_tfma(world, tmp_path_factory):
    """TFMA loading the SavedModels itself (tf_generic), asked for the same metrics."""
    folder = tmp_path_factory.mktemp("loaded_by_tfma")
    models = {CANDIDATE: world.candidate.saved_model, BASELINE: world.baseline.saved_model}
    tfma_alone.evaluate(world.examples.shards("test"), models, Params(), fakes.CLASSES, folder)
    return folder


def test_every_number_is_the_one_that_tfma_gets_from_the_saved_models(evaluated, loaded_by_tfma):
    ours = evaluated.outputs.evaluation.path / "tfma"
    for mine, theirs in ((ours, "scalars"), (ours / "one_vs_rest", "one_vs_rest")):
        expected, received = values(loaded_by_tfma / theirs), values(mine)
        assert received.keys() == expected.keys()
        assert len(received) > 100
        for key, value in expected.items():
            assert received[key] == pytest.approx(value, abs=2e-6, nan_ok=True), key


def test_every_plot_is_the_one_that_tfma_gets_from_the_saved_models(evaluated, loaded_by_tfma):
    ours = plots(evaluated.outputs.evaluation.path / "tfma" / "one_vs_rest")
    theirs = plots(loaded_by_tfma / "one_vs_rest")
    assert ours.keys() == theirs.keys()
    for key, plot in theirs.items():
        matrices = "multi_class_confusion_matrix_at_thresholds"
        assert getattr(ours[key], matrices) == getattr(plot, matrices)
        for field in ("num_weighted_examples", "total_weighted_label"):
            received, expected = (
                [getattr(b, field).value for b in side.calibration_histogram_buckets.buckets]
                for side in (ours[key], plot)
            )
            assert np.allclose(received, expected, atol=1e-6)


def test_both_loaders_of_tfma_open_the_output(evaluated):
    folder = str(evaluated.outputs.evaluation.path / "tfma")
    for name in (CANDIDATE, BASELINE):
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
    for name in (CANDIDATE, BASELINE):
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


def test_digit_zero_has_its_own_row_in_every_table(evaluated):
    numbers = values(evaluated.outputs.evaluation.path / "tfma" / "one_vs_rest")
    # A proto says class 0 by a sub-key that is there but empty.
    named = [key for _, key in numbers if 'name: "precision"' in key and "is_diff" not in key]
    zero = [key for key in named if "class_id {   }" in key]
    assert len(zero) == 2
    assert len([key for key in named if "class_id {" in key]) == 20


def test_the_champion_gets_the_same_metrics_as_the_baseline(evaluated):
    folder = evaluated.outputs.evaluation.path / "tfma"
    for kind, against_champion in (("", "champion"), ("one_vs_rest", "champion_one_vs_rest")):
        expected, received = values(folder / kind), values(folder / against_champion)
        assert {(part, key.replace(CHAMPION, BASELINE)) for part, key in received} == set(expected)
        ours = [key for key in received if f'"{CHAMPION}"' not in key[1]]
        assert ours
        for key in ours:
            if "is_diff" not in key[1]:
                assert received[key] == pytest.approx(expected[key], nan_ok=True), key
    result = tfma.load_eval_result(str(folder / "champion_one_vs_rest"), model_name=CHAMPION)
    (overall,) = [found for _, found in result.slicing_metrics]
    told = evaluated.outputs.evaluation.read_json("metrics.json")["models"][CHAMPION]
    for k, numbers in enumerate(told["classes"]):
        area = overall[""][f"classId:{k}"]["auc"]["doubleValue"]
        assert area == pytest.approx(numbers["auc"], abs=1e-3)
    drawn = [key for key in plots(folder / "champion_one_vs_rest") if f'"{CHAMPION}"' in key]
    assert any("multi_class_confusion_matrix" in key for key in drawn), drawn


def test_a_metric_without_a_combiner_for_batches_is_refused():
    from tensorflow_model_analysis.metrics import metric_specs

    from bnpipe.components.evaluator.tfma_batches import batched

    config = tfma_config.slice_metrics(Params(), None)
    config.metrics_specs[0].metrics.add(class_name="MeanLabel")
    with batched(), pytest.raises(NotImplementedError, match="no combiner for batches"):
        metric_specs.to_computations(list(config.metrics_specs), eval_config=config)


@pytest.mark.parametrize("reference", [None, BASELINE, CHAMPION])
def test_every_metric_that_config_can_ask_for_has_a_combiner_for_batches(reference):
    from tensorflow_model_analysis.metrics import metric_specs

    from bnpipe.components.evaluator.tfma_batches import batched

    rules = Rules(slice_floor="off")
    free = Params(slices=("a", "a*b"), min_accuracy=0.0, rules=rules, margin=0.99)
    with batched():
        for config in (
            tfma_config.slice_metrics(Params(), reference),
            tfma_config.slice_metrics(free, reference),
            tfma_config.one_vs_rest_metrics(2, reference),
        ):
            assert metric_specs.to_computations(list(config.metrics_specs), eval_config=config)


def test_thresholds_that_tfma_did_not_look_at_are_failures(evaluated):
    from bnpipe.components.evaluator import tfma_eval

    folder = evaluated.outputs.evaluation.path / "tfma"
    asked = tfma_config.slice_metrics(Params(), BASELINE)
    unasked = tfma_config.one_vs_rest_metrics(10, BASELINE)
    assert tfma_eval.failures({folder: asked, folder / "one_vs_rest": unasked}) == ()
    assert tfma_eval.failures({folder / "one_vs_rest": unasked}) is None
    (told,) = tfma_eval.failures({folder / "one_vs_rest": asked})
    assert "checked no threshold" in told
