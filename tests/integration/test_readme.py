"""The README works as written.

Its `sh` blocks run in order, the first in a shell of its own, in a folder that looks like a fresh
checkout and has a `bnpipe.yaml` for few rendered digits; then its `python` blocks, in order.
"""

import dataclasses
import lzma
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

import pytest

from bnpipe.components.study.claims import claims_of
from bnpipe.components.study.results import parse
from bnpipe.components.study.verdicts import judge
from bnpipe.pipeline.cli.app import app
from bnpipe.pipeline.configuration.config import Config, from_values, parse_yaml
from bnpipe.pipeline.engine.errors import ExitCode
from tests.child import ROOT, environment
from tests.integration.conftest import First, MakeProject, steps

pytestmark = pytest.mark.timeout(1200)
ROOMS = ("pipeline", "components", "data", "serving", "tests")
README = (ROOT / "README.md").read_text()


class Block(NamedTuple):
    """A fenced block: what follows its fence, and its text."""

    info: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(.*)\n((?:.*\n)*?)^```$", README, re.M)]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"^```(?:.*\n)*?^```$", "", README, flags=re.M))


def blocks(info: str) -> list[str]:
    found = [block.text for block in BLOCKS if block.info == info]
    assert found, f"README has no block marked {info!r}"
    return found


def table(head: str) -> dict[str, str]:
    """First and second column of the table whose head row starts so."""
    rows = README.split(f"\n{head}", 1)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first: second for first, second, *_ in cells}


@pytest.fixture(scope="module")
def shell(first_run: First) -> list[str]:
    """What the shell blocks printed."""
    first, *others = blocks("sh")
    assert first == "make run\n"
    parted = "\n".join(f"echo '--- block'\n{text}" for text in others)
    return [first_run.run.printed, *first_run.project.typed(parted).split("--- block")[1:]]


def test_shell_blocks_run_in_order(shell: list[str]) -> None:
    first, second, serving, schedule, spoiled = shell
    assert "pushed    v1 is live in" in first
    assert "up to date (v1 live)" in second
    assert re.search(r"^trainer +> run ", second, re.M)
    assert 'schedule: "constant" -> "cosine"' in second
    assert "latest/trainer is in model" in second
    assert '"state": "AVAILABLE"' in serving
    assert re.search(r"black\.png +\d", serving)
    assert re.search(r"\d\d passed", serving)
    assert "nothing is due; next" in schedule
    assert "served    v2" in schedule
    assert re.search(r"^verdict +data blocked: .* in train/span-1", spoiled, re.M)
    assert "overview.html" in spoiled


def test_what_the_plan_named_is_what_ran(first_run: First, shell: list[str]) -> None:
    planned = re.findall(r"^(\w+) +> run ", shell[1], re.M)
    runs = map(steps, first_run.project.json("runs"))  # newest first; the last one was refused
    ran = next(run for run in runs if run["trainer"] == "run")
    assert {"trainer", "evaluator", "pusher"} <= set(planned) < set(ran)
    assert [name for name, action in ran.items() if action == "run"] == planned


def test_python_blocks_run(first_run: First, shell: list[str]) -> None:
    for text in blocks("python"):
        subprocess.run(
            [sys.executable, "-c", text],
            cwd=first_run.project.folder,
            env=environment(),
            check=True,
            capture_output=True,
        )


def test_configuration_blocks_are_valid() -> None:
    for text in blocks("yaml"):
        from_values(parse_yaml(text, "README.md"))


def test_picture_is_the_pipeline(make_project: MakeProject) -> None:
    assert blocks("mermaid") == [make_project("").call("graph", "--format", "mermaid")]


def test_exit_codes_are_all_there() -> None:
    codes = "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode)
    assert f"\nExit codes: {codes}.\n" in README


def test_the_verdicts_are_those_of_the_stored_study_of_mnist() -> None:
    stored = lzma.decompress((ROOT / "tests/components/study/mnist.jsonl.xz").read_bytes())
    findings = judge(claims_of(parse(stored.decode().splitlines())))
    rows = [
        f"| {claim.letter}: {claim.title} | {claim.measured} | {f.effect_text} | {f.verdict} |"
        for f in findings
        for claim in [f.claim]
    ]
    assert "\n".join(rows) in README


def test_sections_of_the_configuration_are_all_there() -> None:
    sections = [f"`{field.name}`" for field in dataclasses.fields(Config)]
    assert list(table("| section")) == sections


def test_commands_in_the_text_exist() -> None:
    import typer.main

    verbs = typer.main.get_command(app()).commands  # type: ignore[attr-defined]
    commands = [shlex.split(text) for text in INLINE if text.startswith("bnpipe ")]
    assert commands
    for _, verb, *words in (c for c in commands if c[1].islower()):
        command = verbs[verb]
        if hasattr(command, "commands"):
            command = command.commands[words[0]]
        known = {"--help", *(name for p in command.params for name in p.opts)}
        asked = {w.split("=")[0] for w in words if w.startswith("-")}
        if "--" in asked:  # what follows is for Beam
            asked = {w for w in words[: words.index("--")] if w.startswith("-")}
        assert asked <= known, f"bnpipe {verb}: {asked - known}"


def test_files_and_targets_in_the_text_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for text in INLINE:
        if re.fullmatch(rf"({'|'.join(ROOMS)})/[\w./]+", text):
            assert (ROOT / text).exists(), text
        if text.startswith("make "):
            assert f"\n{text.split()[1]}:" in makefile, text


FOLDERS = [p for room in ROOMS for p in sorted((ROOT / room).rglob("README.md"))]


def test_readmes_are_short() -> None:
    assert len(README.splitlines()) <= 200
    long = [p for p in FOLDERS if len(p.read_text().splitlines()) > 40]
    assert len(FOLDERS) > len(ROOMS) and long == []


def test_readmes_of_folders_list_modules_that_are_there() -> None:
    for path in FOLDERS:
        rows = re.findall(r"^\|([^|]*)\|", path.read_text(), re.M)
        for name in re.findall(r"`([\w/]+\.py)`", " ".join(rows)):
            assert (path.parent / name).is_file(), f"{path}: {name}"
