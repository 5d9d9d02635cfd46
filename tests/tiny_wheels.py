"""Wheels of a few lines, and environments to install them in; no network."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def tiny_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """Writes a pure wheel.

    Args:
        folder: where it goes.
        name: of the distribution, a plain word.
        version: its version.
        requires: requirements, as they stand in metadata: `other[extra]; extra == "more"`.
        extras: names of extras.
        files: its files, by path in site-packages.
    """
    info = f"{name}-{version}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Provides-Extra: {extra}" for extra in extras),
        *(f"Requires-Dist: {requirement}" for requirement in requires),
    ]
    contents = {
        **(files or {f"{name}.py": ""}),
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return wheel


class Environment:
    """A virtual environment with the packages of this one below its own, but not with bnpipe."""

    def __init__(self, folder: Path) -> None:
        """Makes it; takes a second."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        (self.site_packages,) = (folder / "lib").glob("python3.*/site-packages")
        # Folders named in a .pth file are searched, but their own .pth files are not run: an
        # editable bnpipe of this environment stays out.
        folders = [path for path in sys.path if path.endswith("site-packages")]
        (self.site_packages / "below.pth").write_text("".join(f"{path}\n" for path in folders))

    def install(self, *words: str | Path) -> None:
        """Installs with this environment's pip, without requirements, index or network."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python]
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
        subprocess.run([*pip, "install", "--quiet", *options, *words], check=True, timeout=600)
