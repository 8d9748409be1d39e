"""The Gramian of gradients of any shape, however it is cut into products."""

import gc
import weakref

import keras
import numpy as np
import pytest
from gramians import array, compiled
from keras import ops

from lossweigh.gradients import statistics
from lossweigh.gradients.statistics import gramian_of, squares_of

SHAPES = {
    "odd": [(7, 5)],
    "odd and long": [(999, 33, 35)],
    "blocks": [(64, 512)],
    "several places": [(3, 3, 16, 8), (8,), (512, 96)],
    "more blocks than wanted": [(2048, 16, 64)],
    "few pieces": [(256, 896)],
    "pieces": [(100, 150, 33), (1, 500_000)],
    "a loop with a rest and without": [(2, 8192), (3, 17, 331)],
}


def traced(function):
    """Compiled as a training step is; with a batch of unknown size on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    def unknown(branches):
        return [
            {place: tf.TensorSpec([None, *g.shape[1:]]) for place, g in mine.items()}
            for mine in branches
        ]

    def call(branches):
        compiled = tf.function(function, input_signature=[unknown(branches)])
        return compiled(branches)

    return call


@pytest.mark.parametrize("number", [1, 4, 14])
@pytest.mark.parametrize("shapes", SHAPES)
def test_against_numpy(shapes, number):
    rng = np.random.default_rng(number)
    drawn = [
        {
            place: rng.normal(size=shape).astype("float32") * 10.0**place
            for place, shape in enumerate(SHAPES[shapes])
            if place == 0 or (place + k) % 3  # not every branch is at every place
        }
        for k in range(number)
    ]
    expected = np.array(
        [
            [
                sum(np.vdot(a[p].astype(float), b[p]) for p in a.keys() & b.keys())
                for b in drawn
            ]
            for a in drawn
        ]
    )
    given = [{p: ops.convert_to_tensor(g) for p, g in m.items()} for m in drawn]
    lengths = np.sqrt(np.diag(expected))
    for of_known_shapes in (False, True):
        if of_known_shapes and keras.backend.backend() != "tensorflow":
            continue  # they are always known
        way = (lambda function: function) if of_known_shapes else traced
        found = array(way(gramian_of)(given))
        error = np.abs(found - expected) / np.outer(lengths, lengths)
        assert error.max() < 2e-6  # the solvers count on it
        squares = array(way(squares_of)(given))
        np.testing.assert_allclose(squares, np.diag(expected), rtol=2e-6)


def test_small_tensors_are_joined():
    """Those of the same branches, or a deep network takes minutes to compile."""
    rng = np.random.default_rng(0)
    sizes = [3, 64 * 512, 20, 7, 64 * 513, 1, 12, 5]
    given = [
        {p: rng.normal(size=n).astype("float32") for p, n in enumerate(sizes)}
        for _ in range(3)
    ]
    for place in (2, 5, 6):
        del given[1][place]
    del given[2][7]
    joined = statistics._joined(
        [{p: ops.convert_to_tensor(g) for p, g in mine.items()} for mine in given]
    )
    assert [sorted(mine) for mine in joined] == [[0, 2, 4, 7], [0, 4, 7], [0, 2, 4]]
    for one, other in zip(joined, given, strict=True):
        one = np.concatenate([array(one[place]) for place in one])
        other = np.concatenate(list(other.values()))
        np.testing.assert_array_equal(np.sort(one), np.sort(other))


def test_pieces_under_xla():
    gradients = [
        np.random.default_rng(k).normal(size=(100, 150, 33)).astype("float32")
        for k in range(9)
    ]
    given = [{0: ops.convert_to_tensor(gradient)} for gradient in gradients]
    function = compiled(gramian_of)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        signature = [{0: tf.TensorSpec([None, 150, 33])}] * 9
        function = tf.function(
            gramian_of, input_signature=[signature], jit_compile=True
        )
    flat = np.array(gradients, "float64").reshape(9, -1)
    lengths = np.linalg.norm(flat, axis=1)
    error = (array(function(given)) - flat @ flat.T) / np.outer(lengths, lengths)
    assert np.abs(error).max() < 2e-6


def test_never_more_than_a_piece_side_by_side(monkeypatch):
    copied = []
    product = statistics._product

    def watched(tensors, block):
        copied.append(len(tensors) * np.prod(tensors[0].shape))
        return product(tensors, block)

    monkeypatch.setattr(statistics, "_product", watched)
    gradients = [ops.ones((1024, 1024)) * (1.0 + k) for k in range(14)]
    found = array(gramian_of([{0: gradient} for gradient in gradients]))
    np.testing.assert_allclose(found[1], 2 * 1024**2 * np.arange(1.0, 15.0))
    assert max(copied) <= statistics._AT_ONCE


def test_nothing_is_kept():
    """Not even until the garbage collector runs: K gradients are large.

    Keras walks through lists with functions that refer to themselves, on torch.
    """
    gradients = [ops.ones((64, 512)) * (1.0 + k) for k in range(12)]
    alive = [weakref.ref(gradient) for gradient in gradients]
    gc.disable()
    try:
        found = gramian_of([{0: gradient} for gradient in gradients])
        gradients.clear()
        assert [one() for one in alive] == [None] * 12
    finally:
        gc.enable()
    np.testing.assert_allclose(array(found)[0], 64 * 512 * np.arange(1.0, 13.0))
