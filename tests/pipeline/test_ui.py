"""What a run looks like on a terminal and elsewhere."""

import os
import pty
import select
from collections.abc import Sequence

import pytest

from bnpipe.pipeline import ui
from bnpipe.pipeline.engine.events import Event, Progress, RunFinished, StepErrored

WORK: Sequence[Event] = (
    Progress("train", 1, 2, "epoch"),
    StepErrored("train", "broke", "/home/[bold]/runs/0001/logs/train.log"),
    RunFinished({}),
)


def on_terminal(monkeypatch: pytest.MonkeyPatch, **environ: str) -> str:
    """What a terminal receives."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "120", **environ}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", stream)
        view = ui.RunView()
        for event in WORK:
            view(event)
        view.close()
        told = b""
        while select.select([ours], [], [], 0.5)[0]:  # a terminal gives it in pieces
            told += os.read(ours, 65536)
    os.close(ours)
    return told.decode()


def test_a_terminal_has_a_live_line_and_the_log_as_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = on_terminal(monkeypatch)
    assert "1/2 epoch" in told and "\x1b[?25l" in told
    assert "/home/[bold]/runs/0001/logs/train.log" in told


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colour_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    told = on_terminal(monkeypatch, **environ)
    assert told.split() == ["✗", "train", "failed", "log:", "/home/[bold]/runs/0001/logs/train.log"]
