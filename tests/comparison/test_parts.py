"""The three parts of the data, and the order in which they are seen."""

import numpy as np
import pytest
from problems import data, rows

from lossweigh.comparison.parts import Part, SeededBatches, parts_of

pytestmark = pytest.mark.once


def test_batches_hold_the_rows_of_all_arrays():
    x, y = rows(0, number=10)
    weight = {"a": np.arange(10.0)}
    batches = SeededBatches(Part([x, x], y, weight), batch_size=4, seed=0)
    assert len(batches) == 3
    for index in range(3):
        order = batches.order[4 * index : 4 * index + 4]
        (first, second), targets, weights = batches[index]
        assert (first == x[order]).all()
        assert (second == x[order]).all()
        assert (targets["a"] == y["a"][order]).all()
        assert (weights["a"] == order).all()
    assert len(SeededBatches(Part(x, y), batch_size=4, seed=0)[0]) == 2


def test_an_order_is_of_its_seed_and_epoch():
    x, y = rows(0, number=10)

    def order(seed, epoch):
        batches = SeededBatches(Part(x, y), batch_size=4, seed=seed)
        batches.shuffle(epoch)
        return batches.order.tolist()

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert [sorted(one) for one in orders] == [list(range(10))] * 4
    assert len({tuple(one) for one in orders}) == 4
    assert order(0, 1) == orders[1]


def test_a_function_returns_the_data():
    parts = parts_of(data)
    assert list(parts) == ["train", "validation", "test"]
    assert [part.rows for part in parts.values()] == [48, 48, 48]
    assert parts["test"].sample_weight is None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: list(d.values()), TypeError, "must be a dict {'train': "),
        (lambda d: {"train": d["train"]}, ValueError, r"parts \['train', 'validation'"),
        (lambda d: {**d, "more": 1}, ValueError, r"Received the parts \['train', 'val"),
        (
            lambda d: {**d, "test": d["test"][0]},
            TypeError,
            r"data\['test'\]` must be a",
        ),
        (lambda d: {**d, "test": (1, 2)}, TypeError, "Received single numbers"),
        (
            lambda d: {**d, "test": (d["test"][0][:3], d["test"][1])},
            ValueError,
            r"Received arrays with \[3, 48\] rows",
        ),
        (
            lambda d: {**d, "test": (np.zeros((0, 4)), np.zeros((0, 1)))},
            ValueError,
            "at least one",
        ),
        (
            lambda d: {**d, "test": d["train"]},
            ValueError,
            "other inputs in 'test' than in 'train'",
        ),
        (
            lambda d: {**d, "validation": d["train"]},
            ValueError,
            "other inputs in 'validation' than in 'train'",
        ),
        (
            lambda d: {**d, "validation": d["test"]},
            ValueError,
            "other inputs in 'test' than in 'validation'",
        ),
    ],
)
def test_data_that_cannot_be_used(change, error, words):
    with pytest.raises(error, match=words):
        parts_of(change(data()))
