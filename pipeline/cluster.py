"""What the Beam steps of a run run on, if that is not this machine alone: tried, started, ended.

In one small job every worker tells who it is and what it sees, before any step relies on it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.flink import JobManager
from bnpipe.data.engines.job_server import job_server, unreachable
from bnpipe.data.engines.job_service import JobService
from bnpipe.data.engines.jobs import Jobs
from bnpipe.data.engines.settings import Beam, Dataflow, Spark, command, is_address
from bnpipe.data.engines.spark import Driver
from bnpipe.data.json_text import json_text
from bnpipe.pipeline.engine.capture import captured

RECORD = "engine.json"
"""In a run's folder: the names of its jobs, for whoever finds them at work when the run is dead."""

_PROBE_STALLS, _PROBE_SECONDS = 45.0, 240.0
_SLOTS_SECONDS = 60.0
"""Time for slots to become free that there are."""
_SEEN = "mount the home at the same path for every worker: BNPIPE_HOME"


@dataclass(frozen=True)
class Check:
    """One check and its result; a run does without those that are not needed."""

    name: str
    ok: bool
    sentence: str
    needed: bool = True
    hint: str = ""


class Cluster:
    """An engine, used for one run or one examination.

    Args:
        beam: which, and its settings.
        options: further Beam flags.
        home: the home that its workers must see.
        log: a file for what the job server prints.
        prefix: the beginning of the names of all jobs.
        tell: receives how far the small job is.
    """

    def __init__(
        self,
        beam: Beam,
        options: Sequence[str],
        home: Path,
        log: Path,
        prefix: str,
        tell: Callable[[str], None] = lambda note: None,
    ) -> None:
        self._tell = tell
        self._beam, self._options = beam, tuple(options)
        self._home, self._log, self._prefix = home, log, prefix
        self._stack = ExitStack()
        flink = beam.flink if beam.engine == "flink" else None
        self.master = JobManager(flink.master or "") if flink else None
        self._driver: Driver | None = None
        self.jobs: Jobs | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the job server."""
        self._stack.close()

    def checks(self) -> Iterator[Check]:
        """Looks at what a job needs, in that order, until something is missing.

        `jobs` is there at the end.
        """
        slots, managers = 1, 0
        if self.master is not None:
            try:
                overview = self.master.overview()
            except EngineError as silent:
                yield Check("engine", False, silent.headline, hint="is beam.flink.master right?")
                return
            for check in self._flink_checks(self.master, overview):
                yield check
                if check.needed and not check.ok:
                    return
            managers, slots = overview["taskmanagers"], self.master.overview()["slots-available"]
            slots = self._beam.flink.parallelism or max(1, slots)
        settings = self._beam.chosen
        if isinstance(settings, Spark):
            slots = settings.parallelism or 1
            if not is_address(settings.job_server or ""):  # else it is nothing to us
                yield (check := _spark_check(settings))
                if not check.ok:
                    return
        try:
            endpoint = self._endpoint()
        except EngineError as error:
            yield Check("job server", False, error.headline, hint=error.hint)
            return
        if endpoint:
            yield Check("job server", True, f"answers at {endpoint}")
        flags = self._beam.flags(endpoint, slots, max(1, slots // max(1, managers)))
        unseen, turn = isinstance(settings, Spark) and self._driver is None, None
        if isinstance(settings, Spark):
            turn = self._log
            if unseen:  # a server that other runs of this home use too
                turn = self._home / "locks" / f"spark-{endpoint.replace(':', '-')}"
                turn.parent.mkdir(parents=True, exist_ok=True)
        jobs = Jobs(
            f"Spark at {settings.master}" if isinstance(settings, Spark) else self._beam.engine,
            (*flags, *self._options),
            self._prefix,
            endpoint,
            self.master,
            self._driver,
            None if unseen else getattr(settings, "stalled_seconds", None),
            turn=turn,
        )
        yield from self._probe(jobs, slots, managers)
        self.jobs = jobs

    def _flink_checks(self, master: JobManager, overview: dict[str, Any]) -> Iterator[Check]:
        flink, version = self._beam.flink, str(overview["flink-version"])
        fits = version == flink.version or version.startswith(f"{flink.version}.")
        text = f"Flink {version} at {master.address}"
        wrong = f"{text}, expected {flink.version}, which the job server is for"
        other = ".".join(version.split(".")[:2])
        hint = f"--set beam.flink.version={other}, and a job server for it"
        yield Check("engine", fits, text if fits else wrong, hint="" if fits else hint)
        wanted, deadline = flink.parallelism or 1, time.monotonic() + _SLOTS_SECONDS
        while overview["slots-available"] < wanted <= overview["slots-total"]:
            if time.monotonic() > deadline:  # others are at work, or a TaskManager is new
                break
            self._tell(f"waiting for {wanted} free slots at {master.address}")
            time.sleep(1)
            overview = master.overview()
        managers, total = overview["taskmanagers"], overview["slots-total"]
        free = overview["slots-available"]
        yield Check(
            "slots",
            free >= wanted,
            f"{free} of {total} slots free on {managers} TaskManagers, {wanted} needed",
            hint="" if free >= wanted else "lower beam.flink.parallelism, or start TaskManagers",
        )
        set_up = master.configuration()
        strategy = set_up.get("restart-strategy.type") or set_up.get("restart-strategy", "none")
        lost = "none: a lost TaskManager fails the step, which is then tried again"
        advice = "restart-strategy.type: fixed-delay in Flink's configuration"
        able = strategy not in ("none", "off", "disable")
        yield Check(
            "restarts", able, strategy if able else lost, needed=False, hint="" if able else advice
        )

    def _endpoint(self) -> str:
        """The address of the job server, which is started if it is a file; empty without one.

        Raises:
            EngineError: nobody answers there.
        """
        settings = self._beam.chosen
        if settings is None or isinstance(settings, Dataflow):
            return ""
        self._beam.require_server()
        named = settings.job_server or ""
        if not is_address(named):
            if self._beam.engine != "prism" and shutil.which("java") is None:
                raise EngineError("expected java on PATH for the job server", hint="install a JRE")
            self._tell(f"waiting for the job server {named} to begin")
            ports = self._stack.enter_context(job_server(partial(command, self._beam), self._log))
            if self._beam.engine == "spark":
                self._driver = Driver(f"{os.environ.get('SPARK_LOCAL_IP', 'localhost')}:{ports[3]}")
            return f"localhost:{ports[0]}"
        reason = unreachable(named)
        if reason is not None:
            raise EngineError(f"nobody answers at {named}: {reason}", hint="is it running there?")
        return named

    def _probe(self, jobs: Jobs, slots: int, managers: int) -> Iterator[Check]:
        """Runs the small job, and judges what its workers told."""
        from bnpipe.data.beam_probe import DRIVER, probe, workers

        folder, nonce = self._home / "tmp" / f"{self._prefix}probe", uuid.uuid4().hex
        stalls = _PROBE_STALLS if self.master else None  # others tell nothing of so short a job
        jobs = replace(jobs, stalled_seconds=stalls, limit_seconds=_PROBE_SECONDS)
        folder.mkdir(parents=True)
        try:
            (folder / DRIVER).write_text(nonce)
            # What Beam says of it is not for the terminal.
            with captured(self._log, "probe"), (folder / DRIVER).open("rb+") as mine:
                fcntl.flock(mine, fcntl.LOCK_EX)
                with jobs(lambda *how_far: self._tell(f"one small job, {how_far[2]}")) as pipeline:
                    probe(pipeline, folder, nonce, 8 * slots)
            told = workers(pipeline)
            written = {path.name for path in folder.iterdir() if path.read_text() == nonce}
        except EngineError as error:
            yield Check("workers", False, error.headline, hint=error.hint)
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        yield from _judge(told, written, self._home, managers)


def _spark_check(spark: Spark) -> Check:
    reasons = {address: unreachable(address) for address in spark.masters}
    if None in reasons.values():
        return Check("engine", True, f"Spark's master answers at {spark.master}")
    silent = ", ".join(f"at {address}: {reason}" for address, reason in reasons.items())
    hint = "is beam.spark.master right?"
    return Check("engine", False, f"Spark's master does not answer {silent}", hint=hint)


def _judge(
    told: Sequence[dict[str, Any]], written: set[str], home: Path, managers: int
) -> Iterator[Check]:
    """Checks from what workers told, and the files of theirs that were seen here."""
    from bnpipe.data.records.shards import SAME_CODE, code_here, other_code

    hosts = {worker["host"] for worker in told}
    text = f"{len(told)} processes on {', '.join(sorted(hosts)) or 'no host'}"
    yield Check("workers", len(told) >= max(1, managers), text, needed=not told)
    others = [worker for worker in told if worker["code"] != code_here()]
    text = other_code(others[0]["host"], others[0]["code"]) if others else "as here"
    yield Check("worker code", not others, text, hint=SAME_CODE if others else "")
    blind = [worker for worker in told if not worker["home"].endswith("locks")]
    unseen = [w for w in told if w not in blind and f"{w['host']}-{w['process']}" not in written]
    text = f"all workers see {home}, and what they write is seen here"
    if blind:
        text = f"the worker on {blind[0]['host']} does not see {home}: {blind[0]['home']}"
    elif unseen:
        text = f"what the worker on {unseen[0]['host']} writes in {home} is not seen here"
    wrong = bool(blind or unseen)
    yield Check("home", not wrong, text, hint=_SEEN if wrong else "")
    if not wrong:
        free = [worker["host"] for worker in told if worker["home"] != "locks"]
        text = f"not seen on {free[0]}: no second run there" if free else "seen by all workers"
        yield Check("locks", not free, text, needed=False)


@contextmanager
def started(
    beam: Beam,
    options: Sequence[str],
    home: Path,
    run: Path,
    is_dead: Callable[[str], bool],
    tell: Callable[[str], None],
) -> Iterator[Jobs]:
    """Has an engine ready for the jobs of one run, and ends whatever runs of them in the end.

    Args:
        beam: which, and its settings.
        options: further Beam flags.
        home: the home.
        run: the run's folder.
        is_dead: whether a run, by its id, is over; what it left at work is ended first.
        tell: receives how far it is.

    Raises:
        EngineError: a check failed that the run needs.
    """
    prefix = f"bnpipe-{run.name}-{uuid.uuid4().hex[:8]}-"
    with Cluster(beam, options, home, run / "job_server.log", prefix, tell) as cluster:
        (run / RECORD).write_text(json_text({"jobs": prefix}))
        tell(f"trying {beam.engine} with one small job")
        named = getattr(beam.chosen, "job_server", None) or ""
        if cluster.master is not None or is_address(named):
            _end_jobs_of_dead_runs(cluster.master or JobService(named), run.parent, is_dead)
        for check in cluster.checks():
            if check.needed and not check.ok:
                raise EngineError(f"{beam.engine}, {check.name}: {check.sentence}", hint=check.hint)
        assert cluster.jobs is not None
        try:
            yield cluster.jobs
        finally:
            cluster.close()  # first of all the job server, which may be submitting a job
            # Of a run that ended well nothing is left; else the next one tries again.
            with suppress(EngineError):
                cluster.jobs.cancel(tell)


def _end_jobs_of_dead_runs(
    master: JobManager | JobService, runs: Path, is_dead: Callable[[str], bool]
) -> None:
    """Ends jobs that a killed run of this home left at work: they take slots, and write."""
    with suppress(EngineError):  # the checks will tell
        prefixes = {re.match(r"bnpipe-(\d+)-\w+-", job["name"]) for job in master.living()}
        for prefix in filter(None, prefixes):
            with suppress(OSError, ValueError, KeyError):
                record = json.loads((runs / prefix[1] / RECORD).read_text())
                if record["jobs"] == prefix[0] and is_dead(prefix[1]):
                    # One that was prepared and never begun stays on Prism, whatever is asked.
                    wait = {} if isinstance(master, JobManager) else {"seconds": 0.0}
                    master.cancel(prefix[0], **wait)
