"""The embedded scheduler: calls `bnpipe retrain --due` in a child process every few minutes.

When slots are due is known to the tick alone. A tick that fails, crashes or hangs on to its run
takes nothing else with it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import FrameType

from bnpipe.data import users_environment
from bnpipe.pipeline.schedule.slot import iso

_LOOK = 0.2
"""Seconds between two looks at the stop signal while a tick is at work."""
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

    def run(self) -> None:
        """Tick in the foreground until SIGTERM or SIGINT."""
        began = time.monotonic()  # a wall clock may be set back, and the next beat with it
        with self._signals():
            self._say(f"{_now()} ticking every {self._seconds:g} s; stop with SIGTERM")
            while not self._stop.is_set():
                self.tick()
                # To the next whole multiple: a tick that takes longer than a beat skips some.
                self._stop.wait(self._seconds - (time.monotonic() - began) % self._seconds)
        self._say(f"{_now()} stopped")

    def tick(self) -> None:
        """One tick, in a process of its own; whatever becomes of it is one line."""
        try:
            with subprocess.Popen(
                self._words,
                env=users_environment(),  # whose command the tick may call
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for us alone: the tick gets its grace
            ) as process:
                answer = self._answer(process)
        except OSError as error:
            self._say(f"{_now()} a tick could not be started: {error}")
            return
        self._say(f"{_now()} {_sentence(answer, process.returncode)}")

    def _answer(self, process: subprocess.Popen[str]) -> str:
        """The output of a tick at its end, which comes soon once we are to stop."""
        while not self._stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=_LOOK)[0]
        # A slot that this cuts short is finished by a later tick.
        self._say(f"{_now()} a tick is at work; it gets {self._grace:g} s to end")
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=self._grace)[0]
        process.terminate()  # it ends its run, and takes the grace for that
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=2 * self._grace + _LAST_WORDS)[0]
        process.kill()
        return process.communicate()[0]

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
