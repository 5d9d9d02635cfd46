"""The memory of a whole run hardly grows with the data: a million images need a tenth more."""

import shutil
import subprocess
import sys

import pytest

from tests.child import environment
from tests.integration.conftest import MakeProject
from tests.memory import WITHOUT_FILES, peak_pss

MNIST, MILLION = 70_000, 1_000_000
SIZES = 100_000, 150_000, 300_000
# One epoch, since further ones hold no more, and a gate that what it teaches passes.
CONFIG = """\
data: {{dataset: rendered_digits, size: {size}}}
trainer: {{epochs: 1}}
evaluator: {{slice_margin: 0.2}}
"""


@pytest.mark.slow
def test_a_million_images_need_a_tenth_more_memory_than_mnist(make_project: MakeProject) -> None:
    """By the line through two sizes; steps one by one, so that chance puts no peaks together."""
    peaks = {size: peak(make_project, size) for size in (MNIST, *SIZES)}
    slope = (peaks[SIZES[-1]] - peaks[SIZES[0]]) / (SIZES[-1] - SIZES[0])  # bytes per image
    peaks[MILLION] = round(peaks[SIZES[-1]] + slope * (MILLION - SIZES[-1]))
    allowed = 1.1 * peaks[MNIST]
    assert {size: held for size, held in peaks.items() if held > allowed} == {}, (peaks, slope)


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
