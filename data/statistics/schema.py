"""The schema that examples are held against: MNIST's is curated, others follow from the data set.

A schema that is inferred from the data it then validates finds nothing by construction. So MNIST's
is a file under version control; other data sets are held against what TFDS declares about them,
and a file of the user's overrides both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.plain_file import read_plain

CURATED = {"mnist": Path(__file__).with_name("schema.pbtxt")}
"""Curated schemas by data set name."""

TYPE_NAMES = {"bytes": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}
"""Feature types by the kind that `statistics.summary` counts."""


def schema_of(info: DatasetInfo, override: Path | None) -> tuple[Any, str]:
    """The schema of a data set.

    Args:
        info: the data set.
        override: a file that replaces it, or None.

    Returns:
        the Schema proto, and where it comes from in words.

    Raises:
        DataError: a schema file cannot be read, or does not describe such examples.
    """
    if override is not None:
        return read(override), f"read from {override.name}"
    if info.name in CURATED:
        return read(CURATED[info.name]), f"curated for {info.name}"
    return derived(info), f"derived from what {info.name} declares of itself"


def read(path: Path) -> Any:
    """Reads a Schema proto in text format.

    Raises:
        DataError: not such a file, or one without what every data set here has: an image of known
            size and a label with a range.
    """
    try:
        schema = text_format.Parse(read_plain(path).decode(), schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise DataError(
            f"{path}: expected a tensorflow_metadata Schema in text format: "
            f"{' '.join(str(error).split())}",
            hint="data/statistics/schema.pbtxt is an example",
        ) from error
    image, label = feature(schema, "image"), feature(schema, "label")
    if image is None or not image.image_domain.max_image_byte_size:
        raise DataError(f"{path}: expected a feature image with image_domain.max_image_byte_size")
    if label is None or not label.HasField("int_domain"):
        raise DataError(f"{path}: expected a feature label with an int_domain")
    return schema


def derived(info: DatasetInfo) -> Any:
    """The schema that follows from a data set's shape and classes."""
    kinds = {
        "image": "bytes",
        "label": "int",
        "id": "bytes",
        "content_hash": "bytes",
        "span": "int",
    }
    schema = schema_pb2.Schema()
    for name, kind in kinds.items():
        presence = schema_pb2.FeaturePresence(min_fraction=1.0, min_count=1)
        schema.feature.add(name=name, type=TYPE_NAMES[kind], presence=presence)
    image, label = schema.feature[:2]
    image.image_domain.max_image_byte_size = info.features
    label.int_domain.min, label.int_domain.max = 0, info.classes - 1
    label.int_domain.is_categorical = True
    return schema


def feature(schema: Any, name: str) -> Any | None:
    """A schema's feature by name."""
    return next((f for f in schema.feature if f.name == name), None)


def is_derived(described: Any) -> bool:
    """True for a feature that is computed for validation, and not held by the records."""
    stage: int = described.lifecycle_stage
    return stage == schema_pb2.VALIDATION_DERIVED
