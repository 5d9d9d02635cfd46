"""A new version on trial: soaked, promoted or withdrawn, watched, without anybody looking.

Killed at any point, the version is still the canary, or is live and to be watched, or is withdrawn,
and the ledger says which: the next attempt goes on from there. What the pairs have come to lies in
the served folder beside it, for all homes, and is gone on with while versions, images, servers and
margins are the same. If it is lost or damaged, a trial begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from bnpipe.data.durable import replace_text
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.duration import in_words, parse_duration
from bnpipe.pipeline.configuration.publishing import rollout, served_folder, servers
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode, StoreError
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.fingerprint import digest_of
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, versions
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.folder.settle import writing

if TYPE_CHECKING:
    from bnpipe.serving.client.soak import Evidence, Soaked

Numbers = tuple[int | None, int | None]
"""Of the version on trial, and of the one that it is measured by."""

RECORD = "canary.json"
"""In the run's folder: what its soak and its bake came to, for the report."""
EVIDENCE = "evidence.json"
"""In the served folder: what the pairs of the last trial there have come to."""
_MOST_PROBES = 20_000  # images that versions are compared on
_KEEP_SECONDS = 5.0  # for the folder's lock: a soak that is to stop waits for nobody who publishes


def on_trial(config: Config, home: Path) -> int | None:
    """The version that waits for its soak; None if there is none, or nobody wants one."""
    if config.serving.rollout != "canary":
        return None
    return versions.on_trial(served_folder(config, home))


def baking(config: Config, home: Path) -> int | None:
    """The live version that is to be watched; None if there is none, or nobody wants that."""
    if config.canary.bake is None or not rollout(config, home).servers:
        return None
    return versions.baking(served_folder(config, home))


def waiting(config: Config, store: Store) -> str | None:
    """The run that made the version whose trial a tick goes on with.

    None if there is none, that run is not in this home, or nothing more could be shown.

    Raises:
        ServingError: the served folder cannot be read.
    """
    version = on_trial(config, store.home) or baking(config, store.home)
    if version is None:  # nor are keys looked at
        return None
    run = _origin(store, served_folder(config, store.home), version)
    return None if run is None or exhausted(config, store) else str(run["id"])


def exhausted(config: Config, store: Store) -> int | None:
    """The canary that stays one, for all images were asked for and nothing is shown of it.

    Raises:
        ServingError: the served folder cannot be read.
    """
    version, base = on_trial(config, store.home), served_folder(config, store.home)
    run = None if version is None else _origin(store, base, version)
    if run is None or config.canary.inconclusive != "keep":
        return None
    kept = _kept(base, _about(config, base, run, "soak", (version, versions.live(base))))
    return version if kept is not None and kept.is_exhausted else None


def _origin(store: Store, base: Path, version: int) -> dict[str, Any] | None:
    """The run of this home that made a version; None if none did."""
    # Another home's run may have the same number; and what was put there by hand has none.
    with suppress(ConfigError, StoreError, ServingError, KeyError):
        origin = versions.provenance_of(base, version)
        run = find_run(store, origin["run"]).summary()
        models = [step["outputs"].get("model") for step in run["steps"]]
        return run if origin["inputs"]["model"] in models else None
    return None


def try_canary(config: Config, store: Store, run: Mapping[str, Any]) -> Ran:
    """Soak the canary; promote and watch it, withdraw it, or leave it canary.

    Args:
        config: the configuration.
        store: the home's store.
        run: a run's summary; the test images that it evaluated on are the probes.

    Raises:
        ServingError: a server answers for neither version, does not know the canary in time, or
            somebody moved the label.
        StoreError: the run's images are gone.
        DataError: they are damaged.
    """
    from bnpipe.serving.client.soak import Verdict

    target = rollout(config, store.home)
    version = versions.on_trial(target.base)
    if version is None or ledger.read(target.base).entry(version) is None:
        raise ServingError(f"{target.base} has no canary", hint="bnpipe versions list")
    # A server that does not know the label yet would fail every probe of a good version.
    target.confirm(version, label="canary")
    numbers = version, versions.live(target.base)  # whoever moves a label from now on ends it

    def check() -> None:
        if (versions.on_trial(target.base), versions.live(target.base)) != numbers:
            raise ServingError("a label moved during the soak", hint="bnpipe versions list")

    soaked = _soak(config, store, run, target, "soak", config.canary.soak, numbers, check=check)
    decisions = {Verdict.PASS: "promote", Verdict.FAIL: "withdraw"}
    decision = decisions.get(soaked.verdict, config.canary.inconclusive)
    if decision == "promote":
        target.promote(version, bake=config.canary.bake is not None)
        if config.canary.bake is not None:
            return bake(config, store, run)
        return _promoted(run, version, f" after its soak: {soaked.sentence}")
    if decision == "withdraw":
        target.withdraw(version, reason=soaked.sentence)
        return _withdrawn(run, version, soaked.sentence)
    sentence = f"v{version} stays canary: {soaked.sentence}"
    return Ran(sentence=sentence, result=Result.UNCHANGED, run=str(run["id"]))


def bake(config: Config, store: Store, run: Mapping[str, Any]) -> Ran:
    """Watch the live version beside the one that was live before, and roll it back when it fails.

    It ends: also with nothing to compare with, or when that answers nothing, and says so.

    Args:
        config: the configuration.
        store: the home's store.
        run: as in `try_canary`.

    Raises:
        ServingError: a server is unwell, or another version went live.
        StoreError: the run's images are gone.
        DataError: they are damaged.
    """
    from bnpipe.serving.client.soak import STABLE, Verdict

    target, length = rollout(config, store.home), config.canary.bake
    version = versions.baking(target.base)
    if version is None or length is None:
        raise ServingError(f"{target.base} has no version to watch", hint="bnpipe versions list")

    def check() -> None:
        if versions.live(target.base) != version:
            raise ServingError("another version went live meanwhile", hint="bnpipe versions list")

    target.confirm(version, label="stable")
    before = versions.version_before(target.base, ledger.read(target.base), version)
    watched = "nothing was live before that it could be watched by"
    if before is not None:
        soaked = _soak(
            config, store, run, target, "bake", length, (version, before), check=check,
            new=STABLE, old={"version": before},
        )  # fmt: skip
        if soaked.verdict is Verdict.FAIL:
            target.rollback(reason=soaked.sentence, to=before)
            return _withdrawn(run, version, f"rolled back to v{before}: {soaked.sentence}")
        watched = f"it was watched for {in_words(parse_duration(length))}"
        if not soaked.total.latency.pairs:
            watched = f"v{before}, which it would be watched by, answered nothing"
    target.end_bake(version)
    return _promoted(run, version, f"; {watched}")


def promote_after_soak(config: Config, store: Store, version: int) -> Ran:
    """What the schedule does with a new version, for one that is named.

    Raises:
        ConfigError: no server is named.
        ServingError: as in `try_canary`; or the version cannot be promoted.
        StoreError: the run that made it is not in this home, or its images are gone.
    """
    target = rollout(config, store.home)
    if not target.servers:
        raise ConfigError(
            "--soak asks the running servers, and none is named",
            hint="--set serving.server_url=http://HOST:8501",
        )
    labels.check_promotion(target.base, version, "stable")
    watched = versions.baking(target.base) == version and config.canary.bake is not None
    if versions.live(target.base) == version and not watched:
        raise ServingError(f"v{version} is live already", hint="bnpipe versions list")
    trial = versions.on_trial(target.base)
    if trial not in (None, version) and not watched:
        raise ServingError(
            f"v{trial} is on trial: two at a time would be measured by one another",
            hint=f"bnpipe promote {trial} --soak 10m, or bnpipe rollback --reason WHY",
        )
    run = find_run(store, str(versions.provenance_of(target.base, version).get("run"))).summary()
    if watched:
        return bake(config, store, run)
    if trial is None:
        target.promote(version, label="canary")
    return try_canary(config, store, run)


def decided(config: Config, home: Path, run: Mapping[str, Any]) -> Ran | None:
    """The end of the canary that a run published, if its soak is over already.

    Raises:
        ServingError: the served folder cannot be read.
    """
    pushed = run.get("pushed") or {}
    if pushed.get("label") != "canary":
        return None
    base, version = served_folder(config, home), int(pushed["version"])
    history = ledger.read(base)
    withdrawal = history.withdrawn.get(str(pushed["digest"]))
    if withdrawal is None and versions.stable_version(base, history) != version:
        return None
    rollout(config, home).complete()  # else, after a kill, servers would not know of it
    if withdrawal is None:
        return _promoted(run, version, " after its soak")
    return _withdrawn(run, version, withdrawal.reason)


def _soak(
    config: Config,
    store: Store,
    run: Mapping[str, Any],
    target: Rollout,
    name: str,
    length: str,
    numbers: Numbers,
    **asked: Any,
) -> Soaked:
    """A soak on all servers; what it came to is kept beside the run's records."""
    from bnpipe.serving.client.soak import Rules, soak

    about = _about(config, target.base, run, name, numbers)
    seconds = parse_duration(length).total_seconds()
    rules = Rules(seconds, config.canary.rate, *_margins(config))

    def keep(evidence: Evidence) -> None:
        value = asdict(evidence)
        text = json_text({"evidence": value, "digest": digest_of([about, value])})
        with writing(target.base, create=False, wait=_KEEP_SECONDS) as folder:
            replace_text(folder / EVIDENCE, text + "\n", staging=folder)

    asked |= {
        "version": numbers[0],
        "old_version": numbers[1],
        "evidence": _kept(target.base, about),
        "keep": keep,
    }
    features, classes = _probes(store, run)
    with target.clients() as clients:
        soaked = soak(clients, features, classes, rules, **asked)
    path, kept = store.runs / str(run["id"]) / RECORD, {}
    with suppress(OSError, ValueError):
        kept = json.loads(read_plain(path))
    write_json(path, {**kept, name: soaked.to_json()})
    return soaked


def _margins(config: Config) -> tuple[float, float, float]:
    """By how much a version may be worse: in accuracy, errors and latency."""
    return config.canary.margin, config.canary.error_margin, config.canary.latency_margin


def _about(config: Config, base: Path, run: Mapping[str, Any], name: str, numbers: Numbers) -> str:
    """A digest of all that the evidence of a trial is about: of anything else it says nothing."""
    history = ledger.read(base)
    models = [v and versions.digest_of(base, history, v) for v in numbers]
    made = [step["outputs"].get("transformed") for step in run["steps"]]
    images = [digest for digest in made if digest is not None]
    return digest_of([name, numbers, models, images, servers(config), _margins(config)])


def _kept(base: Path, about: str) -> Evidence | None:
    """The evidence about this; None if there is none, or the file is damaged."""
    from bnpipe.serving.client.soak import Evidence

    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        value = json.loads(read_plain(base / EVIDENCE))
        if value["digest"] == digest_of([about, value["evidence"]]):
            return TypeAdapter(Evidence).validate_python(value["evidence"])
    return None


def _promoted(run: Mapping[str, Any], version: int, why: str) -> Ran:
    sentence = f"v{version} is live{why}"
    return Ran(sentence=sentence, result=Result.PUSHED, run=str(run["id"]), version=version)


def _withdrawn(run: Mapping[str, Any], version: int, why: str) -> Ran:
    return Ran(
        exit_code=ExitCode.VERDICT,
        sentence=f"v{version} is withdrawn: {why}",
        result=Result.WITHDRAWN,
        run=str(run["id"]),
        version=version,
    )


def _probes(store: Store, run: Mapping[str, Any]) -> tuple[Any, Any]:
    """float32[N, D] and int64[N]: images and classes of the test split, the first of many."""
    from bnpipe.components.artifacts import TransformedExamples
    from bnpipe.data.records.examples import read_blocks

    for step in run["steps"]:
        digest = step["outputs"].get("transformed")
        if digest is not None:
            examples = TransformedExamples(step["name"], store.object_path(digest))
            split = next(read_blocks(examples.shards("test"), _MOST_PROBES), None)
            if split is not None:
                return split.features, split.label
    raise StoreError(f"run {run['id']} has no images to probe with", hint="bnpipe run")
