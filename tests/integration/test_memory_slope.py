"""The memory of a whole run hardly grows with the data: a million images need a tenth more."""

import shutil
import subprocess
import sys

import pytest

from tests.child import environment
from tests.integration.conftest import MakeProject
from tests.memory import WITHOUT_FILES, peak_pss

MNIST, SMALL, LARGE, MILLION = 70_000, 100_000, 300_000, 1_000_000
# One epoch, since further ones hold no more, and a gate that what it teaches passes.
CONFIG = """\
data: {{dataset: rendered_digits, size: {size}}}
trainer: {{epochs: 1}}
evaluator: {{slice_margin: 0.2}}
"""


@pytest.mark.slow
def test_a_million_images_need_a_tenth_more_memory_than_mnist(make_project: MakeProject) -> None:
    """By the line through two sizes; steps one by one, so that chance puts no peaks together."""
    peaks = {size: peak(make_project, size) for size in (MNIST, SMALL, LARGE)}
    slope = (peaks[LARGE] - peaks[SMALL]) / (LARGE - SMALL)  # bytes per image
    expected = peaks[LARGE] + slope * (MILLION - LARGE)
    told = {size: f"{bytes_ / 1e6:,.0f} MB" for size, bytes_ in peaks.items()}
    assert max(peaks.values()) <= 1.1 * peaks[MNIST], told
    assert expected <= 1.1 * peaks[MNIST], f"{told}: {slope:.0f} bytes per image"


def peak(make_project: MakeProject, size: int) -> int:
    """The most that the processes of a run had at a time, in bytes, libraries' files left out."""
    project = make_project(CONFIG.format(size=size))
    process = subprocess.Popen(
        [sys.executable, "-m", "bnpipe.pipeline", "run", "--jobs=1"],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    highest = peak_pss(process, 0.25, WITHOUT_FILES)
    assert process.returncode == 0
    shutil.rmtree(project.home)
    return highest
