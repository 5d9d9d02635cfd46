"""What is promised of drift and of the estimate, held on MNIST by one network.

`tests/benchmarks/bench_answers.py` measures the same on more windows, spoils and networks.
"""

from pathlib import Path

import numpy as np
import pytest

from bnpipe.components.label_validator.answer_drift import LEVEL, answer_drift
from tests.components.label_validator.mnist_answers import (
    Answers,
    answers,
    blurred,
    elastic,
    noisy,
    turned,
)

SEEN = {
    "blur": blurred(1.0),
    "elastic": elastic(20.0),
    "inverted": lambda images: 255 - images,
    "rotation of 15": turned(15),
}
HARD = {"rotation of 45": turned(45), "noise": noisy(40)}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mnist(mnist_archives: Path) -> Answers:
    return answers(mnist_archives, 0, {**SEEN, **HARD})


def test_false_alarms_are_fewer_than_one_in_a_year_of_daily_looks(mnist: Answers) -> None:
    rng = np.random.default_rng(0)
    # Of 2,000 windows so few, that at most 0.27 % are alarms with a confidence of 95 %.
    assert sum(mnist.null_window(rng, 500) < LEVEL for _ in range(2000)) <= 1


@pytest.mark.parametrize("name", SEEN)
def test_other_images_are_seen_in_500_answers(mnist: Answers, name: str) -> None:
    rng = np.random.default_rng(0)
    windows = (mnist.drawn(rng, name, 500)[0] for _ in range(100))
    assert sum(answer_drift(mnist.reference, window).drifted for window in windows) >= 95


def test_other_shares_of_the_classes_leave_the_estimate_within_a_point(mnist: Answers) -> None:
    for seed in range(20):
        window = mnist.window(np.random.default_rng(seed), "label shift", 2000)
        assert abs(window.accuracy - window.estimate) < 0.01


def test_where_the_estimate_is_wrong_drift_was_seen(mnist: Answers) -> None:
    names = ("nothing", "label shift", *SEEN, *HARD)
    drawn = [
        mnist.window(np.random.default_rng(seed), name, 2000)
        for name in names
        for seed in range(20)
    ]
    wrong = [window for window in drawn if not window.covered]
    assert len(wrong) >= 20  # rotation of 45: the promise is not empty
    assert sum(window.warned for window in wrong) >= 0.95 * len(wrong)
