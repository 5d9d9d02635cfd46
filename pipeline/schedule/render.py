"""Files for schedulers that call `bnpipe retrain --due` every five minutes.

The scheduler's own clock does not decide what is due: the tick does, from the configuration, so
systemd, cron, Kubernetes and Airflow may call it too often, too late or twice. A gate's verdict
(exit code 3) is an outcome and no fault of the job.

Airflow may do without the tick: with `schedule.per_step` every step of the graph is a task.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from bnpipe.data.json_text import json_text
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode
from bnpipe.pipeline.engine.graph import Graph

KINDS: Final = ("systemd", "cron", "kubernetes", "airflow")
OURS: Final = re.compile(r'\A(?:# |""")bnpipe: ')
"""How every file begins."""
MINUTES: Final = 5
SLACK_SECONDS: Final = 900
"""Seconds that the whole tick may take longer than its run, before its scheduler ends it."""
MEMORY: Final = "4Gi"
"""Twice what a run may use (2 GB)."""

_FILES = {
    "systemd": {
        "bnpipe-retrain.service": "service.j2",
        "bnpipe-retrain.timer": "timer.j2",
    },
    "cron": {"bnpipe-retrain.crontab": "crontab.j2"},
    "kubernetes": {"bnpipe-retrain.yaml": "cronjob.yaml.j2"},
    "airflow": {"bnpipe_retrain.py": "dag.py.j2"},
}
_STEPS = {"bnpipe_steps.py": "dag_steps.py.j2"}
_JINJA = re.compile(r"\{[{%#]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class TickCommand:
    """The call that a scheduler has to make.

    Attributes:
        command: the words of the command.
        folder: working directory.
        environment: variables that the command needs (`BNPIPE_HOME`, ...).
        time_limit: of a run, in seconds; None for none.
        beyond: what else a tick waits for, in seconds: triggers that look at data, a soak.
        grace: how long a run may take to end when it is stopped, in seconds.
        image: container image with bnpipe installed; Kubernetes only.
        config: text of the configuration file; Kubernetes mounts it.
        home_mb: MiB of the claim that is the home, as in `deploy.beam`; Kubernetes only.
        home_shared: whether workers elsewhere use the home too; Kubernetes only.
        steps: what each step waits for, if each is to be a task of its own and the command is
            `bnpipe run`; Airflow only, as all below.
        slots: cron expression or interval of those tasks; None for by hand.
        timezone: of the cron expression.
        attempts: at a task, at most.
        backoff: seconds between them.
    """

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    time_limit: float | None = None
    beyond: float = 0.0
    grace: float = 30.0
    image: str | None = None
    config: str = "{}\n"
    home_mb: int = 20480
    home_shared: bool = True
    steps: Mapping[str, Sequence[str]] = field(default_factory=dict)
    slots: str | timedelta | None = None
    timezone: str = "UTC"
    attempts: int = 3
    backoff: float = 300.0

    @property
    def limit_seconds(self) -> int | None:
        """The limit at which a scheduler should give up on a tick; None for never."""
        if self.time_limit is None:
            return None
        return math.ceil(self.time_limit + self.beyond) + SLACK_SECONDS

    @property
    def stop_seconds(self) -> int:
        """Seconds that a stopped tick may take to stop its run and to write that down."""
        return math.ceil(self.grace) + 30


def render(kind: str, tick: TickCommand) -> dict[str, str]:
    """The files for a scheduler, text by name.

    Raises:
        ConfigError: unknown kind, or a value that such a file cannot hold.
    """
    if kind not in _FILES:
        raise ConfigError(f"no scheduler is called {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if tick.steps and kind != "airflow":
        raise ConfigError(
            f"schedule.per_step: expected --kind airflow, which has tasks, received --kind {kind}",
            hint="--set schedule.per_step=false, or leave it out",
        )
    if kind == "kubernetes" and tick.image is None:
        raise ConfigError(
            "a CronJob needs a container image with bnpipe installed",
            hint="bnpipe schedule render --kind kubernetes --image REGISTRY/NAME:TAG",
        )
    for value in (*tick.command, str(tick.folder), *tick.environment.values(), tick.image or ""):
        if _UNPRINTABLE.search(value):
            raise ConfigError(f"{value!r} has control characters, which {kind} files cannot hold")
        if kind == "airflow" and _JINJA.search(value):
            raise ConfigError(f"Airflow would take {value!r} for a template of its own")
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    templates = Environment(
        # The claim of the home is that of `deploy render --kind beam`.
        loader=ChoiceLoader(
            [PackageLoader("bnpipe.pipeline.schedule"), PackageLoader("bnpipe.serving.deploy")]
        ),
        autoescape=False,  # these are not web pages; every format has its own quoting below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "systemd": systemd_word,
        "systemd_path": systemd_path,
        "crontab": crontab_command,
        "yaml": json_text,  # a JSON text is a YAML text
        "python": repr,
    }
    return {
        name: templates.get_template(template).render(
            tick=tick,
            home="/var/lib/bnpipe",
            home_mb=tick.home_mb,
            home_shared=tick.home_shared,
            minutes=MINUTES,
            memory=MEMORY,
            verdict=int(ExitCode.VERDICT),
            locked=int(ExitCode.LOCKED),
            shell=shlex.join(tick.command),
            line=_crontab_line(tick),
        )
        for name, template in (_STEPS if tick.steps else _FILES[kind]).items()
    }


def waits(graph: Graph) -> dict[str, list[str]]:
    """What every step waits for, without what that waits for itself."""
    every = {name: graph.waits_for(name) for name in graph.nodes}
    return {
        name: [one for one in every if one in all_ and all(one not in every[o] for o in all_)]
        for name, all_ in every.items()
    }


def systemd_word(word: str) -> str:
    """A word of `ExecStart=:` or `Environment=` (systemd.service(5), systemd.syntax(7)).

    In neither is `$` special; without the colon, systemd would expand it in arguments.
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'.replace("%", "%%")


def systemd_path(path: Path | str) -> str:
    """A path where systemd wants no quotes and expands no variables, only `%`."""
    return str(path).replace("%", "%%")


def _crontab_line(tick: TickCommand) -> str:
    """One line for `sh`, whose output syslog keeps and rotates."""
    variables = [f"{name}={value}" for name, value in tick.environment.items()]
    exports = f"export {shlex.join(variables)} && " if variables else ""
    call = f"cd {shlex.quote(str(tick.folder))} && {exports}{shlex.join(tick.command)}"
    return f"{{ {call}; }} 2>&1 | logger -t bnpipe-retrain"


def crontab_command(command: str) -> str:
    """A command in a crontab, where an unescaped `%` ends it (crontab(5))."""
    return command.replace("%", r"\%")
