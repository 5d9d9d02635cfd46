"""The examples in memory and their order."""

import dataclasses

import numpy as np
import pytest

from bnpipe.components.network.examples import (
    LEAST_HELD,
    InMemory,
    allocate,
    epoch_order,
    open_splits,
)
from bnpipe.components.network.params import Params, TrainingError
from bnpipe.data.dataset_info import DatasetInfo


def test_every_epoch_has_an_order_of_its_own():
    orders = [epoch_order(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 4


@pytest.mark.parametrize(
    ("rows", "budget", "held"),
    [
        (0, 2**20, LEAST_HELD),
        (LEAST_HELD, 2**20, LEAST_HELD),
        (LEAST_HELD + 1, 2**20, LEAST_HELD + 1),
        (10, 120 * 12, 120),  # more than the budget is not held for nothing
        (10, 0, 10),
    ],
)
def test_small_train_splits_are_held_in_as_many_rows(rows, budget, held):
    assert allocate(rows, 3, budget).shape == (held, 3)


def test_the_default_budget_is_enough_for_what_is_compiled_ahead():
    assert len(allocate(0, 784, Params().memory_budget_mb * 2**20)) == LEAST_HELD


def test_examples_in_memory_begin_what_is_held_of_them(blob_examples, make_blobs, tmp_path):
    info = DatasetInfo.read(blob_examples.path)
    splits = make_blobs({"train": 203, "validation": 50, "test": 50})
    for name, split in zip(
        ("train", "validation"), open_splits(blob_examples, info, 2**27, tmp_path), strict=True
    ):
        assert isinstance(split, InMemory)
        features, labels = splits[name]
        np.testing.assert_array_equal(split.features, features)
        np.testing.assert_array_equal(split.labels, labels)
        assert np.shares_memory(split.held, split.features)
        assert len(split.held) == (LEAST_HELD if name == "train" else 50)


@pytest.mark.parametrize("more", [-1, 1])
def test_other_examples_than_were_counted_are_refused(more, blob_examples, tmp_path):
    info = DatasetInfo.read(blob_examples.path)
    other = dataclasses.replace(info, splits={**info.splits, "train": 203 + more})
    with pytest.raises(TrainingError, match=f"split train: expected {203 + more} .* received 203"):
        open_splits(blob_examples, other, 2**20, tmp_path)
