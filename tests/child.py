"""What tests give to the processes that they start, whoever started the tests."""

import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What programs need of the machine. All else that the caller of the suite has set stays with the
# caller: ARGS and MAKEFLAGS of `make test`, BNPIPE_HOME, PYTHONPATH, COLUMNS, a language.
MACHINE = frozenset(
    """
    CUDA_VISIBLE_DEVICES CURL_CA_BUNDLE HOME LD_LIBRARY_PATH LOGNAME PATH PIP_CERT PIP_FIND_LINKS
    PIP_INDEX_URL PYENV_ROOT REQUESTS_CA_BUNDLE SSL_CERT_DIR SSL_CERT_FILE TMPDIR USER
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
    """.split()  # noqa: SIM905
)
# Where tests keep what the caller named by BNPIPE_ARCHIVES: the product does not know this name.
ARCHIVES = "TESTS_MNIST_ARCHIVES"
# The same of BNPIPE_TF_SERVING.
TF_SERVING = "TESTS_TF_SERVING"
# The endpoint of an S3 server, where a test has started one.
S3 = "TESTS_S3"
# Set where a machine judges a change: `.ci/run`.
CI = "CI"
# For children that import `tests`.
WITH_TESTS = {"PYTHONPATH": str(ROOT)}


def environment(**changes: str) -> dict[str, str]:
    """The environment of a user who has set nothing, and what a test sets on top of it."""
    kept = {name: value for name, value in os.environ.items() if name in MACHINE}
    return {"LANG": "C.UTF-8", **kept, **changes}


def forget_the_caller() -> None:
    """Let this process, and whatever it starts without `environment`, have no more than that.

    What pytest tells its workers stays. They come here too, from a process that has been here.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if name in (ARCHIVES, TF_SERVING, S3, CI)
        or (name.startswith("PYTEST_") and name != "PYTEST_ADDOPTS")
    }
    for name, of_caller in ((ARCHIVES, "BNPIPE_ARCHIVES"), (TF_SERVING, "BNPIPE_TF_SERVING")):
        if os.environ.get(of_caller):
            own[name] = os.environ[of_caller]
    # Before any test starts TensorFlow, as `bnpipe run` does; the trainer insists on it.
    kept = environment(TF_NUM_INTRAOP_THREADS="1", **own)
    os.environ.clear()
    for name in ("COLUMNS", "LINES"):
        os.unsetenv(name)  # readline, which pytest imports, sets them past os.environ
    os.environ.update(kept)
    time.tzset()
