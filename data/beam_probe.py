"""A small job that asks every worker of an engine who it is and what it sees."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from bnpipe.data.errors import printable
from bnpipe.data.json_text import json_text
from bnpipe.data.records.shards import code_here

DRIVER = "driver"
_NAMESPACE = "bnpipe.probe"


def probe(pipeline: Any, folder: Path, nonce: str, parts: int) -> None:
    """Adds the job to a Beam pipeline.

    Args:
        pipeline: the Beam pipeline.
        folder: a folder in the home, with the nonce in the file `driver`, which is locked.
        nonce: a text that no other job has.
        parts: number of pieces of work, spread over all slots.
    """
    _ = (
        pipeline
        | "Parts" >> beam.Create(range(parts))
        | "Spread" >> beam.Reshuffle()
        | "Look" >> beam.ParDo(Look(str(folder), nonce))
    )


class Look(beam.DoFn):
    """Tells through a counter what a worker is: a file that it writes, nobody here may see."""

    def __init__(self, folder: str, nonce: str) -> None:
        self._folder = folder
        self._nonce = nonce

    def process(self, part: int) -> Iterator[Any]:
        """Handles one piece of work."""
        found = {
            "host": platform.node(),
            "process": os.getpid(),
            "code": code_here(),
            "home": self._home(),
        }
        Metrics.counter(_NAMESPACE, json_text(found)).inc()
        time.sleep(0.1)  # so that the others get some
        yield from ()

    def _home(self) -> str:
        """What keeps it from working in the home, or `locks` as the driver's lock is seen too."""
        folder = Path(self._folder)
        try:
            with (folder / DRIVER).open("rb+") as file:
                if file.read().decode() != self._nonce:
                    return "another folder"
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    locked = False
                except BlockingIOError:
                    locked = True
            (folder / f"{platform.node()}-{os.getpid()}").write_text(self._nonce)
        except OSError as error:
            return printable(f"{error.strerror}: {error.filename}")
        return "locks" if locked else "no locks"


def workers(pipeline: Any) -> list[dict[str, Any]]:
    """What the workers told, one entry for each process, when the pipeline has run."""
    counters = pipeline.result.metrics().query()["counters"]
    told = {c.key.metric.name for c in counters if c.key.metric.namespace == _NAMESPACE}
    return [json.loads(name) for name in sorted(told)]
