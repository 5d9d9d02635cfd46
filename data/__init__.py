"""The data of the pipeline: TFDS sources, codecs, preprocessing, statistics, Beam transforms."""

import atexit
import ctypes
import gc
import os

# The libraries load a million objects. To look for garbage among them when a process ends takes two
# seconds, and finds what ends with it.
atexit.register(gc.freeze)

# Libraries read these when they are imported, and every module of ours imports this one before: in
# Beam's workers and in servers too. What a user sets, or has in keras.json (another backend,
# another float), is for the user's programs: it would change the bytes of models under the same
# step key. Below a device there is no keras.json; None is for the library's own choice.
FOR_LIBRARIES = {
    "DNNL_DEFAULT_FPMATH_MODE": None,
    "DNNL_MAX_CPU_ISA": None,
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,
    "ONEDNN_DEFAULT_FPMATH_MODE": None,
    "ONEDNN_MAX_CPU_ISA": None,
    "OPENBLAS_CORETYPE": None,
    "OPENBLAS_NUM_THREADS": "1",  # of several, sums have other last bits
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": None,
    "TF_DETERMINISTIC_OPS": None,
    "TF_ENABLE_ONEDNN_OPTS": None,
    "TF_USE_LEGACY_KERAS": "0",
    "TF_XLA_FLAGS": None,
    "XLA_FLAGS": None,
}
_OF_USER = {name: os.environ.pop(name, None) for name in FOR_LIBRARIES}
os.environ |= {name: value for name, value in FOR_LIBRARIES.items() if value is not None}


def users_environment() -> dict[str, str]:
    """The environment for programs that are the user's: with what it had for libraries."""
    values = {**os.environ, **_OF_USER}
    # A process that we started has ours for the user's: those are left out.
    return {n: v for n, v in values.items() if v is not None and FOR_LIBRARIES.get(n) != v}


def collect_rarely() -> None:
    """Let this process look for garbage less often, which is a fifth of the time of its imports."""
    gc.set_threshold(100_000)


def give_back_memory() -> None:
    """Gives the system what is free: glibc keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
