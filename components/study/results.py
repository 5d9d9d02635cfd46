"""What a study is made of: one record per training, and the artifact that holds them.

Claims are not stored: they are computed whenever a study is read (`claims`), so that another rule
for a verdict needs no new training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from bnpipe.components.artifacts import Artifact, ArtifactError
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FILE = "trainings.jsonl"

Experiment = Literal[
    "main",  # none and batch at the article's rate
    "control",  # the control arms, at the same rate
    "own_rate",  # arms at the rate that the sweep chose for them, on validation images
    "sweep",  # rates x arms x optimizers
    "small",  # few training images
    "ghost",  # batch statistics of parts of a batch
    "dropout",  # dropout, with and without batch normalisation
    "depth",  # networks of several depths, for few steps
    "custom",  # the article's own layer
]
Share = Annotated[float, Ge(0), Le(1)]
Series = tuple[float | None, ...]
"""Numbers in a row; None where a diverged training has none."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How the inputs of the last hidden layer move while a network is trained.

    Attributes:
        steps: at which the rest was measured.
        moved: mean over all units of the absolute change of a unit's mean since the record before,
            in standard deviations of that unit.
        moved_15: the 15th percentile over the units; `moved_50`, `moved_85` likewise.
        gradient_change: the relative L2 change of a layer's gradient by the update of the layers
            below it (Santurkar et al. 2018, definition 2.1).
        gradient_cosine: the cosine between the two gradients.
    """

    steps: tuple[int, ...]
    moved: Series
    moved_15: Series
    moved_50: Series
    moved_85: Series
    gradient_change: Series
    gradient_cosine: Series


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network, trained once.

    Two trainings with the same seed have the same initial Dense weights and the same order of
    examples, whatever their arms: by it they are paired.

    Attributes:
        experiment: the part of the study that it belongs to.
        arm: what differs between networks: `none`, `batch`, `standardized`, ...
        optimizer: with Keras' defaults, sgd with momentum 0.9.
        learning_rate: constant.
        seed: of weights, order and dropout.
        depth: number of hidden layers.
        train_images: number of training images.
        batch_size: examples per step.
        steps: taken in all.
        curve_steps: steps after which the validation accuracy was measured.
        curve_accuracy: it, as a share.
        validation_accuracy: at the end; also what a rate is chosen by.
        test_accuracy: mean at the `plan.scored_steps` of the last tenth, of the article's own layer
            by moving statistics at the end; None where the test split was not read.
        train_accuracy: likewise, as at inference.
        test_accuracy_clean: without the images whose label raters doubt; None where there is no
            such list for the data set, too.
        diverged: a loss was not finite, or a weight at the end.
        gradient_steps: steps at which `gradient_ratio` was measured; 0: before the first.
        gradient_ratio: L2 norm of the loss's gradient by the kernel of the first hidden layer,
            divided by that of the last hidden layer.
        gradient_norms: of the kernel of every hidden layer at initialisation, the first first.
        gradient_variation: standard deviation of the log of the first hidden layer's gradient norm
            over the steps.
        shift: of layer inputs; None where it was not measured.
        accuracy_by_batch: test accuracy by the number of images that are normalised together at
            inference, for a layer that uses their statistics.
    """

    experiment: Experiment
    arm: str
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    seed: Annotated[int, Ge(0)]
    depth: Annotated[int, Ge(1)] = 2
    train_images: Annotated[int, Ge(1)]
    batch_size: Annotated[int, Ge(1)] = 32
    steps: Annotated[int, Ge(0)]
    curve_steps: tuple[int, ...] = ()
    curve_accuracy: tuple[Share, ...] = ()
    validation_accuracy: Share | None = None
    train_accuracy: Share | None = None
    test_accuracy: Share | None = None
    test_accuracy_clean: Share | None = None
    diverged: bool = False
    gradient_steps: tuple[int, ...] = ()
    gradient_ratio: Series | None = None
    gradient_norms: Series | None = None
    gradient_variation: float | None = None
    shift: Shift | None = None
    accuracy_by_batch: dict[str, Share] | None = None

    def __post_init__(self) -> None:
        """Check that series are as long as their steps.

        Raises:
            ValueError: one is not.
        """
        if len(self.curve_steps) != len(self.curve_accuracy) or (
            self.gradient_ratio is not None and len(self.gradient_steps) != len(self.gradient_ratio)
        ):
            raise ValueError("expected as many steps as values")

    @property
    def key(self) -> tuple[str | float, ...]:
        """What sets a training apart from the others of a study."""
        return (
            *(self.experiment, self.arm, self.optimizer, self.learning_rate, self.depth),
            *(self.train_images, self.batch_size, self.seed),
        )


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Training]:
    from pydantic import TypeAdapter

    return TypeAdapter(Training)


def write(folder: Path, trainings: Iterable[Training]) -> None:
    """Write them, one JSON object a line, in their order; what is not finite becomes null."""
    lines = [json_text(asdict(training), sort_keys=True) for training in trainings]
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines))


def read(folder: Path) -> list[Training]:
    """The trainings of a study.

    Raises:
        ArtifactError: a line is no training, or one is there twice.
        OSError: the file cannot be read.
    """
    return parse(read_plain(folder / FILE).decode().splitlines())


def parse(lines: Sequence[str]) -> list[Training]:
    """The trainings of the lines of a file, as `read`."""
    from pydantic import ValidationError

    found: dict[tuple[str | float, ...], Training] = {}
    for number, line in enumerate(lines, 1):
        try:
            training = _adapter().validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise ArtifactError(
                f"{FILE}, line {number}: {where}: {first['msg']}, received {first['input']!r:.80}"
            ) from None
        if training.key in found:
            raise ArtifactError(f"{FILE}, line {number}: {training.key} is there twice")
        found[training.key] = training
    return list(found.values())


@dataclass(frozen=True)
class Study(Artifact):
    """`trainings.jsonl`: a `Training` per line, in the order of the plan."""

    required: ClassVar[tuple[str, ...]] = (FILE,)

    def check(self) -> None:
        """Every line is a training, and none is there twice."""
        super().check()
        read(self.path)
