"""Everything that a person sees on the terminal; the only module that knows rich.

On a terminal a run has a live line for each step at work. Elsewhere (a file, CI, NO_COLOR) it is
plain lines. The stream is a copy of stdout, because steps have their stdout sent to their logs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bnpipe.data.errors import BnpipeError
from bnpipe.data.json_text import json_text
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.events import (
    Event,
    GateDecided,
    NotDrawn,
    Progress,
    RunStarted,
    StepErrored,
    StepFinished,
    StepRetried,
    StepStarted,
)
from bnpipe.pipeline.engine.plan import Action, Plan

_MARKS = {
    Action.RUN: ("✓", "green"),
    Action.CACHED: ("=", "dim"),
    Action.KEEP: ("=", "dim"),
    Action.STOPPED: (" ", "yellow"),
}
_SHOWN_FACTS = 3


def _console(stream: IO[str]) -> Console:
    return Console(
        file=stream,
        highlight=False,
        soft_wrap=True,
        width=None if stream.isatty() else 200,
        emoji=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def say(text: str, *, style: str | None = None) -> None:
    """One line to stdout."""
    _console(sys.stdout).print(Text(text, style=style or ""))


def write(text: str) -> None:
    """Text to stdout as it is: for pipes."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def write_raw(data: bytes) -> None:
    """Bytes to stdout as they are, at once: a log may end in the middle of a line."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_json(value: Any) -> None:
    """JSON to stdout; indented for people, one line for scripts."""
    indent = 2 if sys.stdout.isatty() else None
    write(json_text(value, indent=indent, default=str))


def answer(value: Any, *lines: str, as_json: bool) -> None:
    """The answer of a verb: one JSON value for scripts, or lines for people."""
    if as_json:
        write_json(value)
        return
    for line in lines:
        say(line)


@contextmanager
def heard_or_not(stream: IO[str]) -> Iterator[None]:
    """Work outlives its audience: a reader that went away or a full disk behind a stream ends none.

    Args:
        stream: sys.stdout or sys.stderr; what cannot be written is dropped, and all after it.
    """
    with suppress(OSError, SystemExit):  # rich makes the second of a BrokenPipeError
        yield
    drop_unwritten(stream)


def drop_unwritten(stream: IO[str]) -> None:
    """Flush a stream; if it cannot be, make it /dev/null: Python's exit would fail on it too."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def error(problem: BaseException, *, trace: bool = False) -> None:
    """An error in one line (and its traceback, if asked for)."""
    hint = f" → {problem.hint}" if isinstance(problem, BnpipeError) and problem.hint else ""
    text = problem.headline if isinstance(problem, BnpipeError) else one_line(problem)
    line = f"[bold red]error:[/] {escape(' '.join(text.split()))}[bold]{escape(hint)}[/]"
    with heard_or_not(sys.stderr):
        stderr = _console(sys.stderr)
        if trace:
            import traceback

            stderr.print("".join(traceback.format_exception(problem)), markup=False)
        stderr.print(line)


def warn(text: str) -> None:
    """Something that went wrong beside the work that was asked for."""
    line = escape(" ".join(text.split()))
    with heard_or_not(sys.stderr):
        _console(sys.stderr).print(f"[bold yellow]warning:[/] {line}")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A plain table: names above, no frame."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else escape(str(cell)) for cell in row))
    _console(sys.stdout).print(shown)


def show_plan(plan: Plan) -> None:
    """The plan as a table: step, action, why, time it took last."""
    rows = []
    for step in plan.steps:
        mark, style = _MARKS[step.action]
        runs = step.action is Action.RUN
        estimate = f"{step.estimate:.1f} s" if runs and step.estimate else ""
        why = "; ".join(r.sentence for r in step.reasons)
        action = Text(f"{'>' if runs else mark} {step.action}", style=style)
        rows.append((step.name, action, estimate, why))
    table(("step", "action", "last time", "why"), rows)
    say(_outlook(plan))


def _outlook(plan: Plan) -> str:
    """The work of a run, in one line."""
    if plan.work:
        known = sum(s.estimate or 0.0 for s in plan.work)
        steps = f"{len(plan.work)} of {len(plan.steps)} steps"
        return f"{steps} to run, about {known:.0f} s by last time"
    stopped = [s for s in plan.steps if s.action is Action.STOPPED]
    if stopped:
        by = {r.sentence.partition(":")[0]: None for s in stopped for r in s.reasons}
        count = f"{len(stopped)} step{'s' if len(stopped) > 1 else ''}"
        return f"nothing to run: {count} {', '.join(by)}"
    return "nothing to do: every step is answered from the cache"


class RunView:
    """A sink that shows a run as it happens."""

    def __init__(self) -> None:
        # The copy outlives the redirection of descriptor 1 while steps run.
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        self._console = _console(self._stream)
        self._live: Live | None = None
        self._lines: dict[str, str] = {}
        self._width = 12

    def __call__(self, event: Event) -> None:
        """Show one event; once nobody can read it any more, nothing: the run goes on."""
        with heard_or_not(self._stream):
            self._view(event)

    def _view(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._width = max((len(s.name) for s in event.steps), default=12)
                run = sum(s.action is Action.RUN for s in event.steps)
                self._print(
                    f"[bold]run {event.run}[/]  {escape(event.dataset)}  "
                    f"{len(event.steps)} steps, {run} to run"
                )
            case StepStarted():
                why = "; ".join(r.sentence for r in event.plan.reasons)
                again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                self._show(event.plan.name, f"{escape(why)}{again}")
            case Progress():
                share = f"{event.done}/{event.total}" if event.total else str(event.done)
                self._show(event.step, f"{share} {escape(event.note)}")
            case StepRetried():
                self._print(
                    f"[yellow]! {event.step:<{self._width}}  {escape(event.error)}; "
                    f"again in {event.wait:.1f} s[/]"
                )
            case StepFinished():
                self._lines.pop(event.plan.name, None)
                self._print(self._finished(event))
            case GateDecided() if not event.passed:
                self._print(f"[red]✗ {event.step:<{self._width}}  {escape(event.sentence)}[/]")
            case NotDrawn():
                self._print(f"[yellow]! the report could not be drawn: {escape(event.error)}[/]")
            case StepErrored():
                self._lines.pop(event.step, None)
                ending = f"failed[/]  log: {escape(event.log)}" if event.log else "locked[/]"
                self._print(f"[red]✗ {event.step:<{self._width}}  {ending}")

    def close(self) -> None:
        """Stop the live line and give the stream back."""
        with heard_or_not(self._stream):
            self._stop()
        self._stream.close()

    def _finished(self, event: StepFinished) -> str:
        plan = event.plan
        mark, style = _MARKS[plan.action]
        why = "; ".join(r.sentence for r in plan.reasons)
        took = f"{event.seconds:.1f} s" if plan.action is Action.RUN else str(plan.action)
        facts = "" if plan.action is not Action.RUN else "  " + _facts(event.facts)
        return (
            f"[{style}]{mark} {plan.name:<{self._width}}[/]  {took:>8}  "
            f"{escape(why)}[dim]{escape(facts)}[/]"
        )

    def _print(self, markup: str) -> None:
        """A line that stays, above those that move."""
        self._console.print(markup)
        self._refresh()

    def _show(self, step: str, markup: str) -> None:
        """Set the live line of a step."""
        self._lines[step] = f"> {step:<{self._width}}  {markup}"
        self._refresh()

    def _refresh(self) -> None:
        """Draw the live lines; nothing where there is no terminal."""
        if self._console.color_system is None:
            return
        if not self._lines:
            self._stop()
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        self._live.update(Text.from_markup("\n".join(self._lines.values())))

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _facts(facts: Mapping[str, Any]) -> str:
    """The first few numbers that a step tells."""
    numbers = {
        k: v for k, v in facts.items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    ordered = sorted(numbers.items(), key=lambda fact: "accuracy" not in fact[0])
    shown = ordered[:_SHOWN_FACTS]
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown)


def show_summary(summary: Mapping[str, Any]) -> None:
    """The end of a run, in a few lines."""
    facts = {s["name"]: s["facts"] for s in summary["steps"]}
    evaluated = facts.get("evaluator", {})
    lines = [("data set", summary["dataset"])]
    if "candidate_accuracy" in evaluated:
        candidate, baseline = evaluated["candidate_accuracy"], evaluated["baseline_accuracy"]
        text = f"{candidate:.4f} with batch normalisation, {baseline:.4f} without"
        lines.append(("accuracy", text))
    for reason in (summary.get("trigger") or {}).get("reasons", []):
        lines.append(("reason", f"{reason['trigger']}: {reason['sentence']}"))
    if summary["verdict"]:
        lines.append(("verdict", summary["verdict"]["sentence"]))
    if summary["pushed"]:
        lines.append(("pushed", summary["pushed"]["sentence"]))
    page = os.path.join(summary["folder"], "report.html")
    lines.append(("report", page if os.path.exists(page) else page.replace(".html", ".json")))
    took = ", ".join(
        f"{s['name']} {s['seconds']:.1f}"
        for s in summary["steps"]
        if s["action"] in ("run", "failed")
    )
    lines.append(("seconds", f"{summary['seconds']:.1f}" + (f" ({took})" if took else "")))
    stdout = _console(sys.stdout)
    for name, text in lines:
        stdout.print(f"[bold]{name:<9}[/] {escape(text)}")
