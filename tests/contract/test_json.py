"""All our JSON is JSON: every writer goes by one owner, which writes neither NaN nor Infinity."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWNER = "data/json_text.py"
# Says, in texts, that nothing of ours can be imported.
ALONE = {"pipeline/cli/__init__.py"}
# Requests to TensorFlow Serving, and the stand-in's answers: there NaN and Infinity are numbers.
DIALECT = {"serving/client/rest.py", "serving/local/codec.py"}
WRITERS = {"dump", "dumps", "JSONEncoder", "MessageToJson", "to_json_string"}


def writers(path: Path) -> Iterator[str]:
    """The calls and imports of a module that write JSON."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in WRITERS:
            name = ast.unparse(node)
            if name not in ("ast.dump", "pickle.dumps"):
                yield name
        elif isinstance(node, ast.ImportFrom) and node.module in ("json", "google.protobuf.json"):
            yield from (alias.name for alias in node.names if alias.name in WRITERS)


def test_every_writer_of_json_goes_by_the_owner() -> None:
    found = {}
    for room in ("pipeline", "components", "data", "serving"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if names := list(writers(path)):
                found[path.relative_to(ROOT).as_posix()] = names
    assert set(found.pop(OWNER)) == {"json.dumps"}
    assert set(found) == DIALECT | ALONE, "write it by bnpipe.data.json_text"


def test_templates_write_no_json_of_their_own() -> None:
    for path in sorted(ROOT.glob("*/**/*.j2")):
        assert "tojson" not in path.read_text(), path
