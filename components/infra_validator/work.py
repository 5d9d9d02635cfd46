"""The trial: in a fresh process with the stand-in, then on a real server where there is one.

What the model can be blamed for is a verdict. What happened to a server is a fault: it says nothing
about the model, so it is raised, never stored.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnpipe.components.artifacts import InfraBlessing, Model
from bnpipe.components.base import Context, Facts, Ruling
from bnpipe.components.infra_validator import servers
from bnpipe.components.infra_validator.process import Addresses, Process, Refused, serving
from bnpipe.components.infra_validator.servers import BINARY, MODEL, STAND_IN, Server
from bnpipe.data.durable import copy_file
from bnpipe.data.json_text import json_text
from bnpipe.serving.client.base import Options, ServerError
from bnpipe.serving.client.rest import RestClient
from bnpipe.serving.deploy import IMAGE
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.export.golden import Golden
from bnpipe.serving.export.signatures import SIGNATURES
from bnpipe.serving.folder.names import plain_path

if TYPE_CHECKING:  # `step` imports this module in `run` only
    from bnpipe.components.infra_validator.step import Inputs, Outputs, Params

VERSION = "1"
_STAND_IN = Server(STAND_IN, STAND_IN)

_spare: list[Process] = []
"""A fresh process that has loaded its libraries before there is a model."""


def make_ready() -> None:
    """Start the fresh process, and load what this one needs to ask it."""
    _spare.append(Process(_STAND_IN, None))
    from bnpipe.components.infra_validator.replay import TOLERANCE  # noqa: F401
    from bnpipe.serving.client.grpc import GrpcClient  # noqa: F401


def _fresh_process(base: Path) -> Process:
    spare = _spare.pop() if _spare else None
    if spare is None or not spare.alive:
        return Process(_STAND_IN, base)
    spare.look_at(base)
    return spare


@dataclass
class _Trial:
    """The trial of one model, with its outcome as it grows.

    Attributes:
        inputs: the model, its blessing, and the evaluator's answers.
        params: which server, and how patiently.
        ctx: the step's context; the model is staged in its scratch folder.
        blessed: the digest that was blessed.
        findings: the lint's, each with its code and its sentence.
        checks: by server, in the order they were made.
        refusal: why a server did not load the model; None if it did.
        facts: numbers for the log.
    """

    inputs: Inputs
    params: Params
    ctx: Context
    blessed: str
    findings: Sequence[dict[str, str]] = ()
    checks: dict[str, list[Ruling]] = field(default_factory=dict)
    refusal: str | None = None
    facts: dict[str, float | int | str | bool | None] = field(default_factory=dict)

    def complaints(self) -> list[str]:
        """All that speaks against the model, the worst first."""
        complaints = [finding["sentence"] for finding in self.findings]
        complaints += [self.refusal] if self.refusal is not None else []
        for server, rulings in self.checks.items():
            complaints += [f"{server}: {r.sentence}" for r in rulings if r.outcome == "block"]
        return complaints

    def run(self, server: Server) -> None:
        """Try it in a fresh process, and on the real server if there is one."""
        self._base = _stage(self.inputs.model, self.ctx.scratch)
        self._in_fresh_process()
        if server.real and not self.complaints():
            self._on(server)

    def _in_fresh_process(self) -> None:
        """Lint, restore, replay; this process prepares its requests while that one starts."""
        started, deadline = time.monotonic(), self._deadline()
        with _fresh_process(self._base) as process:
            self._golden = Golden.read(self.inputs.evaluation.path / "golden.npz")
            import bnpipe.serving.client.grpc  # noqa: F401 - seconds, if nobody had TensorFlow

            self.findings = process.findings(deadline)
            if self.findings:
                return
            self._check_bytes()
            try:
                addresses = process.wait_until_serving(deadline)
                start_seconds = round(time.monotonic() - started, 2)
                self._ask(_STAND_IN, process, addresses)
                self.facts["start_seconds"] = start_seconds
            except Refused as error:
                self.refusal = f"it cannot be loaded: {error}"
            self._keep_log(process)

    def _on(self, server: Server) -> None:
        try:
            with serving(server, self._base, self._deadline()) as (process, addresses):
                self._ask(server, process, addresses)
                self._keep_log(process)
        except Refused as error:
            self.refusal = f"{server.name} cannot load it: {error}"

    def _ask(self, server: Server, process: Process, addresses: Addresses) -> None:
        from bnpipe.components.infra_validator.replay import TOLERANCE, latency, replay
        from bnpipe.serving.client.grpc import GrpcClient

        options = Options(timeout=self.params.answer_seconds, attempts=1)
        with (
            RestClient(addresses.rest, MODEL, options) as rest,
            GrpcClient(addresses.grpc, MODEL, options) as grpc,
        ):
            try:
                self.checks[server.name] = replay(
                    self._golden, rest, grpc, max(TOLERANCE, self.inputs.model.rounding())
                )
                if not self.complaints():
                    for name, client in (("rest", rest), ("grpc", grpc)):
                        times = latency(client, self._golden, self.params.timed_requests)
                        self.facts[f"{name}_p50_ms"], self.facts[f"{name}_p99_ms"] = times
            except ServerError as error:
                self._log_tail(process)
                process.check_alive()
                raise process.fault(f"gave no answer: {error.headline}") from error
        process.check_alive()

    def _check_bytes(self) -> None:
        """Makes sure that the served bytes are those that were judged."""
        served = tree_digest(self._base / VERSION)
        if served != self.blessed:
            raise ServingError(
                f"the blessing is for another model: expected digest {served[:12]}, "
                f"received {self.blessed[:12]}",
                hint="evaluate again: bnpipe run --force evaluator",
            )

    def _keep_log(self, process: Process) -> None:
        """Logs the server's last lines, and keeps them as a fact, if the model is refused."""
        if self.complaints():
            self._log_tail(process)
            self.facts["server_log"] = "\n".join(process.tail())

    def _log_tail(self, process: Process) -> None:
        self.ctx.log.error("the server's last lines:\n%s", "\n".join(process.tail()))

    def _deadline(self) -> float:
        return time.monotonic() + self.params.start_seconds


def judge(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Tries the model and writes the verdict. See `step.run`."""
    server = servers.find(params.server_binary)
    if ctx.outside is not None and ctx.outside["server"] != server.identity:
        raise ServingError(
            f"the server changed meanwhile: planned was {ctx.outside['server']}, "
            f"now it is {server.identity}",
            hint="run again: bnpipe run",
        )
    trial = _Trial(inputs, params, ctx, _digest_of(inputs))
    trial.facts |= {"server": server.name, "weaker": not server.real}
    if params.require_real_server and not server.real:
        trial.refusal = (
            f"serving.require_real_server is set: expected a {BINARY} on PATH or the image {IMAGE} "
            "in Docker, found neither"
        )
    else:
        trial.run(server)
    _write(outputs.infra_blessing, trial, server)
    return trial.facts


def _digest_of(inputs: Inputs) -> str:
    """The digest that was blessed."""
    try:
        blessing = inputs.blessing.read_json(inputs.blessing.verdict_file)
        return str(blessing["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServingError(
            f"{inputs.blessing.producer}: cannot read {inputs.blessing.verdict_file}: {error}"
        ) from error


def _stage(model: Model, scratch: Path) -> Path:
    """A base path whose version 1 is the model's SavedModel, file by file the same inodes.

    Links stay links, for the lint to see.

    Raises:
        RequestError: no server would find the model by its path.
    """
    base = plain_path(scratch, "scratch folder") / MODEL  # else it would be the model's fault
    shutil.rmtree(base, ignore_errors=True)
    source = model.saved_model
    (base / VERSION).mkdir(parents=True)
    for folder, folders, files in os.walk(source):
        target = base / VERSION / Path(folder).relative_to(source)
        target.mkdir(exist_ok=True)
        for name in (*files, *(n for n in folders if os.path.islink(os.path.join(folder, n)))):
            try:
                os.link(os.path.join(folder, name), target / name, follow_symlinks=False)
            except OSError:  # another disk, or one without hard links
                copy_file(Path(folder, name), target / name)
    return base


def _write(blessing: InfraBlessing, trial: _Trial, server: Server) -> None:
    """`verdict.json` and TFX's marker; no times, no places."""
    complaints = trial.complaints()
    weaker = "" if server.real else " (weaker: no TensorFlow Serving here)"
    if complaints:
        sentence = f"not served: {complaints[0]}"
        if len(complaints) > 1:
            sentence += f" (and {len(complaints) - 1} more)"
    else:
        sentence = (
            f"served by {server.name}{weaker}: {len(SIGNATURES)} signatures answer over REST and "
            "gRPC as evaluated"
        )
    verdict: dict[str, Any] = {
        "passed": not complaints,
        "sentence": sentence,
        "model": trial.blessed,
        "server": server.name,
        "weaker": not server.real,
        "findings": list(trial.findings),
        "checks": {name: [r.to_json() for r in made] for name, made in trial.checks.items()},
    }
    (blessing.path / blessing.verdict_file).write_text(json_text(verdict, indent=2) + "\n")
    (blessing.path / blessing.marker(not complaints)).touch()
