"""The command line: one file per verb, thin over `pipeline`.

`main` is the process boundary: every error becomes one line and a documented exit code. It checks
the Python version first, before anything that an older Python could not even parse is imported.
"""

from __future__ import annotations

import os
import sys

OLDEST, NEWEST = (3, 11), (3, 13)


def main() -> None:
    """Run the command line and exit with a code of `engine.errors.ExitCode`."""
    here = tuple(sys.version_info[:2])
    if not OLDEST <= here <= NEWEST:
        expected = ".".join(map(str, OLDEST)) + " to " + ".".join(map(str, NEWEST))
        sys.stderr.write(
            f"error: bnpipe needs CPython {expected}, this is {'.'.join(map(str, here))} "
            f"({sys.executable}) → make run PYTHON=python3.11\n"
        )
        sys.exit(2)
    if sys.flags.optimize > 1:
        sys.stderr.write(
            "error: libraries of bnpipe read docstrings, expected Python with them, received -OO "
            "→ unset PYTHONOPTIMIZE, or make it 1\n"
        )
        sys.exit(2)
    _open_streams()
    arguments = sys.argv[1:]
    try:
        sys.exit(_main(arguments))
    except Exception as error:  # our own boundary could not be imported, or knows no better
        sys.exit(_broken(arguments, error))


def _open_streams() -> None:
    """Put /dev/null behind each of the descriptors 0 to 2 that we were started without.

    Else the next file that is opened gets the number, and what is printed goes into that file.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _main(arguments: list[str]) -> int:
    from bnpipe.data import collect_rarely, lean_import
    from bnpipe.data.errors import BnpipeError
    from bnpipe.pipeline.engine.errors import ExitCode, Terminated, exit_code_of
    from bnpipe.pipeline.shadows import shadows

    collect_rarely()
    lean_import.install()
    _ask_this_machine_directly()
    trace = "-v" in arguments or "--verbose" in arguments
    try:
        from bnpipe.pipeline.cli.app import call

        code = call(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Terminated:
        return ExitCode.TERMINATED
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our output went away, as `head` does; rich makes a SystemExit of it.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            return error.code if isinstance(error.code, int) else ExitCode.FAILED
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        from bnpipe.pipeline import ui

        ui.drop_unwritten(sys.stdout)
        expected = isinstance(error, BnpipeError | OSError)
        broken = isinstance(error, ImportError) or arguments[:1] == ["doctor"]
        if not expected and (broken or shadows()):
            raise
        ui.error(error, trace=trace or not expected)
        if expected:
            return exit_code_of(error)
        ui.error(BnpipeError("this is a bug in bnpipe", hint="report it with `bnpipe doctor`"))
        return ExitCode.BUG


def _broken(arguments: list[str], error: Exception) -> int:
    """Say what keeps the program from running, by the standard library alone; the exit code."""
    from bnpipe.pipeline.shadows import shadows

    hidden = [(f"module {name}", f"hidden by {path}") for name, path in shadows()]
    checks = [*hidden, ("bnpipe", f"{type(error).__name__}: {error}")]
    if arguments[:1] == ["doctor"]:
        if "--json" in arguments:
            import json

            values = [{"name": name, "ok": False, "sentence": text} for name, text in checks]
            sys.stdout.write(json.dumps(values, indent=2) + "\n")
        else:
            sys.stdout.writelines(f"!!  {name:<28} {text}\n" for name, text in checks)
        return 1
    if "-v" in arguments or "--verbose" in arguments:
        import traceback

        traceback.print_exception(error)
    why = ", ".join(f"{name} is {text}" for name, text in hidden) or "the installation is broken"
    sys.stderr.write(f"error: {checks[-1][1]}; {why} → bnpipe doctor\n")
    return 2


def _ask_this_machine_directly() -> None:
    """Keep http_proxy from what runs on this machine: our servers, Beam's workers, trackers.

    Libraries and the processes that we start read it; through a proxy Beam's would wait for ever.
    """
    excepted = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
    if "*" not in excepted:
        names = dict.fromkeys([*excepted, "localhost", "127.0.0.1", "::1"])
        os.environ["no_proxy"] = ",".join(name for name in names if name)
