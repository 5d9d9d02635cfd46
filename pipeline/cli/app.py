"""All verbs, in the groups that `bnpipe --help` shows."""

from __future__ import annotations

import importlib
import sys

import typer

from bnpipe.pipeline.engine.errors import ExitCode

_VERBS = {
    "work": ("run", "plan", "resume", "status"),
    "look": ("runs", "show", "diff", "logs", "report", "graph", "study"),
    "ship": (
        "push",
        "versions",
        "rollback",
        "promote",
        "canary",
        "export",
        "serve",
        "predict",
        "smoke",
        "deploy",
    ),
    "care": ("retrain", "schedule", "track", "gc", "config", "doctor"),
}
_CODES = "  ".join(f"{int(code)} {code.meaning}." for code in ExitCode)


def app() -> typer.Typer:
    """The application with all its verbs."""
    made = typer.Typer(
        name="bnpipe",
        help="MNIST, ingested and transformed by Beam, trained with batch normalisation, judged "
        "by TFMA against its twin without it, published for TF Serving.",
        epilog=f"Exit codes: {_CODES}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_version)
    for panel, verbs in _VERBS.items():
        for verb in verbs:
            module = importlib.import_module(f"bnpipe.pipeline.cli.{verb}")
            if hasattr(module, "app"):
                made.add_typer(module.app, name=verb, rich_help_panel=panel)
            else:
                made.command(verb, rich_help_panel=panel)(getattr(module, verb))
    return made


def call(arguments: list[str]) -> int:
    """Parse and run; returns the exit code.

    Raises:
        BnpipeError: what went wrong, for `main` to tell.
    """
    try:
        result = app()(arguments, prog_name="bnpipe", standalone_mode=False)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        from bnpipe.pipeline import ui

        with ui.heard_or_not(sys.stderr):
            error.show()  # type: ignore[attr-defined]  # usage errors and the help of a group
        return ExitCode.USAGE
    return int(result or 0)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from bnpipe.pipeline import ui

        ui.say(f"bnpipe {version('bnpipe')}")
        raise typer.Exit


def _version(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Filled in by `app`: options of the program itself."""
