"""An interpreter with packages of its own on top of what the tests run with."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.child import environment


def interpreter_with(folder: Path, *packages: str) -> Path:
    """Makes one in a new folder; the test is skipped where the packages cannot be had."""
    environ = environment()
    subprocess.run([sys.executable, "-m", "venv", folder], env=environ, check=True)
    made = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.check_output([made, "-c", query], env=environ, text=True)
    # Added as a site folder: an editable installation below is one of its .pth files.
    below = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (Path(site.strip()) / "below.pth").write_text(below)
    install = [made, "-m", "pip", "--disable-pip-version-check", "-q", "install", *packages]
    done = subprocess.run(install, env=environ, capture_output=True, text=True)
    # With versions to choose from it is the range that is wrong, not the network.
    assert "ResolutionImpossible" not in done.stderr, done.stderr
    assert "(from versions: " not in done.stderr.replace("(from versions: none)", ""), done.stderr
    if done.returncode:
        pytest.skip(f"{' '.join(packages)} cannot be installed: {done.stderr.strip()[-200:]}")
    return made
