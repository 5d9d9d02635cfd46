"""The last cause is the message, and says whether another try can help."""

import pickle

import pytest

from bnpipe.data.engines.errors import EngineError, last_cause

# What Beam 2.77 told of such faults on Flink 1.19, shortened.
_PYTHON = """\
java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK \
harness for instruction 1: Traceback (most recent call last):
  File "/opt/sdk_worker.py", line 311, in _execute
    response = task()
  File "/opt/transform.py", line 3, in process
    return 1 / 0
ZeroDivisionError: division by zero [while running 'Look']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient"""
_OURS = _PYTHON.replace("ZeroDivisionError: ", "bnpipe.data.errors.DataError: no such record: ")
_JAVA = """\
org.apache.flink.client.program.ProgramInvocationException: The job failed
\tat org.apache.flink.client.X.y(X.java:1)
Caused by: org.apache.flink.runtime.JobException: Recovery is suppressed
\t... 5 more
Caused by: java.io.IOException: Cannot run program "docker": error=2, No such file or directory
\t... 9 more"""
_GRPC = """Traceback (most recent call last):
  File "a.py", line 1, in b
grpc._channel._MultiThreadedRendezvous: <_MultiThreadedRendezvous of RPC that terminated with:
\tstatus = StatusCode.UNAVAILABLE
\tdetails = "Socket closed"
>"""
_KILLED = """Error received: Traceback (most recent call last):
  File "a.py", line 1, in b
grpc.RpcError: CANCELLED: client cancelled"""


@pytest.mark.parametrize(
    ("text", "cause", "raised"),
    [
        (_GRPC, "Socket closed", False),
        ("Pipeline a-b_c failed in state FAILED: java.net.X: gone", "java.net.X: gone", False),
        (_PYTHON, "ZeroDivisionError: division by zero [while running 'Look']", True),
        (_OURS, "no such record: division by zero [while running 'Look']", True),
        (
            _JAVA,
            'java.io.IOException: Cannot run program "docker": error=2, No such file or directory',
            False,
        ),
        (_KILLED, "grpc.RpcError: CANCELLED: client cancelled", False),
        ("Pipeline failed.", "Pipeline failed.", False),
        ("", "no reason", False),
    ],
)
def test_the_last_cause_is_told(text: str, cause: str, raised: bool) -> None:
    assert last_cause(text) == (cause, raised)


def test_an_error_comes_whole_out_of_another_process() -> None:
    error = pickle.loads(pickle.dumps(EngineError("a", hint="b", may_pass=True)))
    assert (error.headline, error.hint, error.may_pass) == ("a", "b", True)
