"""The process: `python -m bnpipe.serving.local --model_config_file=...`, with TF Serving's flags.

Says on every start that it is a stand-in. When it is ready it writes one line for programs:
`serving rest=http://127.0.0.1:8501 grpc=127.0.0.1:8500`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from bnpipe.data.parent import end_with_parent
from bnpipe.data.quiet import quiet

NOTICE = (
    "This is bnpipe's stand-in for TensorFlow Serving: for laptops and tests, not for production."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    flags = _flags().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("bnpipe.serving.local").setLevel(logging.INFO)
    # It warns of the loader that the real server has too.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _say(NOTICE)
    if flags.exit_with_parent:
        end_with_parent(os.getppid(), signal.SIGTERM)
    return _serve(flags, stop)


def _serve(flags: argparse.Namespace, stop: threading.Event) -> int:
    from bnpipe.serving.local.config import ModelEntry

    with quiet():
        from bnpipe.serving.local.server import LocalServer
    from bnpipe.serving.local.states import Settings
    from bnpipe.serving.local.status import StatusError

    settings = Settings(
        poll_wait_seconds=flags.file_system_poll_wait_seconds,
        config_poll_wait_seconds=flags.model_config_file_poll_wait_seconds,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_seconds=flags.load_retry_interval_micros / 1e6,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
    )
    file = flags.model_config_file
    try:
        server = LocalServer(
            file or [ModelEntry(flags.model_name, os.path.abspath(flags.model_base_path))],
            settings,
            host=flags.host,
            rest_port=flags.rest_api_port,
            grpc_port=flags.port,
            cancelled=stop.is_set,
        )
    except InterruptedError:
        return 0
    except (StatusError, OSError) as error:
        ports = f" (REST port {flags.rest_api_port}, gRPC port {flags.port})"
        where = ports if isinstance(error, OSError) else ""
        sys.stderr.write(f"Failed to start server. Error: {error}{where}\n")
        return 1
    host = f"[{flags.host}]" if ":" in flags.host else flags.host
    _say(f"serving rest=http://{host}:{server.rest_port} grpc={host}:{server.grpc_port}")
    while not stop.wait(3600):
        pass
    server.stop()
    return 0


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")
    return text.lower() in ("true", "1")


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnpipe.serving.local", description=NOTICE)
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--model_config_file", type=Path, help="models.config")
    models.add_argument("--model_base_path", type=Path, help="a folder of versions")
    parser.add_argument("--model_name", default="default", help="with --model_base_path")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--rest_api_port", type=int, default=8501, help="0: any free port")
    parser.add_argument("--port", type=int, default=8500, help="of gRPC; 0: any free port")
    for name, default in (
        ("model_config_file_poll_wait_seconds", 0.0),
        ("file_system_poll_wait_seconds", 1.0),
        ("load_retry_interval_micros", 60e6),
    ):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--max_num_load_retries", type=int, default=5)
    for name, text in (
        ("allow_version_labels_for_unavailable_models", "a new label need not wait for a load"),
        ("exit_with_parent", "stop when the process that started this one is gone"),
    ):
        parser.add_argument(
            f"--{name}", type=_bool, nargs="?", const=True, default=False, help=text
        )
    return parser
