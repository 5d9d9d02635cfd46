"""A worker process: executes the steps that it is sent, one after another.

python -P -m bnpipe.pipeline.engine.worker DESCRIPTOR PARENT_ID

It reads calls from a connection and answers with what became of them; when the connection ends, so
does it, and when its parent dies the kernel ends it. What it prints between steps goes to the
run's `workers.log`.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bnpipe.data import collect_rarely, give_back_memory, lean_import
from bnpipe.data.parent import end_with_parent
from bnpipe.pipeline.engine.errors import Terminated
from bnpipe.pipeline.engine.execute import terminable
from bnpipe.pipeline.engine.step import Task, execute


def main() -> None:
    """Serve one run."""
    collect_rarely()
    lean_import.install()
    descriptor, parent = map(int, sys.argv[1:])
    # What a step starts must not hold the connection open when this process is gone.
    os.set_inheritable(descriptor, False)
    if not end_with_parent(parent, signal.SIGKILL):
        return
    connection = Connection(descriptor)
    sys.path[:] = connection.recv()  # the modules are those of the parent
    sending = threading.Lock()

    def send(*message: Any) -> None:
        with sending:  # a step may report from any thread
            connection.send(message)

    try:
        with terminable():
            while True:
                _answer(connection.recv_bytes(), send)
    except (EOFError, OSError, Terminated):  # the run has ended, or wants this process to
        return


def _answer(call: bytes, send: Callable[..., None]) -> None:
    """Do what was asked for, and say what became of it."""
    started = time.time()
    try:
        match pickle.loads(call):  # of a module that cannot be imported, it raises
            case ("step", Task() as task):
                send("done", execute(task, lambda *how_far: send("progress", *how_far)))
                _give_back_memory()
            case ("call", function, arguments):
                function(*arguments)
                send("done", {})
            case ("ahead", function, arguments):
                _make_ready(function, arguments)
                send("ready", started, time.time() - started)
    except Exception as error:
        send("failed", *_portable(error))


def _make_ready(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # Little that is loaded ahead becomes garbage, and to look for it costs a third of the time.
    gc.disable()
    try:
        function(*arguments)
    except Exception:  # the step itself will meet it again, and tell
        traceback.print_exc()
    finally:
        gc.enable()
        gc.freeze()


def _give_back_memory() -> None:
    """Frees what the step left: of a training that is a quarter of a gigabyte."""
    gc.collect()
    gc.freeze()  # so that the next time only looks at what is new
    give_back_memory()


def _portable(error: Exception) -> tuple[Exception | None, str, str, str]:
    """An error as it can be sent: itself if pickle can deal with it, type, message, traceback."""
    text = "".join(traceback.format_exception(error))
    whole: Exception | None = error
    error.__cause__ = error.__context__ = None  # the text has them
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is not type(error) or str(copy) != str(error):
            whole = None
    except Exception:  # of a class that pickle cannot make again
        whole = None
    return whole, type(error).__name__, str(error), text


if __name__ == "__main__":
    main()
