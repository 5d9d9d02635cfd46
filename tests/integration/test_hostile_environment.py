"""The main verbs where the user's environment is odd, but legal: nothing of it changes an answer.

The list holds the variables and files that TensorFlow, Keras, TFDS, Beam, gRPC, git, Python, the
locale, terminals and the C library read and that change most there. Each is set alone for a whole
run (slow), and all that go together for the verbs that look. The clean side is the first run that
the other tests look at too.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.child import environment
from tests.integration.conftest import AS_IN_README, First, MakeProject, Project, digests, steps

# Names are set as they are; {odd} is a folder with the files below.
SETTINGS: dict[str, dict[str, str]] = {
    # Python
    "hash seed": {"PYTHONHASHSEED": "7"},
    "no assertions": {"PYTHONOPTIMIZE": "1"},
    "warnings": {"PYTHONWARNINGS": "always"},
    "ascii streams": {"PYTHONIOENCODING": "ascii:backslashreplace", "PYTHONUTF8": "0"},
    "no bytecode": {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "{odd}/cache"},
    "startup": {"PYTHONSTARTUP": "{odd}/startup.py", "PYTHONBREAKPOINT": "os.abort"},
    "own modules": {"PYTHONPATH": "{odd}/modules"},
    "safe path": {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"},
    "fault handler": {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"},
    # TensorFlow, Keras, and what computes below them
    "threads": {"TF_NUM_INTRAOP_THREADS": "5", "TF_NUM_INTEROP_THREADS": "3"},
    "pools": {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "2"},
    "onednn on": {"TF_ENABLE_ONEDNN_OPTS": "1"},
    "onednn off": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "xla": {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"},
    "xla flags": {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"},
    "instructions": {
        **dict.fromkeys(("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"), "SSE41"),
        **dict.fromkeys(("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"), "BF16"),
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "determinism": {"TF_DETERMINISTIC_OPS": "1"},
    "legacy keras": {"TF_USE_LEGACY_KERAS": "1"},
    "tf log": {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_MAX_VLOG_LEVEL": "0"},
    "tf2 off": {"TF2_BEHAVIOR": "0"},
    "gpu": {"CUDA_VISIBLE_DEVICES": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
    "keras backend": {"KERAS_BACKEND": "jax"},
    "keras.json": {"KERAS_HOME": "{odd}/keras"},
    "numpy": {"NPY_PROMOTION_STATE": "legacy", "NUMPY_MADVISE_HUGEPAGE": "0"},
    # TFDS, Beam, protobuf, gRPC
    "tfds": {"TFDS_DATA_DIR": "{odd}/nowhere/tfds"},
    "protobuf": {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
    "grpc": {"GRPC_VERBOSITY": "info", "GRPC_POLL_STRATEGY": "poll", "GRPC_DNS_RESOLVER": "native"},
    "proxy": {
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"), "http://127.0.0.1:9"),
        "no_proxy": "",
        "NO_PROXY": "",
    },
    # git
    "git folder": {"GIT_DIR": "{odd}/nowhere", "GIT_WORK_TREE": "{odd}"},
    "git config": {"GIT_CONFIG_GLOBAL": "{odd}/gitconfig", "GIT_PAGER": "false"},
    "git trace": {"GIT_TRACE": "1"},
    # Locale and time
    "plain locale": {"LC_ALL": "C", "LANG": "", "LANGUAGE": ""},
    "missing locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "zone": {"TZ": "Asia/Kathmandu"},
    "no zone": {"TZ": "Nowhere/None"},
    # Terminals
    "dumb": {"TERM": "dumb"},
    "narrow": {"COLUMNS": "10", "LINES": "2"},
    "odd width": {"COLUMNS": "wide", "LINES": "0"},
    "no colour": {"NO_COLOR": "1"},
    "notebook": {"MPLBACKEND": "QtAgg", "JPY_PARENT_PID": "1"},
    "tracebacks": {"_TYPER_STANDARD_TRACEBACK": "1", "RICH_TRACEBACK": "1"},
    # Folders
    "temporary folder": {"TMPDIR": "{odd}/temporary [ü] %d"},
    "no home": {"HOME": "{odd}/nowhere", "XDG_CACHE_HOME": "{odd}/nowhere/cache"},
    "matplotlib": {"MPLCONFIGDIR": "{odd}/mpl"},
    "malloc": {"MALLOC_PERTURB_": "165", "MALLOC_ARENA_MAX": "1"},
}
# Changes what is printed, as it is meant to.
COLOURED = {"colour": {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}}
FILES = {
    "startup.py": "raise SystemExit('startup')\n",
    "modules/queue_of_mine.py": "raise SystemExit('mine')\n",
    "modules/data/__init__.py": "raise SystemExit('data')\n",
    "modules/pipeline.py": "raise SystemExit('pipeline')\n",
    "modules/serving/__init__.py": "",
    "keras/keras.json": '{"backend": "jax", "floatx": "float64", "epsilon": 0.1, '
    '"image_data_format": "channels_first"}',
    "gitconfig": "[core]\n\tpager = false\n[color]\n\tui = always\n[status]\n\tshort = true\n",
    "mpl/matplotlibrc": "backend: QtAgg\nfont.family: Nothing\nsavefig.dpi: 17\n",
    "temporary [ü] %d/kept": "",
}
LOOKING = (("plan", "--json"), ("status", "--json"), ("versions", "list", "--json"), ("graph",))


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


Ended = tuple[int, str, str]


@pytest.fixture
def hostile(odd: Path, tmp_path: Path) -> Callable[..., dict[str, str]]:
    def made(*names: str) -> dict[str, str]:
        known = SETTINGS | COLOURED
        values = {key: value for name in names for key, value in known[name].items()}
        return {key: value.replace("{odd}", str(odd)) for key, value in values.items()}

    return made


def ended(project: Project, words: tuple[str, ...], environ: dict[str, str]) -> Ended:
    """The exit code and both streams of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "bnpipe.pipeline", *words],
        cwd=project.folder,
        env=environment(**environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout, done.stderr


def ours(text: str) -> list[str]:
    """The lines of a stream that are bnpipe's, without its times."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]
    told = [line for line in lines if re.match(r"(error|warning|Error|Traceback)\b", line)]
    return [re.sub(r"\d+\.\d+ s", "", line) for line in told]


def test_nothing_in_the_environment_changes_what_verbs_see(
    kept: Project, hostile: Callable[..., dict[str, str]]
) -> None:
    everything = hostile(*SETTINGS)
    for words in LOOKING:
        clean = ended(kept, words, {})
        assert clean[0] == 0, clean
        code, out, err = ended(kept, words, everything)
        assert (code, out, ours(err)) == (clean[0], clean[1], ours(clean[2])), err


def test_a_python_without_docstrings_is_refused_at_once(kept: Project) -> None:
    code, out, err = ended(kept, ("plan",), {"PYTHONOPTIMIZE": "2"})
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "PYTHONOPTIMIZE" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SETTINGS, *COLOURED])
def test_a_run_gives_the_same_bytes_and_words(
    name: str,
    first_run: First,
    make_project: MakeProject,
    hostile: Callable[..., dict[str, str]],
) -> None:
    project = make_project(AS_IN_README)
    code, out, err = ended(project, ("run",), hostile(name))
    assert code == 0, f"{out}\n{err}"
    assert ours(err) == []
    summary = project.json("show", "latest")
    assert steps(summary) == steps(first_run.run.summary)
    assert digests(summary) == digests(first_run.run.summary)
    assert summary["verdict"] == first_run.run.summary["verdict"]
    # The plan in the same environment and in a clean one: there is nothing to do.
    assert ended(project, ("plan", "--exit-code"), hostile(name))[0] == 0
    assert ended(project, ("plan", "--exit-code"), {})[0] == 0


# Streams. A verb that only looks says that its answer was lost; one that works, works.

LOST = {
    "no input": "<&-",
    "no output": ">&-",
    "no error": "2>&-",
    "none": "<&- >&- 2>&-",
    "full output": ">/dev/full",
    "full error": "2>/dev/full",
    "all full": ">/dev/full 2>/dev/full",
    "reader gone": "| true",
}


def piped(project: Project, words: str, streams: str, **environ: str) -> int:
    """The exit code of a command whose streams are lost."""
    program = shlex.quote(sys.executable)
    command = f"set -o pipefail; {program} -m bnpipe.pipeline {words} {streams}"
    return subprocess.run(
        ["bash", "-c", command], cwd=project.folder, env=environment(**environ), timeout=600
    ).returncode


@pytest.mark.parametrize("name", LOST)
def test_lost_streams_end_a_verb_that_looks_only_where_its_answer_is_lost(
    name: str, kept: Project
) -> None:
    expected = 1 if name in ("full output", "all full") else 0
    assert piped(kept, "plan", LOST[name]) == expected
    assert piped(kept, "nope", LOST[name]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("words", ["run", "run --json"])
@pytest.mark.parametrize("name", LOST)
def test_lost_streams_do_not_end_a_run(
    name: str, words: str, first_run: First, make_project: MakeProject
) -> None:
    project = make_project(AS_IN_README)
    assert piped(project, words, LOST[name]) == 0
    assert digests(project.json("show", "latest")) == digests(first_run.run.summary)
