"""Schemas: MNIST's is curated, others follow from the data set, the user's overrides both."""

from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.statistics import schema as schemas
from bnpipe.data.statistics.image_statistics import STATISTICS

DIGITS = tuple(map(str, range(10)))
MNIST = DatasetInfo("mnist", "3.0.1", 28, 28, DIGITS, {}, False)
LETTERS = DatasetInfo("emnist/letters", "3.1.0", 20, 30, tuple("abcde"), {}, False)


def test_mnist_is_curated_and_agrees_with_its_shape_and_classes() -> None:
    schema, origin = schemas.schema_of(MNIST, None)
    assert origin == "curated for mnist"
    derived = schemas.derived(MNIST)
    for expected in derived.feature:
        curated = schemas.feature(schema, expected.name)
        assert curated is not None
        assert curated.type == expected.type
        assert curated.presence == expected.presence
        assert curated.int_domain.max == expected.int_domain.max
        assert curated.image_domain == expected.image_domain


def test_curated_ranges_are_of_known_image_statistics() -> None:
    schema, _ = schemas.schema_of(MNIST, None)
    ranged = [f for f in schema.feature if schemas.is_derived(f)]
    known = {s.name: s for s in STATISTICS}
    assert len(ranged) >= 6
    for feature in ranged:
        statistic = known[feature.name]
        assert statistic.low <= feature.float_domain.min < feature.float_domain.max
        assert feature.float_domain.max <= statistic.high


def test_other_data_sets_are_held_against_what_they_declare() -> None:
    schema, origin = schemas.schema_of(LETTERS, None)
    assert "emnist/letters" in origin
    label, image = (schemas.feature(schema, name) for name in ("label", "image"))
    assert label is not None
    assert image is not None
    assert (label.type, label.int_domain.min, label.int_domain.max) == (schema_pb2.INT, 0, 4)
    assert image.image_domain.max_image_byte_size == 600


def test_a_file_overrides_even_the_curated_schema(tmp_path: Path) -> None:
    path = tmp_path / "mine.pbtxt"
    path.write_text(str(schemas.derived(LETTERS)))
    schema, origin = schemas.schema_of(MNIST, path)
    assert origin == "read from mine.pbtxt"
    assert schema == schemas.derived(LETTERS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("feature { nme: 'image' }", r"expected a tensorflow_metadata Schema.*nme"),
        ("", "expected a feature image"),
        (
            "feature { name: 'image' image_domain { max_image_byte_size: 4 } }",
            "expected a feature label with an int_domain",
        ),
    ],
)
def test_a_file_that_is_no_such_schema_is_one_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "mine.pbtxt"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint) as caught:
        schemas.schema_of(MNIST, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.pbtxt"):
        schemas.schema_of(MNIST, tmp_path / "missing.pbtxt")
