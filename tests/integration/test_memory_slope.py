"""The memory of a whole run hardly grows with the data: a million images need a tenth more."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.child import environment
from tests.integration.conftest import MakeProject
from tests.memory import WITHOUT_FILES, peak_pss

MNIST, MILLION, MORE = 70_000, 1_000_000, 1.1
SIZES = 100_000, 150_000, 300_000
# One epoch, since further ones hold no more, and a gate that what it teaches passes.
CONFIG = """\
data: {{dataset: rendered_digits, size: {size}}}
trainer: {{epochs: 1}}
evaluator: {{slice_margin: 0.2}}
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_images_need_a_tenth_more_memory_than_mnist(make_project: MakeProject) -> None:
    """By the line through three sizes; steps one by one, so that chance puts no peaks together."""
    peaks = {MNIST: peak(make_project, MNIST)}
    for size in SIZES:
        peaks[size] = peak(make_project, size)
        assert peaks[size] <= MORE * peaks[MNIST], peaks
    slope, rest = np.polyfit(SIZES, [peaks[size] for size in SIZES], 1)  # bytes per image
    assert rest + slope * MILLION <= MORE * peaks[MNIST], (peaks, slope)


def peak(make_project: MakeProject, size: int) -> int:
    """The most that the processes of a run had at a time, in bytes, libraries' files left out."""
    project = make_project(CONFIG.format(size=size))
    words = [sys.executable, "-m", "bnpipe.pipeline", "run", "--jobs=1"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=project.folder, env=environment(), stdout=quiet) as process:
        try:
            highest = peak_pss(process, 0.25, WITHOUT_FILES)
        finally:
            process.kill()
    assert process.returncode == 0
    shutil.rmtree(project.home)
    return highest
