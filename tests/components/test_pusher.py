"""What the pusher publishes, what it refuses, and what it says before it does anything."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import pytest

from bnpipe.components.artifacts import Blessing, InfraBlessing, Model, PushedModel
from bnpipe.components.base import Ruling
from bnpipe.components.pusher import COMPONENT, Inputs, Params, effect
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, object_store, signing, standing, versions
from tests.serving.folder.served import DIGITS, saved_model


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return Params(base_path=str(tmp_path / "served"))


def inputs_of(folder: Path, content: str, **changes: Any) -> Inputs:
    """A model and its blessing. `changes` are keys of blessing.json, or `dataset`."""
    dataset = changes.pop("dataset", DIGITS)
    model = Model("trainer.model", folder / content / "model")
    saved_model(model.saved_model, content)
    (model.path / "model_card.json").write_text(json.dumps({"dataset": dataset}))
    blessing = {
        "passed": True,
        "sentence": "better than the baseline",
        "rules": [Ruling("accuracy", "block", "ok", "", 0.98, 0.97).to_json()],
        "champion": None,
        "model": tree_digest(model.saved_model),
        **changes,
    }
    path = folder / content / "blessing"
    path.mkdir()
    (path / "blessing.json").write_text(json.dumps(blessing))
    return Inputs(model=model, blessing=Blessing("evaluator.blessing", path))


def champion_of(base: Path) -> dict[str, Any]:
    found = standing.champion(base, None)
    assert found is not None
    return {"version": found.version, "digest": found.digest}


def test_it_publishes_a_blessed_model(run_component: Any, params: Params, tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, "a")
    assert effect(inputs, params).sentence == "publish"
    ran = run_component(COMPONENT, inputs, params, tmp_path / "out")
    base = Path(params.base_path)
    assert ran.facts["version"] == 1 and ran.facts["new"] is True
    assert versions.live(base) == 1
    assert json.loads((ran.outputs.pushed.path / "pushed.json").read_text()) == {
        "version": 1,
        "label": "stable",
        "base_path": str(base),
        "digest": tree_digest(inputs.model.saved_model),
    }
    assert effect(inputs, params) == COMPONENT.effect(inputs, params)  # type: ignore[misc]
    assert effect(inputs, params).needed is False
    assert effect(inputs, params).sentence == "up to date (v1 live)"


def test_provenance_says_where_the_version_came_from(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out")
    found = json.loads((tmp_path / "served" / "provenance" / "1.json").read_text())
    assert found["run"] == "test"
    assert found["dataset"] == DIGITS
    assert found["metrics"] == {"accuracy": 0.98}
    assert found["verdict"] == "better than the baseline"
    assert found["model_name"] == "mnist"
    assert {"code", "inputs", "digest", "compared_with", "version"} <= set(found)


def tried(inputs: Inputs, folder: Path, **changes: Any) -> Inputs:
    """The same, with the infra validator's verdict."""
    verdict = {
        "passed": True,
        "sentence": "served by stand-in",
        "server": "stand-in",
        "weaker": True,
        "model": tree_digest(inputs.model.saved_model),
        **changes,
    }
    (folder / "infra").mkdir()
    (folder / "infra" / "verdict.json").write_text(json.dumps(verdict))
    infra = InfraBlessing("infra_validator.infra_blessing", folder / "infra")
    return replace(inputs, infra_blessing=infra)


def test_provenance_says_how_the_version_was_tried(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    run_component(COMPONENT, tried(inputs_of(tmp_path, "a"), tmp_path), params, tmp_path / "out")
    found = json.loads((tmp_path / "served" / "provenance" / "1.json").read_text())
    assert found["trial"] == {
        "sentence": "served by stand-in",
        "server": "stand-in",
        "weaker": True,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"passed": False, "sentence": "not served: no"},
            "the model is not blessed: not served: no",
        ),
        ({"model": "0" * 64}, "the blessing is for another model"),
    ],
)
def test_a_model_that_was_not_served_is_not_published(
    run_component: Any, params: Params, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    inputs = tried(inputs_of(tmp_path, "a"), tmp_path, **changes)
    with pytest.raises(ServingError, match=message):
        run_component(COMPONENT, inputs, params, tmp_path / "out")
    assert versions.live(Path(params.base_path)) is None


def test_running_again_publishes_nothing(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    inputs = inputs_of(tmp_path, "a")
    run_component(COMPONENT, inputs, params, tmp_path / "out1")
    again = run_component(COMPONENT, inputs, params, tmp_path / "out2")
    assert again.facts["version"] == 1 and again.facts["new"] is False


def test_a_model_that_was_compared_with_none_does_not_replace_a_live_one(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out1")
    with pytest.raises(ServingError, match="compared with no champion, but v1 is live"):
        run_component(COMPONENT, inputs_of(tmp_path, "b"), params, tmp_path / "out2")
    assert versions.live(Path(params.base_path)) == 1


def test_a_rolled_back_model_is_held_back(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    base = Path(params.base_path)
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out1")
    bad = inputs_of(tmp_path, "b", champion=champion_of(base))
    run_component(COMPONENT, bad, params, tmp_path / "out2")
    labels.rollback(base, reason="wrong on sevens")
    state = effect(bad, params)
    assert (state.needed, state.sentence) == (False, "held back (v2 withdrawn: wrong on sevens)")
    with pytest.raises(ServingError, match=r"held back.*wrong on sevens.*push --force"):
        run_component(COMPONENT, bad, params, tmp_path / "out3")
    assert versions.live(base) == 1
    # What it was compared with is what its unchanged evaluation still says.
    champion = standing.champion(base, tree_digest(bad.model.saved_model))
    assert champion is not None and champion.version == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passed": False, "sentence": "accuracy 0.4 < 0.97"}, "not blessed: accuracy 0.4 < 0.97"),
        ({"passed": "yes"}, "not blessed"),
        ({"model": "0" * 64}, "blessing is for another model: expected digest .* received 0000"),
        ({"model": None}, "blessing is for another model"),
        ({"dataset": None}, "model_card.json: expected a dataset"),
        ({"dataset": {"height": 28}}, "model_card.json: expected a dataset"),
    ],
)
def test_it_refuses_what_is_not_blessed(
    run_component: Any, params: Params, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    inputs = inputs_of(tmp_path, "a", **changes)
    with pytest.raises(ServingError, match=message):
        run_component(COMPONENT, inputs, params, tmp_path / "out")
    assert not Path(params.base_path).exists()


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_damaged_blessing_is_one_line(
    run_component: Any, params: Params, tmp_path: Path, text: str
) -> None:
    inputs = inputs_of(tmp_path, "a")
    (inputs.blessing.path / "blessing.json").write_text(text)
    with pytest.raises(ServingError, match=r"evaluator.blessing.*blessing.json"):
        run_component(COMPONENT, inputs, params, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"name": "fashion_mnist"},
            'serves mnist: expected name "mnist", received "fashion_mnist"',
        ),
        ({"height": 32}, "serves mnist: expected height 28, received 32"),
        ({"width": 14}, "serves mnist: expected width 28, received 14"),
        ({"label_names": ["a", "b"]}, r'expected label_names .*, received \["a", "b"\]'),
    ],
)
def test_a_folder_is_for_one_data_set_shape_and_label_set(
    run_component: Any, params: Params, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    named = Params(base_path=params.base_path, model_name="digits")
    run_component(COMPONENT, inputs_of(tmp_path, "a"), named, tmp_path / "out1")
    champion = champion_of(Path(params.base_path))
    other = inputs_of(tmp_path, "b", dataset={**DIGITS, **change}, champion=champion)
    with pytest.raises(ServingError, match=message) as caught:
        run_component(COMPONENT, other, named, tmp_path / "out2")
    assert "\n" not in str(caught.value)
    assert versions.complete_versions(Path(params.base_path)) == [1]


def test_a_new_release_of_the_same_data_set_is_welcome(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out1")
    champion = champion_of(Path(params.base_path))
    newer = inputs_of(tmp_path, "b", dataset={**DIGITS, "version": "3.1.0"}, champion=champion)
    assert run_component(COMPONENT, newer, params, tmp_path / "out2").facts["version"] == 2


def test_a_folder_is_for_one_model_name(run_component: Any, params: Params, tmp_path: Path) -> None:
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out1")
    renamed = Params(base_path=params.base_path, model_name="digits")
    other = inputs_of(tmp_path, "b", champion=champion_of(Path(params.base_path)))
    with pytest.raises(ServingError, match="serves the model 'mnist', received 'digits'"):
        run_component(COMPONENT, other, renamed, tmp_path / "out2")


@pytest.mark.parametrize("name", ["../up", "a/b", "Mnist"])
def test_a_model_name_that_is_a_path_is_refused(
    run_component: Any, params: Params, tmp_path: Path, name: str
) -> None:
    bad = Params(base_path=params.base_path, model_name=name)
    with pytest.raises(ServingError, match="model name: expected"):
        run_component(COMPONENT, inputs_of(tmp_path, "a"), bad, tmp_path / "out")


def test_a_data_set_with_a_slash_gives_a_valid_model_name(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    inputs = inputs_of(tmp_path, "a", dataset={**DIGITS, "name": "emnist/digits"})
    run_component(COMPONENT, inputs, params, tmp_path / "out")
    assert 'name: "emnist-digits"' in (tmp_path / "served" / "models.config").read_text()


def test_it_refuses_when_another_version_went_live_since_the_evaluation(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    base = Path(params.base_path)
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out1")
    late = inputs_of(tmp_path, "c", champion=champion_of(base))
    other = inputs_of(tmp_path, "b", champion=champion_of(base))
    run_component(COMPONENT, other, params, tmp_path / "out2")
    with pytest.raises(ServingError, match=r"compared with v1, live is v2; .*bnpipe run"):
        run_component(COMPONENT, late, params, tmp_path / "out3")


def test_what_it_was_compared_with_is_recorded_by_its_number_in_this_folder(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    base = Path(params.base_path)
    run_component(COMPONENT, inputs_of(tmp_path, "a"), params, tmp_path / "out1")
    # The same champion had another number in the folder where the evaluation was made.
    champion = {**champion_of(base), "version": 41}
    inputs = inputs_of(tmp_path, "b", champion=champion)
    run_component(COMPONENT, inputs, params, tmp_path / "out2")
    assert versions.provenance_of(base, 2)["compared_with"] == 1


def test_old_versions_are_removed(run_component: Any, tmp_path: Path) -> None:
    params = Params(base_path=str(tmp_path / "served"), keep_versions=2)
    base = Path(params.base_path)
    for number, content in enumerate("abcde"):
        champion = champion_of(base) if number else None
        inputs = inputs_of(tmp_path, content, champion=champion)
        run_component(COMPONENT, inputs, params, tmp_path / f"out{number}")
    assert versions.complete_versions(base) == [4, 5]


def test_an_upload_that_was_cut_is_work_to_do(
    run_component: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any) -> None:
        raise ServingError("cut")

    url = f"file://{tmp_path}/bucket"
    params = Params(base_path=str(tmp_path / "served"), store_url=url)
    inputs = inputs_of(tmp_path, "a")
    monkeypatch.setattr(object_store, "mirror", cut)
    with pytest.raises(ServingError, match="cut"):
        run_component(COMPONENT, inputs, params, tmp_path / "out1")
    monkeypatch.undo()
    assert effect(inputs, params).sentence == f"publish (finish the upload to {url})"
    assert run_component(COMPONENT, inputs, params, tmp_path / "out2").facts["new"] is False
    assert effect(inputs, params).sentence == "up to date (v1 live)"
    assert versions.is_complete(tmp_path / "bucket", 1)


def test_an_empty_base_path_is_refused(run_component: Any, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="base_path is empty"):
        run_component(COMPONENT, inputs_of(tmp_path, "a"), Params(), tmp_path / "out")


def test_where_it_publishes_is_not_part_of_its_key() -> None:
    from bnpipe.components.base import key_params

    assert "base_path" not in key_params(Params(base_path="/somewhere"))


def test_importing_it_loads_no_framework() -> None:
    program = (
        "import sys, components.pusher\n"
        "heavy = {'tensorflow', 'numpy', 'apache_beam', 'keras'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    root = Path(__file__).parents[2]
    done = run_process([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_artifact_holds_what_it_promises(tmp_path: Path) -> None:
    (tmp_path / "pushed").mkdir()
    with pytest.raises(Exception, match=r"no pushed\.json"):
        PushedModel("pusher.pushed", tmp_path / "pushed").check()


def test_signing_that_is_switched_on_is_to_be_done_though_the_model_is_live(
    run_component: Any, params: Params, tmp_path: Path
) -> None:
    inputs = inputs_of(tmp_path, "a")
    run_component(COMPONENT, inputs, params, tmp_path / "out")
    signing.make_keys(tmp_path / "key")
    signed = replace(params, signing_key=str(tmp_path / "key"))
    assert effect(inputs, signed).sentence == "publish (sign v1)"
    ran = run_component(COMPONENT, inputs, signed, tmp_path / "out2")
    assert (ran.facts["version"], ran.facts["new"]) == (1, False)
    assert effect(inputs, signed).sentence == "up to date (v1 live)"
    (tmp_path / "key").unlink()
    with pytest.raises(ServingError, match=r"serving\.signing_key .* expected a readable PEM file"):
        effect(inputs, signed)
