"""Answers of the product's network to MNIST, whole and spoiled, and windows drawn from them."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bnpipe.components.label_validator.accuracy_estimate import estimate_accuracy
from bnpipe.components.label_validator.answer_drift import answer_drift
from bnpipe.components.network.calibration import at_temperature, fit_temperature
from tests.components.example_validator.test_gate_power import read_splits

VALIDATION, REFERENCE = 5000, 10_000
Spoil = Callable[[np.ndarray], np.ndarray]  # float32[N, H, W] of 0 to 255 -> the same


def blurred(sigma: float) -> Spoil:
    return lambda images: ndimage.gaussian_filter(images, (0, sigma, sigma))


def turned(degrees: float) -> Spoil:
    return lambda images: ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)


def noisy(deviation: float) -> Spoil:
    rng = np.random.default_rng(0)
    return lambda images: images + rng.normal(0, deviation, images.shape)


def elastic(alpha: float, sigma: float = 4.0) -> Spoil:
    """Simard, Steinkraus & Platt 2003; theirs has alpha 34."""

    def spoil(images: np.ndarray) -> np.ndarray:
        rng, grid = np.random.default_rng(0), np.mgrid[: images.shape[1], : images.shape[2]]
        moves = rng.uniform(-1, 1, (len(images), *grid.shape))
        moves = ndimage.gaussian_filter(moves, (0, 0, sigma, sigma)) * alpha
        pairs = zip(images, grid + moves, strict=True)
        return np.stack([ndimage.map_coordinates(image, at, order=1) for image, at in pairs])

    return spoil


@dataclass(frozen=True)
class Answers:
    """What one network answers to 20,000 images that it has not seen.

    Attributes:
        reference: float32[10000, K], to those that it is judged on.
        reference_labels: int64[10000].
        clean: float32[N, K], to the others.
        labels: int64[N].
        spoiled: float32[N, K], to the same, spoiled, by name.
        temperature: by the validation split.
        error: standard error of its logarithm.
    """

    reference: np.ndarray
    reference_labels: np.ndarray
    clean: np.ndarray
    labels: np.ndarray
    spoiled: dict[str, np.ndarray]
    temperature: float
    error: float

    def null_window(self, rng: np.random.Generator, size: int) -> float:
        """The p-value of a window without drift: what is reference and what not is drawn too."""
        both = np.concatenate([self.reference, self.clean])
        rows = rng.permutation(len(both))[: REFERENCE + size]
        return answer_drift(both[rows[size:]], both[rows[:size]]).p_value

    def window(self, rng: np.random.Generator, name: str, size: int) -> "Window":
        """Images drawn from those that are not in the reference, spoiled or not."""
        sample, labels = self.drawn(rng, name, size)
        estimate = estimate_accuracy(
            self.reference, self.reference_labels, sample, self.temperature, self.error
        )
        before, now = (
            at_temperature(p, self.temperature).max(axis=1) for p in (self.reference, sample)
        )
        # Garg et al. 2022: as much is above the threshold on the reference as is right there.
        threshold = np.quantile(before, 1 - estimate.before)
        return Window(
            accuracy=float(np.mean(sample.argmax(axis=1) == labels)),
            estimate=estimate.accuracy,
            interval=(estimate.low, estimate.high),
            confidence=float(now.mean()),
            thresholded=float(np.mean(now >= threshold)),
            warned=answer_drift(self.reference, sample).drifted,
        )

    def drawn(
        self, rng: np.random.Generator, name: str, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answers and labels of a window."""
        weights = np.ones(len(self.labels))
        if name == "label shift":  # shares from all that there are, and images as far as they go
            weights = rng.dirichlet(np.ones(10))[self.labels] + 1e-9
        rows = rng.choice(len(self.labels), size, replace=False, p=weights / weights.sum())
        return self.spoiled.get(name, self.clean)[rows], self.labels[rows]


@dataclass(frozen=True)
class Window:
    """A window's true accuracy, what was estimated, its interval, and whether drift was seen.

    Beside it what two other ways estimate: the mean confidence, and the share above a threshold.
    """

    accuracy: float
    estimate: float
    interval: tuple[float, float]
    confidence: float
    thresholded: float
    warned: bool

    @property
    def covered(self) -> bool:
        low, high = self.interval
        return low <= self.accuracy <= high


def answers(archives: Path, seed: int, spoils: dict[str, Spoil], **changes: object) -> Answers:
    """Train on 45,000 images, and ask for the rest; `changes` are to the trainer's parameters."""
    import tensorflow as tf

    from bnpipe.components.network import network
    from bnpipe.components.network.examples import InMemory
    from bnpipe.components.network.loop import Trainer, program_for
    from bnpipe.components.network.params import Params

    splits = read_splits(archives)
    images, labels = (np.concatenate(columns) for columns in zip(*splits.values(), strict=True))
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order].reshape(-1, 28, 28), labels[order].astype(np.int64)
    ends = np.cumsum([VALIDATION, REFERENCE, REFERENCE])
    validation, reference, others, train = np.split(np.arange(len(labels)), ends)

    def split(rows: np.ndarray) -> InMemory:
        return InMemory(flat(images[rows]), labels[rows].astype(np.int32))

    def logits(pixels: np.ndarray) -> np.ndarray:
        return net(flat(pixels), training=False).numpy()

    def ask(pixels: np.ndarray) -> np.ndarray:
        return tf.nn.softmax(logits(pixels)).numpy()

    params = Params(seed=seed, **changes)  # type: ignore[arg-type]
    net = network.build(28 * 28, 10, params)
    with tempfile.TemporaryDirectory() as scratch:
        examples = split(train)
        program = program_for(net, params, examples)
        Trainer(program, params, examples, split(validation), Path(scratch), _silent).fit()
    whole = images[others].astype(np.float32)
    fit = fit_temperature(logits(images[validation]), labels[validation])
    assert fit is not None
    return Answers(
        reference=ask(images[reference]),
        reference_labels=labels[reference],
        clean=ask(images[others]),
        labels=labels[others],
        spoiled={name: ask(pixels(spoil(whole))) for name, spoil in spoils.items()},
        temperature=fit.temperature,
        error=fit.error,
    )


def pixels(images: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _silent(*progress: object) -> None:
    return None
