"""The embedded scheduler: calls `bnpipe retrain --due` in a child process every few minutes.

APScheduler keeps the beat, in memory; when slots are due is known to the tick alone. A tick that
fails, crashes or hangs on to its run takes nothing else with it.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from bnpipe.pipeline.schedule.slot import iso

_JOB = "tick"
_LAST_WORDS = 10.0
"""Seconds that a tick may take to write down that it was stopped."""


class Daemon:
    """Ticks until it is told to stop.

    Args:
        words: the command of a tick; with `--json`, so that its answer is one object.
        seconds: how often.
        grace: how long a running tick may go on when we are told to stop, in seconds.
        say: shows one line.
    """

    def __init__(
        self, words: Sequence[str], *, seconds: float, grace: float, say: Callable[[str], None]
    ) -> None:
        self._words = tuple(words)
        self._seconds = seconds
        self._grace = grace
        self._say = say
        self._stop = threading.Event()
        self._tick: subprocess.Popen[str] | None = None
        self._began = time.monotonic()

    def run(self) -> None:
        """Tick in the foreground until SIGTERM or SIGINT."""
        from apscheduler.schedulers.background import BackgroundScheduler

        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # a long run skips beats
        scheduler = BackgroundScheduler(timezone=UTC)
        scheduler.add_job(
            self.tick,
            "interval",
            id=_JOB,
            seconds=self._seconds,
            next_run_time=datetime.now(UTC),
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )
        with self._signals():
            scheduler.start()
            self._say(f"{_now()} ticking every {self._seconds:g} s; stop with SIGTERM")
            while not self._stop.wait(self._seconds):
                self._wake(scheduler)
            scheduler.remove_job(_JOB)
            self._let_go()
            scheduler.shutdown(wait=True)
        self._say(f"{_now()} stopped")

    def tick(self) -> None:
        """One tick, in a process of its own; whatever becomes of it is one line."""
        self._began = time.monotonic()
        try:
            with subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for us alone: the tick gets its grace
            ) as process:
                self._tick = process
                answer, _ = process.communicate()
        except OSError as error:
            self._say(f"{_now()} a tick could not be started: {error}")
            return
        finally:
            self._tick = None
        self._say(f"{_now()} {_sentence(answer, process.returncode)}")

    def _wake(self, scheduler: Any) -> None:
        """Bring the next tick near when a clock that went back has moved it far away."""
        idle = time.monotonic() - self._began
        if self._tick is None and idle > 2 * self._seconds:
            scheduler.modify_job(_JOB, next_run_time=datetime.now(UTC))

    def _let_go(self) -> None:
        """Let a running tick end; ended before its time, its slot is finished by a later tick."""
        process = self._tick
        if process is None:
            return
        self._say(f"{_now()} a tick is at work; it gets {self._grace:g} s to end")
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._grace)
            return
        process.terminate()  # it ends its run, and takes the grace for that
        with suppress(subprocess.TimeoutExpired):
            process.wait(2 * self._grace + _LAST_WORDS)
            return
        process.kill()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT."""

        def stop(signum: int, frame: FrameType | None) -> None:
            self._stop.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _sentence(answer: str, code: int) -> str:
    """A tick's answer as one line."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(answer)["sentence"])
    return f"the tick ended with exit code {code}"


def _now() -> str:
    return iso(datetime.now(UTC))
