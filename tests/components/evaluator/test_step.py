import base64
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bnpipe.components.artifacts import LabelQuality, Model, ServedModel
from bnpipe.components.evaluator import COMPONENT, Inputs, Params, tfma_eval
from bnpipe.components.evaluator.params import Rules
from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.data.errors import RequestError
from bnpipe.serving.export.digest import tree_digest
from tests.child import WITH_TESTS, environment
from tests.components.evaluator import fakes


def blessing(ran):
    return ran.outputs.blessing.read_json("blessing.json")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_step_declares_a_gate():
    assert COMPONENT.gate
    assert COMPONENT.name == "evaluator"


def test_a_good_candidate_is_blessed(evaluated, world):
    said = blessing(evaluated)
    assert said["passed"], said["sentence"]
    assert evaluated.outputs.blessing.verdict().sentence == said["sentence"]
    assert (evaluated.outputs.blessing.path / "BLESSED").exists()
    assert said["model"] == tree_digest(world.candidate.saved_model)
    assert said["champion"] == {"version": 3, "digest": tree_digest(world.champion.path)}
    assert evaluated.facts["blessed"] is True
    assert evaluated.facts["images"] == 1000


def test_metrics_hold_every_model_slice_and_comparison(evaluated):
    metrics = evaluated.outputs.evaluation.read_json("metrics.json")
    assert set(metrics["models"]) == {"candidate", "baseline", "champion"}
    assert set(metrics["against"]) == {"baseline", "champion"}
    names = set(metrics["slices"])
    assert {"overall", "label:0", "label:9", "ink_quartile:3"} <= names
    assert "ink_quartile_X_label:3_X_9" in names
    for found in metrics["slices"].values():
        for compared in (*found["against"].values(), *found["models"].values()):
            low, high = compared.get("interval") or compared["accuracy_interval"]
            assert high - low > 1 / (found["images"] + 10)
    low, high = metrics["models"]["candidate"]["calibration_error_interval"]
    assert 0 <= low <= high <= 1
    assert metrics["dataset"]["name"] == "stripes"
    assert metrics["dataset"]["synthetic"] is True


def test_predictions_are_those_of_the_saved_model_itself(evaluated, world):
    import tensorflow as tf

    from tests.transformed import read_transformed

    stored = Predictions.read(evaluated.outputs.evaluation.path / "predictions.npz")
    split = read_transformed(world.examples.shards("test"))
    assert stored.ids.tolist() == split.id.tolist()
    served = tf.saved_model.load(str(world.candidate.saved_model)).signatures["serving_default"]
    expected = served(features=tf.constant(split.features))["probabilities"].numpy()
    np.testing.assert_allclose(stored.probabilities["candidate"], expected, atol=1e-6)


def test_golden_requests_get_their_answers_again(evaluated, world):
    import tensorflow as tf

    signatures = tf.saved_model.load(str(world.candidate.saved_model)).signatures
    golden: dict[str, dict[str, np.ndarray]] = {}
    with np.load(evaluated.outputs.evaluation.path / "golden.npz", allow_pickle=False) as stored:
        for key in stored.files:
            signature, kind, name = key.split("/")
            value = stored[key]
            if name.endswith(".b64"):
                texts = [base64.b64decode(text) for text in value.ravel()]
                value = np.array(texts, dtype=object).reshape(value.shape)
            golden.setdefault(f"{signature}/{kind}", {})[name.removesuffix(".b64")] = value
    assert {key.split("/")[0] for key in golden} == set(signatures)
    for name, function in signatures.items():
        request = {k: tf.constant(v) for k, v in golden[f"{name}/request"].items()}
        for key, expected in golden[f"{name}/answer"].items():
            received = function(**request)[key].numpy()
            assert len(received) == 4
            if received.dtype == object:
                assert received.tolist() == expected.tolist()
            else:
                np.testing.assert_allclose(received, expected, atol=1e-6)


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(evaluated, world, run_component, tmp_path):
    again = run_component(COMPONENT, Inputs(*world), Params(golden_images=4), tmp_path)
    for name in ("evaluation", "blessing"):
        first = getattr(evaluated.outputs, name).path
        assert digests(first) == digests(getattr(again.outputs, name).path)


@pytest.mark.slow
def test_another_process_with_another_hash_seed_writes_the_same_bytes(evaluated, world, tmp_path):
    script = (
        "import sys, pathlib\n"
        "from bnpipe.components.artifacts import Model, ServedModel, TransformedExamples\n"
        "from bnpipe.components.evaluator import COMPONENT, Inputs, Params\n"
        "from tests.conftest import _run\n"
        "kinds = (TransformedExamples, Model, Model, ServedModel)\n"
        "paths = map(pathlib.Path, sys.argv[2:])\n"
        "inputs = Inputs(*(kind('x', path) for kind, path in zip(kinds, paths)))\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "_run(COMPONENT, inputs, Params(golden_images=4), out, cache=out)\n"
    )
    paths = [str(artifact.path) for artifact in world]
    arguments = [sys.executable, "-c", script, str(tmp_path), *paths]
    environ = environment(PYTHONHASHSEED="7", **WITH_TESTS)
    subprocess.run(arguments, check=True, env=environ, capture_output=True)
    for name in ("evaluation", "blessing"):
        assert digests(getattr(evaluated.outputs, name).path) == digests(tmp_path / name)


def test_nothing_that_is_written_names_a_place(evaluated):
    root = str(evaluated.outputs.evaluation.path.parent).encode()
    for path in evaluated.outputs.evaluation.path.rglob("*"):
        assert path.is_dir() or root not in path.read_bytes(), path


def test_a_missing_baseline_is_not_blessed_and_tfma_evaluates_the_candidate_alone(
    world, run_component, tmp_path
):
    import tensorflow_model_analysis as tfma

    gone = Model("baseline.model", tmp_path / "gone")
    inputs = Inputs(world.examples, world.candidate, gone)
    ran = run_component(COMPONENT, inputs, Params(slices=()), tmp_path / "run")
    said = blessing(ran)
    assert not said["passed"]
    assert said["sentence"].startswith(
        "not blessed: the baseline cannot be used: there is no SavedModel in its folder"
    )
    assert (ran.outputs.blessing.path / "NOT_BLESSED").exists()
    result = tfma.load_eval_result(str(ran.outputs.evaluation.path / "tfma"))
    metrics = json.loads((ran.outputs.evaluation.path / "metrics.json").read_text())
    (overall,) = [found for key, found in result.slicing_metrics if key == ()]
    accuracy = overall[""][""]["accuracy"]["doubleValue"]
    assert accuracy == pytest.approx(metrics["models"]["candidate"]["accuracy"], abs=1e-6)


def test_config_can_judge_without_a_champion_that_does_not_load(
    world, run_component, tmp_path, without_tfma
):
    served = tmp_path / "served" / "7"
    served.mkdir(parents=True)
    (served / "saved_model.pb").write_bytes(b"not a graph")
    inputs = Inputs(*world[:3], ServedModel("champion", served))
    params = Params(rules=Rules(usable_champion="off"))
    ran = run_component(COMPONENT, inputs, params, tmp_path / "run")
    said = blessing(ran)
    assert said["passed"]
    told = "not compared with the champion (version 7): its SavedModel does not load"
    assert told in said["sentence"]
    assert {r["outcome"] for r in said["rules"] if r["name"] == "usable_champion"} == {"off"}
    assert said["champion"]["version"] == 7
    assert "does not load" in said["champion"]["problem"]


@pytest.mark.parametrize("fault", ["a path that is a pattern", "no access", "no memory"])
def test_a_fault_of_the_machine_is_no_verdict_on_the_model(world, tmp_path, monkeypatch, fault):
    from bnpipe.components.network import saved_model

    folder = tmp_path / ("a[1]" if "pattern" in fault else "a")
    shutil.copytree(world.champion.saved_model, folder)
    raised = {
        "no access": tf.errors.PermissionDeniedError(None, None, "saved_model.pb"),
        "no memory": tf.errors.ResourceExhaustedError(None, None, "OOM"),
    }

    def load(path):
        raise raised[fault]

    if fault in raised:
        monkeypatch.setattr(saved_model, "load", load)
    expected = type(raised.get(fault, RequestError("")))
    with pytest.raises(expected):
        saved_model.unusable(folder, fakes.info(1))


def test_a_model_of_other_labels_cannot_be_used(world):
    from bnpipe.components.network.saved_model import unusable

    letters = dataclasses.replace(fakes.info(1), label_names=tuple("abcdefghij"))
    assert unusable(world.champion.saved_model, fakes.info(1)) == ""
    assert unusable(world.champion.saved_model, letters) == (
        "its classes are called 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "
        "those of the data set a, b, c, d, e, f, g, h, i, j"
    )


@pytest.mark.parametrize("hangs", [False, True])
def test_a_verdict_that_hangs_on_doubtful_labels_says_so(
    hangs, evaluated, world, run_component, tmp_path, without_tfma, monkeypatch
):
    if hangs:  # TFMA, which has seen them all, says so too
        monkeypatch.setattr(tfma_eval, "failures", lambda *_: ("accuracy is too low",))
    answers = Predictions.read(evaluated.outputs.evaluation.path / "predictions.npz")
    wrong = np.flatnonzero(~answers.correct("candidate"))
    assert len(wrong) == 2
    doubted = answers.ids[wrong if hangs else wrong[:1]]
    (tmp_path / "labels").mkdir()
    arrays = {"test/id": doubted, "test/confident": np.ones(len(doubted), bool)}
    np.savez(tmp_path / "labels" / "suspects.npz", **arrays)
    labels = LabelQuality("label_validator.quality", tmp_path / "labels")
    # Of 1,000 images with two mistakes the lower bound is 0.9937, of 998 without any 0.9970.
    accuracy = float(answers.correct("candidate").mean())
    params = Params(golden_images=4, min_accuracy=0.995 if hangs else 0.96)
    ran = run_component(COMPONENT, Inputs(*world, labels), params, tmp_path / "run")
    said = blessing(ran)
    (ruling,) = [rule for rule in said["rules"] if rule["name"] == "suspects"]
    assert said["passed"] is not hangs
    assert ruling["outcome"] == ("warn" if hangs else "ok")
    assert (f"hangs on {len(doubted)} images whose label is in doubt" in said["sentence"]) is hangs
    scores = ran.outputs.evaluation.read_json("metrics.json")["without_suspects"]
    assert scores["suspects"] == len(doubted)
    assert scores["accuracy"]["candidate"] > accuracy
    assert set(scores["accuracy"]) == {"candidate", "baseline", "champion"}


def test_a_candidate_that_answers_nan_is_not_blessed(world, run_component, tmp_path):
    kernel = np.full((fakes.HEIGHT * fakes.WIDTH, fakes.CLASSES), np.nan, np.float32)
    broken = fakes.write_model(tmp_path / "nan", kernel, np.zeros(fakes.CLASSES, np.float32))
    inputs = Inputs(world.examples, broken, world.baseline)
    ran = run_component(COMPONENT, inputs, Params(), tmp_path / "run")
    assert blessing(ran)["sentence"] == (
        "not blessed: the candidate cannot be used: its answers are not finite numbers "
        "(NaN or infinite) for 1000 of 1000 images"
    )


def test_a_column_that_does_not_exist_is_one_clear_line(world, run_component, tmp_path):
    from bnpipe.data.errors import DataError

    inputs = Inputs(world.examples, world.candidate, world.baseline)
    with pytest.raises(DataError, match=r"expected a column of the examples \(ink_quartile, label"):
        run_component(COMPONENT, inputs, Params(slices=("colour",)), tmp_path)


def test_a_model_that_depends_on_its_batch_is_refused_though_evaluated_row_by_row(
    world, run_component, tmp_path, without_tfma
):
    import tensorflow as tf

    kernel, bias = fakes.fit(*fakes.draw(2000, seed=1))

    def serving_default(features):
        rows = tf.cast(tf.shape(features)[0], tf.float32)
        return {"probabilities": tf.nn.softmax((features @ kernel + bias) / tf.minimum(rows, 2.0))}

    candidate = fakes.write_other_model(tmp_path / "model", tf.Module(), serving_default)
    inputs = Inputs(world.examples, candidate, world.baseline)
    ran = run_component(COMPONENT, inputs, Params(batch_size=1), tmp_path / "run")
    assert not blessing(ran)["passed"]
    blocking = {r["name"] for r in blessing(ran)["rules"] if r["outcome"] == "block"}
    assert blocking == {"batch_invariance"}


def test_an_ink_quartile_without_images_is_not_blessed(
    world, run_component, tmp_path, without_tfma
):
    features, labels = fakes.draw(200, seed=2)
    examples = fakes.write_examples(tmp_path / "examples", features, labels)
    described = json.loads((examples.path / "dataset.json").read_text())
    # A fifth bucket, of which the split has no image.
    described["ink_cuts"] = [0.25, 0.5, 0.75, 0.9]
    (examples.path / "dataset.json").write_text(json.dumps(described))
    inputs = Inputs(examples, world.candidate, world.baseline)
    ran = run_component(COMPONENT, inputs, Params(slices=("ink_quartile",)), tmp_path / "run")
    (empty,) = [r for r in blessing(ran)["rules"] if r["name"] == "no_empty_slice"]
    assert empty["outcome"] == "block"
    assert empty["sentence"] == "no image to judge by in 1 slices (ink_quartile:4)"
