"""The product's pipeline, as the schedule sees it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bnpipe.data.json_text import json_text
from bnpipe.pipeline import definition
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.duration import in_words, parse_duration
from bnpipe.pipeline.configuration.publishing import check_target, served_folder
from bnpipe.pipeline.engine.errors import ExitCode
from bnpipe.pipeline.engine.lock import at_work
from bnpipe.pipeline.engine.plan import Plan, make_plan
from bnpipe.pipeline.engine.runs import find_run, newest_summaries
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule import canary, child
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.triggers import Triggers
from bnpipe.pipeline.schedule.work import Looked, Ran
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, versions

_DONE = ("succeeded", "stopped", "failed")
_ENDED = (*_DONE, "interrupted", "terminated")
_DATA_GATES = ("example_validator", "label_validator")


class Retraining:
    """See `pipeline.schedule.work.Work`.

    Args:
        config: the configuration.
        home: where runs are.
        words: the options that lead to this configuration, e.g. `--config FILE`.
        quiet: keep runs' output out of stdout.
    """

    def __init__(
        self, config: Config, home: Path, words: Sequence[str] = (), *, quiet: bool = False
    ) -> None:
        self._config = config
        self._store = Store(home)
        self._words = tuple(words)
        self._quiet = quiet
        self._served = served_folder(config, home)

    def busy(self) -> str | None:
        """A sentence when a run is at work in this home."""
        who = at_work(self._store.home)
        return f"a run is at work: {', '.join(who)}" if who else None

    def look(self, claim: Claim, now: datetime) -> Looked:
        """Ask the triggers.

        Raises:
            ServingError: the served folder is gone; no trigger would have to notice that.
        """
        self._require_served()
        return Triggers(self._config, self._store, self._served).look(claim, now)

    def unchanged(self) -> str | None:
        """A sentence when a run would do nothing.

        Raises:
            ServingError: the served folder is gone.
        """
        self._require_served()
        if self._unfinished() is not None:
            return None
        plan = make_plan(definition.build(self._config, self._store.home), self._store)
        return None if plan.work else f"unchanged: {_standing(plan)}"

    def run(self, claim: Claim) -> Ran:
        """Run the pipeline in a child process.

        Raises:
            ConfigError: a key or the store cannot be used: that alone leaves a run no record.
            ServingError: the served folder is gone.
        """
        self._require_served()
        if claim.trial is not None:
            return self._go_on(claim.trial)  # whatever became of the key: it signs nothing
        check_target(self._config)
        schedule = self._config.schedule
        limit = parse_duration(schedule.time_limit) if schedule.time_limit else None
        trigger = json_text(child.trigger_of(claim))
        words = (*child.COMMAND, "run", *self._words, "--trigger", trigger)
        late = ""
        try:
            grace = schedule.grace_seconds
            code = child.supervise(words, limit=limit, grace=grace, quiet=self._quiet)
        except TimeoutError:
            assert limit is not None
            late, code = f"stopped at the time limit of {in_words(limit)}", int(ExitCode.FAILED)
        left = self._run_of(claim, [claim.attempts[-1].number])
        # At the limit a run may have ended already, and have been telling MLflow of it.
        if left is None or left["status"] not in (_DONE if late else _ENDED):
            run = left["id"] if left else None
            # Without a record nothing was done, whatever the code says.
            return Ran(
                exit_code=code or ExitCode.FAILED, sentence=late or _cut_short(code), run=run
            )
        unfinished = self._unfinished() if left["exit_code"] == ExitCode.OK else None
        if unfinished is not None:
            return unfinished(self._config, self._store, left)
        return self._come_to(claim, left)

    def ended(self, claim: Claim) -> tuple[int, Ran] | None:
        """The end of the run of an attempt, where nobody wrote that down.

        One that was stopped, because its tick had died, has been cut short like any other.
        """
        summary = self._run_of(claim, claim.open_attempts)
        if summary is None:
            return None
        number = int(summary["trigger"]["attempt"])
        if summary["status"] in _DONE:
            ran = self._come_to(claim, summary)
            # A canary whose soak, or bake, was cut short gets another one, in an attempt that is
            # counted.
            asked = (canary.on_trial, canary.baking)
            tried = [ask(self._config, self._store.home) for ask in asked]
            return None if ran.version is not None and ran.version in tried else (number, ran)
        live = versions.live(self._served)
        if live is None or self._run_behind(live) != summary["id"]:
            return None
        # The run published its model and was killed before it wrote how it ended.
        sentence = f"v{live} is live in {self._served / str(live)}"
        ran = Ran(sentence=sentence, result=Result.PUSHED, run=summary["id"], version=live)
        return number, ran

    def trial(self) -> str | None:
        """See `Work`.

        Raises:
            ServingError: the served folder cannot be read.
        """
        return canary.waiting(self._config, self._store)

    def _go_on(self, run: str) -> Ran:
        """Go on with the trial of the version that a run made, or say what it came to."""
        unfinished, summary = self._unfinished(), find_run(self._store, run).summary()
        if unfinished is not None and self.trial() == run:
            return unfinished(self._config, self._store, summary)
        nothing = Ran(sentence="nothing is on trial", result=Result.UNCHANGED, run=run)
        return canary.decided(self._config, self._store.home, summary) or nothing

    def _unfinished(self) -> Callable[[Config, Store, Mapping[str, Any]], Ran] | None:
        """The trial that a version still has to stand, and that could come to something."""
        if canary.on_trial(self._config, self._store.home) is not None:
            return None if canary.exhausted(self._config, self._store) else canary.try_canary
        if canary.baking(self._config, self._store.home) is not None:
            return canary.bake
        return None

    def _run_of(self, claim: Claim, attempts: Sequence[int]) -> dict[str, Any] | None:
        """The newest run of one of these attempts."""
        for summary in newest_summaries(self._store):
            trigger = summary.get("trigger") or {}
            if trigger.get("slot") == claim.slot.name and trigger.get("attempt") in attempts:
                return summary
        return None

    def _come_to(self, claim: Claim, summary: Mapping[str, Any]) -> Ran:
        """The result of a run that ended, and of its canary since."""
        ran = canary.decided(self._config, self._store.home, summary) or _ran(summary)
        live = versions.live(self._served)
        if ran.result is Result.UNCHANGED and live is not None and self._published(claim, live):
            return replace(ran, result=Result.PUSHED, version=live)
        return ran

    def _published(self, claim: Claim, version: int) -> bool:
        """True when an earlier attempt at this slot published a version, and failed after that."""
        behind = self._run_behind(version)
        return any(
            summary["id"] == behind
            and (summary.get("trigger") or {}).get("slot") == claim.slot.name
            for summary in newest_summaries(self._store)
        )

    def _run_behind(self, version: int) -> str | None:
        try:
            return str(versions.provenance_of(self._served, version).get("run"))
        except ServingError:  # put there by hand
            return None

    def _require_served(self) -> None:
        """A folder that we published to and that is gone must not be begun anew, at v1.

        Raises:
            ServingError: it is gone.
        """
        if (self._served / ledger.LEDGER).exists():
            return
        for summary in newest_summaries(self._store):
            pushed = summary.get("pushed") or {}
            if pushed.get("base_path") == str(self._served):
                raise ServingError(
                    f"the served folder is gone: {self._served} has no {ledger.LEDGER}, but run "
                    f"{summary['id']} published v{pushed['version']} there",
                    hint="mount or restore it; to begin anew at v1: bnpipe run",
                )


def _ran(summary: Mapping[str, Any]) -> Ran:
    """The result of a run that ended."""
    code, result, version = int(summary["exit_code"]), None, None
    pushed, verdict = summary.get("pushed") or {}, summary.get("verdict") or {}
    if code == ExitCode.OK:
        sentence = pushed.get("sentence", "done")
        result = Result.PUSHED if pushed.get("new") else Result.UNCHANGED
        version = int(pushed["version"]) if pushed.get("new") else None
    elif code == ExitCode.VERDICT:
        components = {s["name"]: s["component"] for s in summary["steps"]}
        blocked = components.get(str(verdict.get("step"))) in _DATA_GATES
        result = Result.BLOCKED if blocked else Result.NOT_BLESSED
        sentence = verdict.get("sentence", "a gate said no")
    else:
        sentence = summary.get("error") or summary["status"]
    return Ran(
        sentence=str(sentence),
        exit_code=code,
        result=result,
        run=str(summary["id"]),
        version=version,
    )


def _standing(plan: Plan) -> str:
    """The reason to do nothing, in the words of the last step that says anything but `same`."""
    sentences = [r.sentence for step in plan.steps for r in step.reasons if r.code != "same"]
    return sentences[-1] if sentences else "every step is cached"


def _cut_short(code: int) -> str:
    if code >= 0:
        return f"the run ended with exit code {code} before it had a record"
    return f"the run was killed by {signal.Signals(-code).name}"
