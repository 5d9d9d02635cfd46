"""One run of any graph, around the runner: lock, run folder, signals, records."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bnpipe.data.durable import replace_text
from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.engine.attempts import Attempts
from bnpipe.pipeline.engine.errors import (
    ExitCode,
    PipelineError,
    Terminated,
    exit_code_of,
    one_line,
)
from bnpipe.pipeline.engine.events import Event, JsonLines, MadeReady, NotDrawn, RunFinished, Sink
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.fingerprint import digest_of
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import Plan, make_plan
from bnpipe.pipeline.engine.runner import Runner
from bnpipe.pipeline.engine.runs import RunFolder, joined, new_run
from bnpipe.pipeline.engine.step import RunSettings
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.engine.workers import Executor, Here, Workers

_STATUS = {
    ExitCode.OK: "succeeded",
    ExitCode.VERDICT: "stopped",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended; `error` is None unless a step, a signal or a fault ended it."""

    exit_code: ExitCode
    summary: dict[str, Any]
    folder: RunFolder
    error: BaseException | None


def run_graph(
    graph: Graph,
    home: Path,
    settings: RunSettings,
    sinks: Sequence[Sink] = (),
    *,
    verify: bool = False,
) -> FinishedRun:
    """Run any graph in a home: lock, folder, runner, records.

    Raises:
        LockHeld: somebody has this home alone, such as gc.
        ConfigError: a selected step does not exist.
        StoreError: the store is of a newer format.
    """
    import yaml

    store = Store(home)
    with terminable(), joined(store) as locks:
        plan = make_plan(graph, store, settings.selection)
        folder = new_run(store)
        locks.begin(folder.id)
        replace_text(folder.path / "config.yaml", yaml.safe_dump(settings.config, sort_keys=False))
        write_json(folder.path / "plan.json", plan.snapshot())
        heard: list[Sink] = [JsonLines(folder.path / "events.jsonl"), *sinks]

        made_ready: list[MadeReady] = []

        def emit(event: Event) -> None:
            if isinstance(event, MadeReady):
                made_ready.append(event)
            for sink in heard:
                sink(event)

        with ExitStack() as clusters, _executor(plan, folder, settings, emit) as executor:
            attempts = Attempts(graph, store, folder, settings, executor, emit, clusters)
            runner = Runner(graph, store, folder, settings, attempts, locks, emit)
            record = _Record(store, folder, settings, runner, made_ready, time.time())
            ended = None
            try:
                ended = _guarded(record, plan, verify)
                summary = record.write(*ended)
                stopped = isinstance(ended[1], KeyboardInterrupt | Terminated)
                if settings.draw is not None and plan.work and runner.idle and not stopped:
                    try:
                        executor.call(settings.draw, store.home, folder.id)
                    except Exception as error:  # a picture less: the run is what it is
                        emit(NotDrawn(one_line(error)))
            except Exception as bug:
                record.write(ExitCode.BUG, bug)
                raise
            except (KeyboardInterrupt, Terminated) as stop:  # when only records were to be written
                if ended is not None and settings.draw is not None:
                    emit(NotDrawn("interrupted"))
                ended = ended or (_code_of(stop), stop)
                summary = record.write(*ended)
            finally:
                executor.stop()  # it may have a step of which the runner knows nothing yet
                store.unstage_run(folder.id)
        for sink in sinks:
            sink(RunFinished(summary))
        return FinishedRun(ended[0], summary, folder, ended[1])


def _executor(plan: Plan, folder: RunFolder, settings: RunSettings, emit: Sink) -> Executor:
    """Where the steps run; no process is started for one step, or for none."""
    if min(settings.jobs, len(plan.work)) > 1:
        return Workers(settings.jobs, folder.path / "workers.log", emit)
    return Here(emit)


def _guarded(record: _Record, plan: Plan, verify: bool) -> tuple[ExitCode, BaseException | None]:
    """Run, from the first record on, and turn every way it can end into an exit code."""
    runner = record.runner
    try:
        record.write(None, None)
        code = runner.run(plan)
        if verify and code in (ExitCode.OK, ExitCode.VERDICT):
            differences = runner.verify()
            if differences:
                raise PipelineError(
                    f"not reproducible: {len(differences)} files differ, first {differences[0]}"
                )
    except (KeyboardInterrupt, Terminated) as error:
        return _code_of(error), error
    except (BnpipeError, OSError) as error:
        return exit_code_of(error), error
    return code, runner.error


def _code_of(stop: BaseException) -> ExitCode:
    return ExitCode.TERMINATED if isinstance(stop, Terminated) else ExitCode.INTERRUPTED


@dataclass(frozen=True)
class _Record:
    """Writes a run's summary: at its start, so that a killed run is known, and at its end."""

    store: Store
    folder: RunFolder
    settings: RunSettings
    runner: Runner
    made_ready: Sequence[MadeReady]
    started: float

    def write(self, code: ExitCode | None, error: BaseException | None) -> dict[str, Any]:
        """Write how the run ended; None while it has not."""
        status = "running" if code is None else _STATUS.get(code, "failed")
        steps = [o.snapshot() for o in self.runner.outcomes]
        verdicts = [{"step": s["name"], **s["verdict"]} for s in steps if s["verdict"]]
        refused = [v for v in verdicts if not v["passed"]]
        summary: dict[str, Any] = {
            "id": self.folder.id,
            "status": status,
            "exit_code": int(code or 0),
            "dataset": self.settings.dataset,
            "started": self.started,
            "pid": os.getpid(),
            "host": platform.node(),
            "seconds": round(time.time() - self.started, 3),
            "steps": steps,
            "made_ready": [e.snapshot() for e in self.made_ready],
            "verdict": next(iter([*refused, *reversed(verdicts)]), None),
            "error": one_line(error) if isinstance(error, Exception) else None,
            "config_digest": digest_of(self.settings.config),
            "provenance": dict(self.runner.provenance),
            "request": {
                "to": self.settings.selection.to,
                "only": self.settings.selection.only,
                "keep_going": self.settings.keep_going,
                "beam_flags": list(self.settings.beam_flags),
                "report": self.settings.draw is not None,
            },
            "trigger": self.settings.trigger,
            "folder": str(self.folder.path),
        }
        summary |= self.settings.describe(steps)
        try:
            write_json(self.folder.path / "run.json", summary)
            if status != "running":
                attached = self.settings.attach(self.store, steps)
                report = {**summary, "config": self.settings.config, **attached}
                write_json(self.folder.path / "report.json", report)
        except OSError:
            # The disk is full: what was committed stays, and the next run closes this record.
            pass
        return summary


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, so that locks, logs and records are closed properly."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
