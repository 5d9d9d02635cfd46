"""The kinds of artifact: typed folders that steps hand to one another.

An artifact is a value with a producer; the runner binds it to a folder. Before its step has run
it has no location, and asking for one is an error. `check()` is what the runner calls before it
commits a folder to the store: cheap, and enough to keep a half-written or wrong folder out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from bnpipe.data.errors import BnpipeError
from bnpipe.data.plain_file import listed

SPLITS = ("train", "validation", "test")
_LEAST_ROUNDING, _MOST_ROUNDING = 1e-5, 0.01


class UnboundArtifactError(BnpipeError):
    """A folder was asked for before the step that makes it has run."""


class ArtifactError(BnpipeError):
    """A folder does not hold what its kind promises."""


@dataclass(frozen=True)
class Artifact:
    """A typed folder.

    Attributes:
        producer: where it comes from, `trainer.model` or `champion` for an external reference.
        location: the folder, once bound.
    """

    producer: str = ""
    location: Path | None = None

    undigested: ClassVar[tuple[str, ...]] = ()
    """Glob patterns of files whose bytes differ between equal runs: kept, not in the digest."""
    required: ClassVar[tuple[str, ...]] = ()
    """Files and folders that must be there and hold something."""
    served_subtree: ClassVar[str] = ""
    """The folder in it that is served, by whose digest it is known outside; empty: all of it."""

    @property
    def path(self) -> Path:
        """The folder.

        Raises:
            UnboundArtifactError: the step that makes it has not run.
        """
        if self.location is None:
            raise UnboundArtifactError(
                f"{self.producer or type(self).__name__} has no location before its step has run"
            )
        return self.location

    def at(self, location: Path) -> Self:
        """The same artifact, bound to a folder."""
        return replace(self, location=location)

    def check(self) -> None:
        """Raises ArtifactError unless the folder holds what the kind promises."""
        self.need(*self.required)
        if not any(self.path.iterdir()):
            raise ArtifactError(f"{self.producer} is an empty folder")

    def record_counts(self) -> Mapping[str, int]:
        """Records per file, by path relative to the artifact, where files hold records."""
        return {}

    def need(self, *names: str) -> None:
        """Raises ArtifactError unless each named file or folder exists and is not empty."""
        for name in names:
            target = self.path / name
            if not target.exists():
                raise ArtifactError(f"{self.producer} has no {name}")
            if target.is_file() and target.stat().st_size == 0:
                raise ArtifactError(f"{self.producer}: {name} is empty")

    def read_json(self, name: str) -> Any:
        """One of the artifact's JSON files."""
        return json.loads((self.path / name).read_text())


@dataclass(frozen=True)
class Verdict:
    """A gate's decision, in one sentence."""

    passed: bool
    sentence: str


@dataclass(frozen=True)
class VerdictArtifact(Artifact):
    """Carries a gate's verdict in `verdict_file`: `{"passed", "sentence", ...}`."""

    verdict_file: ClassVar[str] = "verdict.json"

    def verdict(self) -> Verdict:
        """The verdict that the folder holds.

        Raises:
            OSError, ValueError, KeyError: there is none that can be read.
        """
        stored = self.read_json(self.verdict_file)
        return Verdict(bool(stored["passed"]), str(stored["sentence"]))

    def check(self) -> None:
        """There is a verdict, and it can be read."""
        self.need(self.verdict_file)
        self.verdict()


@dataclass(frozen=True)
class _Records(Artifact):
    """`dataset.json` and one folder of TFRecord shards per split."""

    shard_prefix: ClassVar[str] = ""

    def split(self, name: str) -> Path:
        """The folder of one split's shards."""
        return self.path / f"Split-{name}"

    def shards(self, name: str) -> list[Path]:
        """One split's shards, in order."""
        return [p for p in listed(self.split(name)) if p.name.startswith(f"{self.shard_prefix}-")]

    def record_counts(self) -> Mapping[str, int]:
        """Records per shard, as the writer counted them (`dataset.json`, key `shards`)."""
        return {str(k): int(v) for k, v in self.read_json("dataset.json")["shards"].items()}

    def check(self) -> None:
        """Raises ArtifactError unless the shards on disk are those that `dataset.json` lists."""
        self.need("dataset.json", *(f"Split-{s}" for s in SPLITS))
        listed = set(self.record_counts())
        present = {str(p.relative_to(self.path)) for s in SPLITS for p in self.shards(s)}
        if listed != present:
            raise ArtifactError(
                f"{self.producer}: dataset.json lists {len(listed)} shards, the folders hold "
                f"{len(present)}: {', '.join(sorted(listed ^ present)[:3])}"
            )


@dataclass(frozen=True)
class Examples(_Records):
    """tf.Examples with `image` (raw uint8 bytes), `label`, `id`, `content_hash`.

    Layout: `dataset.json`, `Split-{train,validation,test}/data_tfrecord-00000-of-00004`.
    """

    shard_prefix: ClassVar[str] = "data_tfrecord"


@dataclass(frozen=True)
class TransformedExamples(_Records):
    """tf.Examples with float `features[D]` in [0, 1], `label`, `id` and the slice columns.

    Layout: `dataset.json`, `Split-*/transformed_examples-00000-of-00004`.
    """

    shard_prefix: ClassVar[str] = "transformed_examples"

    def check(self) -> None:
        """Also: pixels were scaled to [0, 1] exactly once."""
        super().check()
        from bnpipe.data.scaling_check import check_scaled_once

        check_scaled_once([p for name in SPLITS for p in self.shards(name)], self.producer)


@dataclass(frozen=True)
class Statistics(Artifact):
    """`Split-*/FeatureStats.pb`: tensorflow_metadata DatasetFeatureStatisticsList."""

    required = tuple(f"Split-{s}/FeatureStats.pb" for s in SPLITS)


@dataclass(frozen=True)
class Anomalies(VerdictArtifact):
    """The data gate's verdict: `Split-*/SchemaDiff.pb` protos and `verdict.json`."""


@dataclass(frozen=True)
class CrossValidation(Artifact):
    """Answers by networks that did not learn the image: `probabilities.npy`, float32[N, K].

    N are all images, in the order of splits and shards, or 0 where they were too few to learn from.
    """

    required = ("probabilities.npy",)


@dataclass(frozen=True)
class LabelQuality(VerdictArtifact):
    """The label gate's verdict, `verdict.json`, and `suspects.npz`.

    By split, the images whose label is not what a model that has not seen them takes for most
    probable, worst first: `<split>/id`, `/label`, `/suggested`, `/score` in [0, 1], and
    `/confident` for those that count as wrong; `/image`, uint8[n, H, W], of the first n.
    """

    required = ("suspects.npz",)

    def check(self) -> None:
        """Also: the suspects are there."""
        super().check()
        self.need(*self.required)


@dataclass(frozen=True)
class Model(Artifact):
    """A trained model.

    Layout: `saved_model/` (what is served), `training.weights.h5`, `history.json`,
    `model_card.json`.
    """

    # TensorFlow writes a random UUID there; nothing that serves or evaluates reads it.
    undigested: ClassVar[tuple[str, ...]] = ("saved_model/fingerprint.pb",)
    served_subtree: ClassVar[str] = "saved_model"
    required = (
        "saved_model/saved_model.pb",
        "saved_model/variables/variables.index",
        "training.weights.h5",
        "history.json",
        "model_card.json",
    )

    @property
    def saved_model(self) -> Path:
        """The SavedModel folder."""
        return self.path / self.served_subtree

    def rounding(self) -> float:
        """The room that large numbers need: eight times what rounding changes of a probability.

        It is 0 where that is less than everybody's tolerance, and never so much that batch
        normalisation in training mode would pass for it.
        """
        card = self.read_json("model_card.json").get("metrics", {})
        tolerance = float(card.get("export_tolerance", 0))
        return min(tolerance, _MOST_ROUNDING) if tolerance > _LEAST_ROUNDING else 0.0


@dataclass(frozen=True)
class ServedModel(Artifact):
    """A version in the served folder: the SavedModel lies at its top."""

    undigested: ClassVar[tuple[str, ...]] = ("fingerprint.pb",)
    required = ("saved_model.pb", "variables/variables.index")

    @property
    def saved_model(self) -> Path:
        """The SavedModel folder."""
        return self.path

    @property
    def version(self) -> int:
        """The version number, which is the folder's name."""
        return int(self.path.name)


@dataclass(frozen=True)
class Evaluation(Artifact):
    """The evaluator's measurements.

    Layout: `metrics.json` (per model: overall and per slice), `tfma/` (standard TFMA output),
    `predictions.npz` (ids, labels, probabilities per model), `golden.npz` (requests and answers
    per signature, for the infra validator), `pictures.npz` (images of the worst mistakes and of
    disagreements).
    """

    # TFMA writes absolute model and data paths there.
    undigested: ClassVar[tuple[str, ...]] = ("tfma/eval_config.json",)
    required = ("metrics.json", "tfma", "predictions.npz", "golden.npz", "pictures.npz")


@dataclass(frozen=True)
class _MarkedVerdict(VerdictArtifact):
    """A verdict and, as TFX has it, an empty file that says the same by its name."""

    markers: ClassVar[tuple[str, str]]
    """The marker's name when it passed, and when it did not."""

    @classmethod
    def marker(cls, passed: bool) -> str:
        """The name of the marker file for a verdict."""
        return cls.markers[0 if passed else 1]

    def check(self) -> None:
        """Also raises ArtifactError unless the marker file agrees with the verdict."""
        super().check()
        said = {name for name in self.markers if (self.path / name).exists()}
        expected = self.marker(self.verdict().passed)
        if said != {expected}:
            raise ArtifactError(
                f"{self.producer}: expected the marker {expected} beside {self.verdict_file}, "
                f"found {', '.join(sorted(said)) or 'none'}"
            )


@dataclass(frozen=True)
class Blessing(_MarkedVerdict):
    """The evaluator's verdict: `blessing.json` with every rule, and TFX's marker file."""

    verdict_file: ClassVar[str] = "blessing.json"
    markers: ClassVar[tuple[str, str]] = ("BLESSED", "NOT_BLESSED")


@dataclass(frozen=True)
class InfraBlessing(_MarkedVerdict):
    """The infra validator's verdict: `verdict.json` with every check, and TFX's marker file."""

    markers: ClassVar[tuple[str, str]] = ("INFRA_BLESSED", "INFRA_NOT_BLESSED")


@dataclass(frozen=True)
class PushedModel(Artifact):
    """`pushed.json`: version, base_path, digest of what was published."""

    required = ("pushed.json",)
