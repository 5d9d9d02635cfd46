"""What is imported when nothing has to be computed: not the frameworks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import WITH_TESTS, environment

HEAVY = (
    "tensorflow",
    "keras",
    "apache_beam",
    "tensorflow_datasets",
    "tensorflow_model_analysis",
    "tensorflow_metadata",
    "tfx_bsl",
    "numpy",
    "pyarrow",
    "pandas",
    "scipy",
    "matplotlib",
)


def imported(script: str, tmp_path: Path) -> list[str]:
    """The heavy modules that a script leaves in sys.modules."""
    (tmp_path / "in.txt").write_text("seven\n")
    tail = f"\nimport sys, json\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script + tail],
        cwd=tmp_path,
        env=environment(
            BNPIPE_HOME=str(tmp_path / "home"), TOY_FILE=str(tmp_path / "in.txt"), **WITH_TESTS
        ),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_all_verbs_and_all_steps_are_light(tmp_path: Path) -> None:
    script = (
        "from bnpipe.pipeline.cli.app import app\n"
        "app()\n"
        "from bnpipe.pipeline import definition, doctor, launch, ui\n"
        "from bnpipe.pipeline.configuration import config\n"
        "from bnpipe.pipeline.engine import collect, drawing, runner\n"
    )
    assert imported(script, tmp_path) == []


TOY = (
    "from bnpipe.pipeline import definition, launch\n"
    "from bnpipe.pipeline.cli import _main\n"
    "from tests.pipeline import toy_cli\n"
    "definition.build = launch.build = toy_cli.build\n"
)


def test_a_cached_run_is_light(tmp_path: Path) -> None:
    assert (
        imported(TOY + "assert _main(['run']) == 0\nassert _main(['run']) == 0\n", tmp_path) == []
    )


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_the_product_s_own_plan_is_light(tmp_path: Path, verb: str) -> None:
    script = f"from bnpipe.pipeline.cli import _main\nassert _main(['{verb}']) == 0\n"
    assert imported(script, tmp_path) == []


def test_looking_is_light(tmp_path: Path) -> None:
    verbs = "".join(
        f"assert _main({words}) == 0\n"
        for words in (
            ["run"],
            ["runs"],
            ["show"],
            ["show", "served/1"],
            ["logs"],
            ["graph"],
            ["gc"],
            ["gc", "--verify"],
            ["config", "schema"],
            ["export", "latest/train", "out"],
        )
    )
    assert imported(TOY + verbs, tmp_path) == []


JAX = """
import json, os, pathlib
folder = pathlib.Path.home() / ".keras"
folder.mkdir()
(folder / "keras.json").write_text(json.dumps({"backend": "jax", "floatx": "float16"}))
"""


def test_keras_runs_on_tensorflow_whatever_its_user_has_set(tmp_path: Path) -> None:
    script = (
        "from bnpipe.components.network import network\n"
        "import keras, tensorflow as tf\n"
        "print(keras.backend.backend(), keras.config.floatx(), tf.keras.__version__[0])\n"
    )
    environ = environment(HOME=str(tmp_path), KERAS_BACKEND="jax", TF_USE_LEGACY_KERAS="1")
    words = [sys.executable, "-P", "-c", JAX + script]
    assert subprocess.check_output(words, env=environ, text=True) == "tensorflow float32 3\n"


@pytest.mark.parametrize(
    "module",
    ["bnpipe.data", "bnpipe.components.base", "bnpipe.serving.local", "bnpipe.pipeline.cli.app"],
)
def test_every_room_sets_up_keras_before_it_could_be_imported(module: str) -> None:
    script = f"import os, {module}; print(os.environ['KERAS_BACKEND'])"
    words = [sys.executable, "-P", "-c", script]
    environ = environment(KERAS_BACKEND="jax")
    assert subprocess.check_output(words, env=environ, text=True) == "tensorflow\n"


def test_libraries_are_not_searched_for_garbage_when_a_process_ends(tmp_path: Path) -> None:
    script = (
        "import atexit, gc\n"
        "atexit.register(lambda: print('frozen' if gc.get_freeze_count() else 'searched'))\n"
        "from bnpipe.pipeline.cli import _main\n"
        "assert gc.get_threshold()[0] < 100_000\n"
        "assert _main(['runs']) == 0\n"
        "assert gc.get_threshold()[0] == 100_000\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(BNPIPE_HOME=str(tmp_path / "home")),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "frozen"
