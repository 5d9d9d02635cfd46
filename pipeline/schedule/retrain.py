"""The work of `bnpipe retrain`: one tick of a home's schedule, or a run by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.publishing import served_folder
from bnpipe.pipeline.engine.errors import PipelineError, one_line
from bnpipe.pipeline.engine.execute import terminable
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.health import require_timetable, timetable_of
from bnpipe.pipeline.schedule.retention import keep_newest
from bnpipe.pipeline.schedule.retraining import Retraining
from bnpipe.pipeline.schedule.tick import Clock, Tick, Ticker


def retrain(
    config: Config,
    home: Path,
    words: Sequence[str] = (),
    *,
    reason: str | None = None,
    quiet: bool = False,
    clock: Clock = lambda: datetime.now(UTC),
) -> Tick:
    """Do the slot that is due, if there is one, or retrain by hand.

    Args:
        config: the configuration.
        home: the home.
        words: the options that lead to this configuration; the run's process gets them too.
        reason: why it is done by hand; None for the schedule's tick.
        quiet: keep the run's output out of stdout.
        clock: tells the time.

    Raises:
        ConfigError: there is no schedule.
        LockHeld: by hand, while a slot is being done or a run is at work.
        PipelineError: the disk refuses; nothing is lost.
        StoreError: a newer bnpipe wrote the book.
    """
    timetable = (require_timetable if reason is None else timetable_of)(config.schedule)
    work = Retraining(config, home, words, quiet=quiet)
    ticker = Ticker(Book(home), timetable, config.schedule, work, clock)
    try:
        with terminable():
            done = ticker.due() if reason is None else ticker.by_hand(reason)
    except OSError as error:
        raise PipelineError(
            f"the schedule cannot be written down: {error.strerror}: {error.filename or home}",
            hint="make room or mend the disk; the slot stays due",
        ) from error
    if done.outcome is not None and done.outcome.run is not None:
        _tell_live(config, home)
        _tidy(config, home)
    return done


def _tell_live(config: Config, home: Path) -> None:
    """MLflow's alias follows a canary that was promoted or rolled back after its run had ended."""
    from bnpipe.pipeline import ui
    from bnpipe.pipeline.tracking import follow_live

    problem = follow_live(served_folder(config, home), config.tracking.mlflow)
    if problem is not None:
        ui.warn(problem)


def _tidy(config: Config, home: Path) -> None:
    """Apply the retention policy; the slot is settled whatever becomes of that."""
    from bnpipe.pipeline import ui

    keep = config.schedule.keep_runs
    if keep is None:
        return
    try:
        with terminable():
            keep_newest(Store(home), served_folder(config, home), keep)
    except (OSError, BnpipeError) as error:
        ui.warn(f"old runs stay: {one_line(error)}")
