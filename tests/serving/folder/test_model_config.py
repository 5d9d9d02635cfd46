"""models.config is replaced when it is ours, and left alone when others wrote in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import object_store, standing, versions
from tests.serving.folder.served import config_of, push

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")

TWO_MODELS = """# ours, for two teams
model_config_list {
  config { name: "fraud" base_path: "/srv/.bnpipe/served/fraud" model_platform: "tensorflow" }
  config { name: "mnist" base_path: "/srv/mnist" version_labels { key: "stable" value: 1 } }
}
"""


def test_a_config_that_people_wrote_is_never_overwritten(base: Path, model: MakeModel) -> None:
    base.mkdir(parents=True)
    (base / "models.config").write_text(TWO_MODELS)
    with pytest.raises(ServingError, match=r"models\.config was not written by bnpipe") as refused:
        push(base, model("a"), compared_with=None)
    assert refused.value.hint == "set serving.base_path to a folder of its own"
    assert (base / "models.config").read_text() == TWO_MODELS
    assert versions.complete_versions(base) == []
    for look in (versions.live, lambda base: standing.champion(base, None)):
        with pytest.raises(ServingError, match="not written by bnpipe"):
            look(base)  # what `plan` does: said before anything runs


@pytest.mark.parametrize("written", ['  config { name: "b" }\n}\n', "  config: < name: 'b' >\n}\n"])
def test_a_model_that_people_added_to_our_config_stays(
    base: Path, model: MakeModel, written: str
) -> None:
    push(base, model("a"))
    ours = (base / "models.config").read_text()
    theirs = ours.removesuffix("}\n") + written
    (base / "models.config").write_text(theirs)
    with pytest.raises(ServingError, match="lists other models too"):
        push(base, model("b"), compared_with=1)
    assert (base / "models.config").read_text() == theirs
    (base / "models.config").write_text(ours)
    assert push(base, model("c")).version == 2
    assert config_of(base).name == "mnist"


def test_one_label_spells_out_the_edit_and_goes_where_stable_goes(
    base: Path, model: MakeModel
) -> None:
    marks = set()
    for content in "abc":
        push(base, model(content))
        named = dict(config_of(base).version_labels)
        (mark,) = named.keys() - {"stable"}
        assert named[mark] == named["stable"]
        marks.add(mark)
    assert marks == {
        "in_force_1_stable_1",
        "in_force_1_2_stable_2",
        "in_force_2_3_stable_3",
    }


def test_a_config_that_people_put_into_the_object_store_is_not_overwritten(
    base: Path, url: str, model: MakeModel
) -> None:
    push(base, model("a"))
    with object_store.opened(url) as bucket:
        bucket.put("models.config", TWO_MODELS.encode())
        with pytest.raises(ServingError, match="not written by bnpipe"):
            object_store.check(base, url)  # every verb does that before it changes something
        with pytest.raises(ServingError, match="not written by bnpipe"):
            object_store.mirror(base, url)
        assert bucket.read("models.config").decode() == TWO_MODELS
