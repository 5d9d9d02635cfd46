"""Code digests: what an edit changes, and what it does not."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine import fingerprint
from bnpipe.pipeline.engine.fingerprint import (
    ROOT,
    CodeDigests,
    differences,
    digest_of,
    environment,
)

STEP = '''"""A step."""

import json
from dataclasses import dataclass

from bnpipe.data import helper
from bnpipe.serving.other import answer


@dataclass
class Params:
    """Parameters."""

    size: int = 3
    """Number of things."""


def run(n: int) -> str:
    """Runs."""
    from bnpipe.data.late import later

    # as text
    return json.dumps(helper.double(n) + later(n) + answer)
'''
FILES = {
    "components/__init__.py": '"""Steps."""\n',
    "components/step.py": STEP,
    "components/alone.py": "def run():\n    return 1\n",
    "data/__init__.py": "",
    "data/helper.py": "def double(n):\n    return 2 * n\n",
    "data/late.py": "from bnpipe.data.deep import depth\n\n\ndef later(n):\n    return n + depth\n",
    "data/deep.py": "depth = 1\n",
    "data/unused.py": "x = 1\n",
    "serving/__init__.py": "",
    "serving/other.py": "answer = 42\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def edit(tree: Path, name: str, change: Callable[[str], str]) -> None:
    old = (tree / name).read_text()
    assert change(old) != old
    (tree / name).write_text(change(old))


def closure(tree: Path, module: str = "bnpipe.components.step") -> dict[str, str]:
    return CodeDigests(tree).closure([module])


def changed_names(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name, _, _ in differences(before, after)]


def test_the_closure_is_what_is_imported_and_no_more(tree: Path) -> None:
    assert set(closure(tree)) == {
        "bnpipe.components",
        "bnpipe.components.step",
        "bnpipe.data",
        "bnpipe.data.helper",
        "bnpipe.data.late",
        "bnpipe.data.deep",
        "bnpipe.serving",
        "bnpipe.serving.other",
    }
    assert set(closure(tree, "bnpipe.components.alone")) == {
        "bnpipe.components",
        "bnpipe.components.alone",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("# as text", "# in other words\n    # and more of them"),
        lambda text: text.replace("    # as text\n", ""),
        lambda text: text.replace('"""A step."""', '"""Another way\n\nto say it.\n"""'),
        lambda text: text.replace('    """Runs."""\n', ""),
        lambda text: text.replace('"""Number of things."""', '"""How many."""'),
        lambda text: text.replace("(n: int)", "(\n    n: int,\n)"),
        lambda text: text.replace("\n\n\n", "\n\n\n\n\n"),
        lambda text: text.replace('"""Parameters."""', "'''Parameters.'''"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(
    tree: Path, change: Callable[[str], str]
) -> None:
    before = closure(tree)
    edit(tree, "components/step.py", change)
    assert closure(tree) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("size: int = 3", "size: int = 4"),
        lambda text: text.replace("size: int", "size: float"),
        lambda text: text.replace("+ answer", "- answer"),
        lambda text: text.replace("def run", "def runs"),
        lambda text: text.replace("@dataclass\n", "@dataclass()\n"),
    ],
)
def test_code_counts(tree: Path, change: Callable[[str], str]) -> None:
    before = closure(tree)
    edit(tree, "components/step.py", change)
    assert changed_names(before, closure(tree)) == ["bnpipe.components.step"]


@pytest.mark.parametrize("name", ["data/helper.py", "data/deep.py", "serving/other.py"])
def test_a_helper_changes_what_imports_it_and_nothing_else(tree: Path, name: str) -> None:
    before, alone = closure(tree), closure(tree, "bnpipe.components.alone")
    edit(tree, name, lambda text: text + "\nmore = 1\n")
    assert changed_names(before, closure(tree)) == [f"bnpipe.{name[:-3]}".replace("/", ".")]
    assert closure(tree, "bnpipe.components.alone") == alone


def test_a_package_s_init_counts_for_all_its_modules(tree: Path) -> None:
    before = closure(tree)
    edit(tree, "data/__init__.py", lambda text: "import os\n")
    assert changed_names(before, closure(tree)) == ["bnpipe.data"]


def test_unused_modules_do_not_count(tree: Path) -> None:
    before = closure(tree)
    edit(tree, "data/unused.py", lambda text: "x = 2\n")
    assert closure(tree) == before


def test_two_modules_that_import_each_other_end(tree: Path) -> None:
    edit(tree, "data/deep.py", lambda text: "import bnpipe.data.late\n" + text)
    assert "bnpipe.data.late" in closure(tree)


def test_every_kind_of_import_is_followed(tree: Path) -> None:
    forms = (
        "import bnpipe.data.unused",
        "import bnpipe.data.unused as u",
        "from bnpipe.data import unused",
        "from bnpipe.data.unused import x",
        "from bnpipe.data.unused import *",
        "def f():\n    import bnpipe.data.unused",
        "try:\n    import bnpipe.data.unused\nexcept ImportError:\n    pass",
        "if True:\n    from bnpipe.data import helper, unused",
    )
    for form in forms:
        (tree / "components" / "alone.py").write_text(form + "\n")
        assert "bnpipe.data.unused" in closure(tree, "bnpipe.components.alone"), form


def test_the_memo_saves_parsing_and_changes_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = tree / "code.json"
    first = CodeDigests(tree, memo)
    expected = first.closure(["bnpipe.components.step"])
    first.save()
    assert [p.name for p in tree.glob("code*")] == ["code.json"]
    edit(tree, "components/step.py", lambda text: text.replace("# as text", "#"))
    parsed = []
    real = CodeDigests._module.__globals__["ast"].parse
    monkeypatch.setattr("ast.parse", lambda text: parsed.append(text) or real(text))
    assert CodeDigests(tree, memo).closure(["bnpipe.components.step"]) == expected
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "content", [b"", b'{"abc": ["d', b"\xff\x00", b"[]", b"3", b'{"abc": 1}', b'{"abc": ["d"]}']
)
def test_a_damaged_memo_costs_time_only(tree: Path, content: bytes) -> None:
    memo = tree / "code.json"
    memo.write_bytes(content)
    digests = CodeDigests(tree, memo)
    assert digests.closure(["bnpipe.components.step"]) == closure(tree)
    digests.save()
    assert len(json.loads(memo.read_text())) >= len(closure(tree)) - 2  # empty files share one


def test_a_memo_that_cannot_be_written_is_done_without(tree: Path) -> None:
    memo = tree / "code.json"
    memo.mkdir()
    digests = CodeDigests(tree, memo)
    assert digests.closure(["bnpipe.components.step"]) == closure(tree)
    digests.save()


def test_looking_again_sees_edits(tree: Path) -> None:
    digests = CodeDigests(tree)
    before = digests.closure(["bnpipe.components.step"])
    edit(tree, "data/deep.py", lambda text: "depth = 2\n")
    assert digests.closure(["bnpipe.components.step"]) == before
    assert changed_names(before, digests.again().closure(["bnpipe.components.step"])) == [
        "bnpipe.data.deep"
    ]


def test_equal_values_have_equal_digests() -> None:
    assert digest_of({"b": (1, 2), "a": None}) == digest_of({"a": None, "b": [1, 2]})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5}) != digest_of({"a": "1"})


def test_differences_have_dotted_names_and_both_values() -> None:
    before = {"a": 1, "b": {"c": 2, "d": [1]}, "e": 1}
    after = {"a": 1, "b": {"c": 3, "d": [1]}, "f": 1}
    expected = [("b.c", 2, 3), ("e", 1, None), ("f", None, 1)]
    assert list(differences(before, after)) == expected


def test_the_environment_names_the_libraries_that_compute() -> None:
    found = environment()
    assert {"python", "tensorflow", "keras", "numpy", "apache-beam"} <= set(found)
    assert found["python"].count(".") == 1


# What a Python says of these, each of them says in another way.
PARTS = '''
class Empty: ...
async def parts(*, width=3) -> list[int]:
    """A docstring."""
    print("a" f"b{width=:>{width}}" "c", f"{width!r:^{width}.{width}}%", f"", f"{{{width}}}")
    return []
'''


def test_a_digest_of_code_is_the_same_under_every_python(tree: Path) -> None:
    (tree / "components" / "alone.py").write_text(PARTS)
    digest = closure(tree, "bnpipe.components.alone")["bnpipe.components.alone"]
    assert digest == ("b103d6ebddcc16220aa9d6aa9306665de7af2d4926778d3e75e3666a15700ba7")


def test_keys_are_of_the_code_that_is_imported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = CodeDigests().closure(["bnpipe.data.errors"])
    places = ModuleSpec("bnpipe.data", None, is_package=True)
    places.submodule_search_locations = [str(tree / "data")]
    monkeypatch.setattr(importlib.util, "find_spec", {"bnpipe.data": places}.get)
    fingerprint._folder.cache_clear()
    (tree / "data" / "errors.py").write_text("other = 1\n")
    (tree / "data" / "__init__.py").write_text("other = 1\n")
    try:
        assert CodeDigests().path("data/x.pbtxt") == tree / "data" / "x.pbtxt"
        assert changed_names(here, CodeDigests().closure(["bnpipe.data.errors"])) == [
            "bnpipe.data",
            "bnpipe.data.errors",
        ]
    finally:
        fingerprint._folder.cache_clear()


# The product's own graph


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    for package in ("pipeline", "components", "serving", "data"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignore)
    return root


def steps(root: Path) -> dict[str, dict[str, str]]:
    """Closure of every step of the product."""
    digests = CodeDigests(root)
    nodes = build(from_values({}), root).nodes
    return {
        name: digests.closure([node.component.module, *node.component.uses])
        for name, node in nodes.items()
    }


def test_a_comment_in_any_file_of_the_product_changes_no_step(copied: Path) -> None:
    before = steps(copied)
    originals = {path: path.read_text() for path in copied.rglob("*.py")}
    for path, text in originals.items():
        path.write_text(text + "\n# A remark.\n")
    after = steps(copied)
    for path, text in originals.items():
        path.write_text(text)
    assert after == before


def test_an_edited_helper_changes_exactly_the_steps_that_use_it(copied: Path) -> None:
    before = steps(copied)
    original = (copied / "data" / "preprocessing.py").read_text()
    edit(copied, "data/preprocessing.py", lambda text: text + "\nEDITED = True\n")
    after = steps(copied)
    (copied / "data" / "preprocessing.py").write_text(original)
    changed = {name for name in before if before[name] != after[name]}
    assert {"transform", "trainer", "baseline"} <= changed
    assert not {"example_gen", "pusher"} & changed
    using = {name for name in before if "bnpipe.data.preprocessing" in before[name]}
    assert changed == using
    for name in changed:
        assert changed_names(before[name], after[name]) == ["bnpipe.data.preprocessing"]


def test_no_step_depends_on_the_machinery_or_on_tests() -> None:
    for name, modules in steps(ROOT).items():
        assert not {m for m in modules if m.startswith(("bnpipe.pipeline", "tests"))}, name


def test_steps_do_not_import_one_another() -> None:
    found = steps(ROOT)
    assert not {m for m in found["transform"] if m.startswith("bnpipe.components.trainer")}
    assert not {m for m in found["pusher"] if m.startswith("bnpipe.components.evaluator")}
