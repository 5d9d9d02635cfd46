"""The loaded versions: polling, policies, labels, and swaps that fail no request.

A new version loads fully before the old one goes, and the old one goes only when its last request
is answered. A version number's bytes are read once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Generic

from bnpipe.serving.local import config
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.states import Settings, State, T, Version
from bnpipe.serving.local.status import Code, StatusError, invalid, not_found

_log = logging.getLogger(__name__)


class Manager(Generic[T]):
    """Keeps the loaded versions in line with folders and configuration.

    Args:
        load: makes a servable of a version's folder; raises StatusError.
        settings: the server's flags.
        config_file: read again as the settings say; None for models that `reload` gives.
    """

    def __init__(
        self, load: Callable[[Path], T], settings: Settings, config_file: Path | None = None
    ) -> None:
        self._load = load
        self._settings = settings
        self._config_file = config_file
        self._entries: dict[str, ModelEntry] = {}
        self._versions: dict[str, dict[int, Version[T]]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._changed = threading.Condition(threading.RLock())
        self._stopping = threading.Event()
        self._workers = ThreadPoolExecutor(4, thread_name_prefix="load")
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)
        self._complaint = ""

    def start(self) -> None:
        """Begin to poll.

        Raises:
            StatusError: the configuration is not valid, or a label names what is not loaded.
        """
        if self._config_file is not None:
            self.reload(config.read(self._config_file))
        self._poller.start()

    def stop(self) -> None:
        """Stop to poll and give everything back; requests must have ended."""
        self._stopping.set()
        self._poller.join()
        self._workers.shutdown(wait=True, cancel_futures=True)
        with self._changed:
            for version in chain.from_iterable(v.values() for v in self._versions.values()):
                if version.servable is not None:
                    version.servable.close()

    def wait_until_available(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait until every model has a loaded version; False if cancelled.

        Raises:
            StatusError: a model's versions could not be loaded.
        """
        with self._changed:
            while not cancelled():
                waiting = [n for n in self._entries if not self._available(n)]
                failed = {n: self._failures(n) for n in waiting}
                if not waiting:
                    return True
                if all(failed.values()):
                    reasons = "".join(f"{r}, " for model in failed.values() for r in model)
                    raise StatusError(
                        Code.UNKNOWN,
                        f"{len(failed)} servable(s) did not become available: {{{reasons}}}",
                    )
                self._changed.wait(0.2)
        return False

    def _failures(self, name: str) -> list[str]:
        """The reason that nothing of a model will be available; empty while something still may."""
        versions = [v for v in self._versions.get(name, {}).values() if v.wanted]
        if not versions or any(v.error is None for v in versions):
            return []
        return [
            f"{{{{name: {name} version: {v.number}}} due to error: {v.error}}}" for v in versions
        ]

    def reload(self, entries: Sequence[ModelEntry]) -> None:
        """Take over a configuration: all models, labels first.

        Raises:
            StatusError: a label may not go where it should. Nothing has changed then, so one edit
                that lists a version and moves a label to it never succeeds.
        """
        with self._changed:
            self._check_labels(entries)
            self._labels = {e.name: dict(e.labels) for e in entries}
            gone = self._entries.keys() - {e.name for e in entries}
            self._entries = {e.name: e for e in entries}
            for name in gone:
                self._want(name, {})
            self._act()

    def _check_labels(self, entries: Sequence[ModelEntry]) -> None:
        for entry in entries:
            available = {v.number for v in self._available(entry.name)}
            now = self._labels.get(entry.name, {})
            for label, version in entry.labels.items():
                new = now.get(label, version) == version
                if version in available or (self._settings.allow_labels_for_unavailable and new):
                    continue
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {entry.name}, which is "
                    "not currently available for inference",
                )

    @contextlib.contextmanager
    def acquire(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[tuple[int, T]]:
        """A loaded version, kept loaded until the caller is done: its number and its servable.

        Raises:
            StatusError: there is none.
        """
        with self._changed:
            acquired = self._find(name, version, label)
            acquired.in_flight += 1
            servable = acquired.servable
            assert servable is not None  # AVAILABLE versions have one
        try:
            yield acquired.number, servable
        finally:
            with self._changed:
                acquired.in_flight -= 1
                self._changed.notify_all()

    def _find(self, name: str, version: int | None, label: str | None) -> Version[T]:
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:  # an empty one is no label of anything
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {label}")
        candidates = [v for v in self._available(name) if version in (None, v.number)]
        if not candidates:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise not_found(f"Servable not found for request: {wanted}")
        return max(candidates, key=lambda v: v.number)

    def statuses(self, name: str, version: int | None = None) -> list[Version[T]]:
        """Copies of every version ever seen, the highest first; only one if a version is named.

        Raises:
            StatusError: there is none.
        """
        with self._changed:
            versions = self._versions.get(name, {}).values()
            chosen = [replace(v) for v in versions if version in (None, v.number)]
            if not chosen:
                what = "any versions" if version is None else f"version {version}"
                raise not_found(f"Could not find {what} of model {name}")
            return sorted(chosen, key=lambda v: -v.number)

    def _available(self, name: str) -> list[Version[T]]:
        return [v for v in self._versions.get(name, {}).values() if v.state is State.AVAILABLE]

    def _poll(self) -> None:
        """Look at the folders and read the configuration, each in its own interval.

        What an edit delists is unloaded at the next look at the folders only, as in TF Serving.
        """
        file, interval = self._config_file, self._settings.config_poll_wait_seconds
        look_at = time.monotonic()
        read_at = look_at + (interval if file is not None and interval else math.inf)
        while True:
            if file is not None and time.monotonic() >= read_at:
                read_at = time.monotonic() + interval
                self.read_config(file)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + self._settings.poll_wait_seconds
                self.look()
            if self._stopping.wait(max(min(read_at, look_at) - time.monotonic(), 0)):
                return

    def read_config(self, file: Path) -> None:
        """One poll of the configuration file; one that is refused changes nothing."""
        try:
            self.reload(config.read(file))
            self._complain("")
        except StatusError as error:
            self._complain(f"{file} is not taken over: {error}")

    def look(self) -> None:
        """Look at the folders; the first that is missing ends it, for all models behind it."""
        with self._changed:
            entries = list(self._entries.values())
        for entry in entries:
            try:
                wanted = entry.wanted()
            except OSError as error:
                self._complain(f"Could not find base path {entry.base_path}: {error.strerror}")
                return
            with self._changed:
                if wanted is not None and self._entries.get(entry.name) is entry:
                    self._want(entry.name, wanted)
        with self._changed:
            self._act()

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            _log.error("%s", complaint)
        self._complaint = complaint

    def _want(self, name: str, paths: dict[int, Path]) -> None:
        versions = self._versions.setdefault(name, {})
        for number, path in paths.items():
            known = versions.get(number)
            # One that ended comes back when it, or its folder, was away in between; not after an
            # error for which it was given up.
            ended = known is not None and known.state is State.END
            if known is None or (ended and not (known.wanted and known.error)):
                versions[number] = Version(number, path)
            else:
                known.wanted = True
        for number, version in versions.items():
            if number not in paths:
                version.wanted = False

    def _act(self) -> None:
        """Load what is wanted; unload what is not, once something that is wanted is loaded."""
        for name, versions in self._versions.items():
            ordered = sorted(versions.values(), key=lambda v: -v.number)
            wanted = [v for v in ordered if v.wanted]
            serving = any(v.state is State.AVAILABLE for v in wanted)
            for version in ordered:
                if version.wanted and version.state is State.START:
                    version.state = State.LOADING
                    self._workers.submit(self._bring_up, name, version)
                elif not version.wanted and version.state is State.AVAILABLE:
                    if serving or not wanted:
                        version.state = State.UNLOADING
                        self._workers.submit(self._take_down, name, version)
                elif not version.wanted and version.state is State.START:
                    version.state = State.END
        self._changed.notify_all()

    def _bring_up(self, name: str, version: Version[T]) -> None:
        error: StatusError | None = None
        for attempt in range(self._settings.max_num_load_retries + 1):
            if attempt and self._stopping.wait(self._settings.load_retry_seconds):
                break
            if not version.wanted:
                break
            try:
                version.servable, error = self._load(version.path), None
                break
            except StatusError as failure:
                error = failure
            except Exception as failure:  # a loader's own fault must not leave it LOADING
                error = StatusError(Code.INTERNAL, f"{type(failure).__name__}: {failure}")
            _log.error("%s version %d: %s", name, version.number, error)
        with self._changed:
            version.error = error
            version.state = State.END if version.servable is None else State.AVAILABLE
            if version.state is State.AVAILABLE:
                _log.info("%s version %d is available", name, version.number)
            self._act()

    def _take_down(self, name: str, version: Version[T]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: version.in_flight == 0)
            servable, version.servable = version.servable, None
            version.state = State.END
            self._changed.notify_all()
        if servable is not None:
            servable.close()
        _log.info("%s version %d is unloaded", name, version.number)
