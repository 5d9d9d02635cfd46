"""bnpipe installed, as a wheel or editable, beside foreign packages with the names of its folders.

The foreign `pipeline`, `components`, `serving` and `data` end the process that imports one of them.
They lie in the environment, in the current folder and on PYTHONPATH.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, SMALL, Project, environment
from tests.tiny_wheels import Environment, tiny_wheel

ROOMS = ("pipeline", "components", "serving", "data")
FOREIGN = {f"{room}/__init__.py": "raise SystemExit('a foreign package')\n" for room in ROOMS}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a distribution is built from: building leaves its traces in a copy."""
    folder = tmp_path_factory.mktemp("sources")
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip wheel .` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", f"--wheel-dir={folder}"]
    subprocess.run([*pip, "wheel", "--quiet", *options, sources], check=True, timeout=600)
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_puts_nothing_but_bnpipe_into_an_environment(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {re.sub(r"-[^/]*\.", "-*.", name.split("/")[0]) for name in names} == {
        "bnpipe",
        "bnpipe-*.dist-info",
    }
    assert {name.split("/")[1] for name in names if name.startswith("bnpipe/")} == set(ROOMS)


def test_a_wheel_has_every_file_of_the_four_folders(sources: Path, wheel: Path) -> None:
    files = {
        f"bnpipe/{path.relative_to(sources)}"
        for room in ROOMS
        for path in (sources / room).rglob("*")
        if path.is_file()
    }
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_beam_workers_are_sent_every_file(sources: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", f"--dist-dir={tmp_path}"],
        cwd=sources,
        check=True,
        timeout=600,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("bnpipe-*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for room in ROOMS:
        for path in (sources / room).rglob("*"):
            assert (unpacked / path.relative_to(sources)).exists()


BOTH = pytest.mark.parametrize("installed", ["wheel", "editable"], indirect=True)


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with bnpipe and, installed after it, the foreign packages."""
    folder = tmp_path_factory.mktemp("installed")
    made = Environment(folder / "venv")
    if request.param == "wheel":
        made.install(request.getfixturevalue("wheel"))
    else:
        made.install("--editable", sources)
    made.install(tiny_wheel(folder, "foreign", "1.0", files=FOREIGN))
    return made


@pytest.fixture
def elsewhere(installed: Environment, tmp_path: Path) -> Iterator[Project]:
    """A project far from any checkout; the foreign packages lie in it too."""
    for path, text in FOREIGN.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    (tmp_path / "bnpipe.yaml").write_text(SMALL)

    class Installed(Project):
        def start(self, *words: str, code: str = "", **environ: str) -> subprocess.Popen[str]:
            command = [installed.python, "-c", code] if code else [installed.bin / "bnpipe"]
            return subprocess.Popen(
                [*command, *words],
                cwd=self.folder,
                env={**environment(), "PYTHONPATH": str(tmp_path), **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    yield Installed(tmp_path)
    for room in ROOMS:  # what is called so in the environment is the foreign one to this day
        assert (installed.site_packages / room / "__init__.py").read_text() == FOREIGN[
            f"{room}/__init__.py"
        ]


@BOTH
def test_verbs_work_beside_foreign_packages(elsewhere: Project) -> None:
    assert "never run here" in elsewhere.call("plan")
    elsewhere.call("schedule", "render", "--kind", "cron", "--set", "schedule.every=1d")
    elsewhere.call("graph", "--format", "mermaid")
    where = elsewhere.call(code="import bnpipe.data; print(bnpipe.data.__file__)")
    assert not Path(where.strip()).is_relative_to(ROOT)


@pytest.mark.parametrize(
    "installed", ["wheel", pytest.param("editable", marks=pytest.mark.slow)], indirect=True
)
def test_beam_workers_import_ours(elsewhere: Project) -> None:
    elsewhere.call(
        *("run", "--to", "example_gen", "--set", "data.size=400"),
        *("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    )


@pytest.mark.slow
@BOTH
def test_everything_works_beside_foreign_packages(elsewhere: Project) -> None:
    checks = {check["name"]: check for check in elsewhere.json("doctor")}
    for room in ROOMS:
        assert checks[f"package bnpipe.{room}"]["ok"], checks
    assert "pushed    v1 is live" in elsewhere.call("run")
    assert Path(elsewhere.json("report")["report"]).stat().st_size > 10_000
    elsewhere.call("deploy", "render", "--output", "deployment")
    assert (elsewhere.folder / "deployment" / "compose.yaml").is_file()
    elsewhere.call("retrain", "--due", "--set", "schedule.every=1d")
    server = elsewhere.start("serve", "--port=0", "--grpc-port=0")
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        url = next(
            found[1] for found in (re.match(r"serving rest=(\S+)", x) for x in lines) if found
        )
        elsewhere.call("smoke", "--url", url)
    finally:
        server.terminate()
        server.communicate(timeout=60)
