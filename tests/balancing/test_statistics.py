"""The Gramian of gradients of any shape, however it is cut into products."""

import gc
import weakref

import keras
import numpy as np
import pytest
from gramians import array, compiled
from keras import ops

from lossweigh.gradients import statistics
from lossweigh.gradients.written_out import WrittenOut, join_small

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


def sites_of(gradients):
    """Sites from, for each site, its tensors by branch."""
    return [WrittenOut(tuple(few), list(few.values())) for few in gradients]


def gramian_of(gradients, number):
    return statistics.gramian(sites_of(gradients), number)


def squares_of(gradients, number):
    return statistics.squared_norms(sites_of(gradients), number)


def traced(function, gradients, number):
    """Compiled as a training step is; with a batch of unknown size on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return function(gradients, number)
    import tensorflow as tf

    unknown = [
        {k: tf.TensorSpec([None, *g.shape[1:]]) for k, g in few.items()}
        for few in gradients
    ]
    compiled = tf.function(lambda few: function(few, number), input_signature=[unknown])
    return compiled(gradients)


@pytest.mark.parametrize(
    ("shapes", "number"),
    [
        *((shapes, 4) for shapes in SHAPES),
        *((shapes, 1) for shapes in ("several places", "pieces")),
        *((shapes, 14) for shapes in ("several places", "pieces", "blocks")),
    ],
)
def test_against_numpy(shapes, number):
    rng = np.random.default_rng(number)
    drawn = [
        {
            k: rng.normal(size=shape).astype("float32") * 10.0**index
            for k in range(number)
            if index == 0 or (index + k) % 3  # not every branch is at every site
        }
        for index, shape in enumerate(SHAPES[shapes])
    ]
    expected = np.array(
        [
            [
                sum(
                    np.vdot(few[i].astype(float), few[k])
                    for few in drawn
                    if i in few and k in few
                )
                for k in range(number)
            ]
            for i in range(number)
        ]
    )
    given = [
        {k: ops.convert_to_tensor(g) for k, g in few.items()} for few in drawn if few
    ]
    lengths = np.sqrt(np.diag(expected))
    ways = [traced]
    if keras.backend.backend() == "tensorflow":  # elsewhere shapes are always known
        ways.append(lambda function, *arguments: function(*arguments))
    for way in ways:
        found = array(way(gramian_of, given, number))
        error = np.abs(found - expected) / np.outer(lengths, lengths)
        assert error.max() < 2e-6  # the solvers count on it
        squares = array(way(squares_of, given, number))
        np.testing.assert_allclose(squares, np.diag(expected), rtol=2e-6)


def test_small_tensors_are_joined():
    """Those of the same branches, or a deep network takes minutes to compile."""
    rng = np.random.default_rng(0)
    sizes = [3, 64 * 512, 20, 7, 64 * 513, 1, 12, 5]
    everyone = dict.fromkeys(range(len(sizes)), (0, 1, 2))
    branches = {**everyone, 2: (0, 2), 5: (0, 2), 6: (0, 2), 7: (0, 1)}
    sites = [
        WrittenOut(
            branches[p],
            [ops.convert_to_tensor(rng.normal(size=n)) for _ in branches[p]],
        )
        for p, n in enumerate(sizes)
    ]
    joined = join_small(sites)
    assert [site.branches for site in joined] == [(0, 1, 2), (0, 1, 2), (0, 2), (0, 1)]
    for k in range(3):
        one = [array(s.gradient(k)) for s in joined if k in s.branches]
        other = [array(s.gradient(k)) for s in sites if k in s.branches]
        np.testing.assert_allclose(
            np.sort(np.concatenate(one)), np.sort(np.concatenate(other)), rtol=1e-6
        )


def test_pieces_under_xla():
    gradients = [
        np.random.default_rng(k).normal(size=(100, 150, 33)).astype("float32")
        for k in range(9)
    ]
    given = [ops.convert_to_tensor(gradient) for gradient in gradients]

    def gramian(given):
        return gramian_of([dict(enumerate(given))], 9)

    function = compiled(gramian)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec([None, 150, 33])] * 9
        function = tf.function(gramian, input_signature=[signature], jit_compile=True)
    flat = np.array(gradients, "float64").reshape(9, -1)
    lengths = np.linalg.norm(flat, axis=1)
    error = (array(function(given)) - flat @ flat.T) / np.outer(lengths, lengths)
    assert np.abs(error).max() < 2e-6


def test_nothing_is_kept():
    """Not even until the garbage collector runs: K gradients are large.

    Keras walks through lists with functions that refer to themselves, on torch.
    """
    gradients = [ops.ones((64, 512)) * (1.0 + k) for k in range(12)]
    alive = [weakref.ref(gradient) for gradient in gradients]
    gc.disable()
    try:
        found = gramian_of([dict(enumerate(gradients))], 12)
        gradients.clear()
        assert [one() for one in alive] == [None] * 12
    finally:
        gc.enable()
    np.testing.assert_allclose(array(found)[0], 64 * 512 * np.arange(1.0, 13.0))
