"""Every image is answered by networks that did not learn it, with the same bytes each time."""

import numpy as np
import pytest

from bnpipe.components.cross_validation import COMPONENT, Inputs, Params, work
from bnpipe.components.network.loop import program_for
from bnpipe.data.sources.digit_renderer import draw_chunk
from tests.components.label_validator import label_data


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    images, labels = draw_chunk(5, "train", 0)
    # Half of the labels are of no image: whoever has learned an image knows them nevertheless.
    labels = labels.copy()
    labels[:500] = np.random.default_rng(0).integers(0, 10, 500)
    splits = {"train": (images[:700], labels[:700]), "test": (images[700:900], labels[700:900])}
    return label_data.write(tmp_path_factory.mktemp("cross") / "examples", splits)


@pytest.fixture(scope="module")
def ran(examples, run_component, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross")
    return run_component(COMPONENT, Inputs(examples=examples), Params(), folder / "run")


def test_no_answer_is_from_a_network_that_knows_the_label(ran, examples):
    answers = np.load(ran.outputs.answers.path / "probabilities.npy")
    assert answers.shape == (900, 10) and answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    random = np.random.default_rng(0).integers(0, 10, 500)
    assert np.mean(answers[:500].argmax(axis=1) == random) < 0.25  # a tenth by chance
    assert ran.facts["images"] == 900


def test_again_the_bytes_are_the_same_and_with_another_seed_others(
    ran, examples, run_component, tmp_path
):
    def read(made):
        return (made.outputs.answers.path / "probabilities.npy").read_bytes()

    given = Inputs(examples=examples)
    again = run_component(COMPONENT, given, Params(), tmp_path / "again")
    assert read(again) == read(ran)
    other = run_component(COMPONENT, given, Params(seed=1), tmp_path / "other")
    assert read(other) != read(ran)


@pytest.mark.parametrize("images", [700, 701])
def test_what_was_compiled_before_there_were_images_is_used_if_they_are_as_expected(
    images, ran, examples, run_component, monkeypatch, tmp_path
):
    monkeypatch.setattr(work, "EXPECTED", (images, 14 * 14, 10))
    monkeypatch.setattr(work, "_ready", {})
    compiled = []

    def counted(*args):
        compiled.append(program_for(*args))
        return compiled[-1]

    monkeypatch.setattr(work, "program_for", counted)
    COMPONENT.ahead(Params())
    again = run_component(COMPONENT, Inputs(examples=examples), Params(), tmp_path / "again")
    assert len(compiled) == (1 if images == 700 else 2)
    assert [p._many_steps.experimental_get_tracing_count() for p in compiled] == [1] * len(compiled)
    name = "probabilities.npy"
    assert (again.outputs.answers.path / name).read_bytes() == (
        ran.outputs.answers.path / name
    ).read_bytes()
