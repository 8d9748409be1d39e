import keras
import numpy as np
import pytest
from gramians import array, compiled
from keras import layers, ops
from scipy import stats

import lossweigh as lw
from lossweigh import _backend
from lossweigh.gradients.written_out import WrittenOut

RNG = np.random.default_rng(0)


def naive(gradients, uniform):
    """The paper's rule, element by element: which sign wins, and what passes."""
    mixed = np.zeros(gradients[0].shape)
    for place in np.ndindex(mixed.shape):
        values = [float(gradient[place]) for gradient in gradients]
        size = sum(abs(value) for value in values)
        purity = 0.5 * (1 + sum(values) / size) if size else 0.5
        for value in values:
            wins = value > 0 if purity > uniform[place] else value < 0
            mixed[place] += value if wins else 0.0
    return mixed


def combine(gradients, uniform):
    given = [ops.convert_to_tensor(g, dtype="float32") for g in gradients]
    noise = ops.convert_to_tensor(uniform, dtype="float32")
    site = WrittenOut(tuple(range(len(given))), given)
    return array(lw.GradDrop().combine(site, ops.ones(len(given)), noise))


@pytest.mark.parametrize("number", [1, 2, 5, 20])
@pytest.mark.parametrize("shape", [(1,), (8, 3), (2, 4, 4, 3)])
def test_against_the_naive_loop(number, shape):
    for scale in (1e-15, 1.0, 1e15):
        gradients = scale * RNG.normal(size=(number, *shape)).astype("float32")
        gradients[RNG.uniform(size=gradients.shape) < 0.2] = 0.0
        uniform = RNG.uniform(size=shape).astype("float32")
        np.testing.assert_allclose(
            combine(gradients, uniform),
            naive(gradients, uniform),
            rtol=1e-5,
            atol=1e-6 * scale,
        )


@pytest.mark.parametrize("batch", [3, 300])
def test_large_tensors(batch):
    """Compiled, with a batch of unknown size on TensorFlow."""
    shape = (batch, 70, 50)
    gradients = RNG.normal(size=(3, *shape)).astype("float32")
    uniform = RNG.uniform(size=shape).astype("float32")

    def function(*tensors):
        site = WrittenOut((0, 1, 2), tensors[:-1])
        return lw.GradDrop().combine(site, ops.ones(3), tensors[-1])

    given = [ops.convert_to_tensor(a) for a in (*gradients, uniform)]
    expected = np.where(
        uniform * np.abs(gradients).sum(0) < np.maximum(gradients, 0).sum(0),
        np.maximum(gradients, 0).sum(0),
        np.minimum(gradients, 0).sum(0),
    )
    functions = [compiled(function)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        unknown = [tf.TensorSpec((None, 70, 50))] * 4
        functions = [
            tf.function(function, input_signature=unknown, jit_compile=xla)
            for xla in (False, True)
        ]
    for one in functions:
        np.testing.assert_allclose(array(one(*given)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 5), (600, 700), (601, 30, 20), (1, 400000)])
def test_noise(shape):
    """Large ones are drawn in pieces on JAX: none may come twice."""
    one, twin = keras.random.SeedGenerator(7), keras.random.SeedGenerator(7)
    first = array(_backend.uniform(shape, one))
    assert first.shape == shape
    assert first.dtype == "float32"
    assert first.min() >= 0
    assert first.max() < 1
    if first.size > 1000:
        assert stats.kstest(first.ravel(), "uniform").pvalue > 1e-4
    assert len(np.unique(first, axis=0)) == len(first)
    again = array(_backend.uniform(shape, one))
    assert abs(np.corrcoef(first.ravel(), again.ravel())[0, 1]) < 4 / first.size**0.5
    np.testing.assert_array_equal(array(_backend.uniform(shape, twin)), first)


def test_elements_that_all_agree_on_pass_whole():
    gradients = np.abs(RNG.normal(size=(3, 40, 5))) * np.array([1, -1, 1, -1, 0])
    uniform = RNG.uniform(size=(40, 5))
    np.testing.assert_allclose(combine(gradients, uniform), gradients.sum(0), rtol=1e-5)


def linear(branches):
    """With the identity as input, the kernel's gradient is the representation's."""
    x = keras.Input((12,), name="x")
    shared = layers.Dense(8, use_bias=False, name="shared")(x)
    heads = {name: layers.Dense(3, name=name)(shared) for name in branches}
    return keras.Model(x, heads)


def lost(model, x, y, weights, balancer=None):
    """What one step of plain descent takes off the shared kernel."""
    before = model.get_weights()
    losses = dict.fromkeys(y, "mse")
    training = lw.build_training_model(
        model, losses, lw.FixedWeights(weights), balancer
    )
    training.compile(keras.optimizers.SGD(1.0))
    training.train_on_batch(x, y)
    shared = before[0] - model.get_weights()[0]
    model.set_weights(before)
    return shared


def test_in_a_training_step():
    """Each element is what one sign says, as often as it should be, drawn anew."""
    names = ["one", "two", "three"]
    keras.utils.set_random_seed(0)
    model, x = linear(names), np.eye(12, dtype="float32")
    y = {name: RNG.normal(size=(12, 3)).astype("float32") for name in names}
    alone = np.stack(
        [lost(model, x, y, [float(name == other) for other in names]) for name in names]
    )
    positive, negative = np.maximum(alone, 0).sum(0), np.minimum(alone, 0).sum(0)
    purity = positive / (positive - negative)
    balanced = [lost(model, x, y, [1.0] * 3, lw.GradDrop(seed=seed)) for seed in (1, 2)]
    for found in balanced:
        up = np.isclose(found, positive, rtol=1e-3, atol=1e-6)
        down = np.isclose(found, negative, rtol=1e-3, atol=1e-6)
        assert (up | down).all()
        mixed = (purity > 0) & (purity < 1)
        assert mixed.sum() > 40
        # Four standard deviations of a sum of draws, one for each element.
        spread = 4 * np.sqrt((purity * (1 - purity)).sum())
        assert abs(up[mixed].sum() - purity[mixed].sum()) < spread
    assert (balanced[0] != balanced[1]).any()


@pytest.mark.parametrize("level", ["parameters", "calibrated"])
def test_no_other_level(level):
    with pytest.raises(ValueError, match="`level` must be"):
        lw.GradDrop(level=level)
