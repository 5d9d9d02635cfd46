"""What a user gets when the data cannot be had: one line, the documented exit code, soon."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import environment
from tests.integration.conftest import MakeProject


def test_unknown_data_set_names_a_near_one(make_project: MakeProject) -> None:
    line = make_project("").fail("run", "--set", "data.dataset=mnits", exit_code=2)
    assert "'mnits'" in line
    assert line.endswith("did you mean --set data.dataset=mnist?")


def test_unfit_data_set_is_refused_by_the_plan(make_project: MakeProject) -> None:
    line = make_project("").fail("plan", "--set", "data.dataset=cifar10", exit_code=2)
    assert "expected images of one size and one channel" in line


def test_damaged_archive_is_named(
    make_project: MakeProject, mnist_archives: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    for archive in mnist_archives.glob("*.gz"):
        shutil.copyfile(archive, folder / archive.name)
    victim = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    line = make_project("").fail("run", exit_code=1, BNPIPE_ARCHIVES=str(folder))
    assert f"{victim} is damaged: expected sha256" in line


def test_no_network_and_no_archives_tells_two_ways_out(make_project: MakeProject) -> None:
    cut_off = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*cut_off, "true"]).returncode:
        pytest.skip("unshare cannot make a network namespace here")
    project = make_project("")
    words = [*cut_off, sys.executable, "-m", "bnpipe.pipeline", "run"]
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "")
    done = subprocess.run(
        words,
        cwd=project.folder,
        env=environment(**proxies),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "could not reach https://" in done.stderr
    assert "BNPIPE_ARCHIVES" in done.stderr
    assert "--set data.dataset=rendered_digits" in done.stderr
