"""An exact pass where branches come by tensors of their own: one shared network.

The gradients are those of K native backward passes, and each pull walks the calls of
its own branch only.
"""

import keras
import numpy as np
import pytest
from balanced_nets import LEVELS, Uneven, balanced_layer, dense, train, weights_of
from keras import layers, ops

import lossweigh as lw
from lossweigh import _backend

BACKEND = keras.backend.backend()
ROWS = 6
walked = []  # a layer's name for each call of it that a backward pass went through


def note(name):
    if BACKEND == "jax":  # which traces the function that notes, and then runs a copy
        import jax

        jax.debug.callback(lambda: walked.append(name))
    else:
        walked.append(name)


@keras.saving.register_keras_serializable(package="tests")
class Noted(layers.Layer):
    """Gives its input back, and notes each backward pass through it."""

    def call(self, inputs):
        @ops.custom_gradient
        def identity(tensor):
            def gradient(*args, upstream=None):
                note(self.name)
                return args[0] if upstream is None else upstream

            return tensor, gradient

        return identity(inputs)


def inputs_of(names):
    return [keras.Input((4,), name=f"at_{name}") for name in names]


def three_inputs():
    """Points in three places, and one network."""
    inputs = inputs_of("zba")
    shared = keras.Sequential([dense(8), Noted(name="network"), dense(8)])
    pairs = zip("zba", inputs, strict=True)
    return keras.Model(
        inputs, {n: layers.Dense(2, name=n)(shared(x)) for n, x in pairs}
    )


def siamese_encoders():
    """A branch compares two texts, another reads a third one."""
    inputs = inputs_of(["one", "other", "third"])
    encoder = keras.Sequential([dense(8), Noted(name="encoder"), dense(5)])
    one, other, third = (encoder(x) for x in inputs)
    z = layers.Dense(2, name="z")(layers.Multiply()([one, other]))
    return keras.Model(inputs, {"z": z, "b": layers.Dense(2, name="b")(third)})


def task_inputs():
    """Two tasks on one input, and one on another."""
    inputs = inputs_of(["both", "alone"])
    first, last = dense(8), dense(8)
    both = last(Noted(name="both")(first(inputs[0])))
    alone = last(Noted(name="alone")(first(inputs[1])))
    outputs = {n: layers.Dense(2, name=n)(both) for n in "zb"}
    return keras.Model(inputs, {**outputs, "a": layers.Dense(2, name="a")(alone)})


def points_of_different_lengths():
    """All points of a place are one row."""
    lengths = {"z": 3, "b": 5, "a": 9}
    inputs = [keras.Input((n, 2), name=f"at_{name}") for name, n in lengths.items()]
    first, last = dense(6), dense(6)
    outputs = {}
    for name, x in zip(lengths, inputs, strict=True):
        hidden = last(Noted(name=f"network_{name}")(first(x)))
        outputs[name] = layers.Dense(2, name=name)(hidden)
    return keras.Model(inputs, outputs)


# How often each exact pass goes through the noted layers: once for each branch that
# depends on a call.
NETS = {
    three_inputs: {"network": 3},
    siamese_encoders: {"encoder": 3},
    task_inputs: {"both": 2, "alone": 1},
    points_of_different_lengths: {"network_z": 1, "network_b": 1, "network_a": 1},
}
nets = pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
CASES = [(net, level) for net in NETS for level in ("parameters", "calibrated")]
CASES += [pytest.param(three_inputs, "parameters", marks=pytest.mark.compiled)]


def data(model):
    rng = np.random.default_rng(0)
    x = [
        rng.normal(size=(ROWS, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    ]
    scales = {"z": 3.0, "b": 0.3, "a": 1.0}
    y = {
        name: (scales[name] * rng.normal(size=(ROWS, *output.shape[1:])))
        for name, output in model.output.items()
    }
    return x, y


def moved(training, model, x, y):
    """What a step of plain descent took from each variable, which is put back."""
    before = model.get_weights()
    training.train_on_batch(x, y)
    after = model.get_weights()
    model.set_weights(before)
    return [old - new for old, new in zip(before, after, strict=True)]


@pytest.mark.filterwarnings("ignore:No two branches take")
@pytest.mark.parametrize(("net", "level"), CASES)
def test_against_a_native_pass_for_each_branch(net, level):
    model = net()
    x, y = data(model)
    alone = [
        moved(train(model, y, weights=[float(n == name) for n in y]), model, x, y)
        for name in y
    ]
    together = moved(train(model, y), model, x, y)
    training = train(model, y, Uneven(**LEVELS[level]))
    lost = moved(training, model, x, y)
    weights = weights_of(training)
    shared = {id(v) for v in balanced_layer(training).cut.trunk.trainable_variables}
    gramian = np.zeros((len(y), len(y)))
    for index, variable in enumerate(model.weights):
        expected = together[index]
        if id(variable) in shared:
            flat = np.array([gradients[index].ravel() for gradients in alone])
            gramian += flat @ flat.T
            expected = (weights @ flat).reshape(expected.shape)
        np.testing.assert_allclose(
            lost[index], expected, atol=1e-5, rtol=1e-5, err_msg=variable.path
        )
    found = ops.convert_to_numpy(balanced_layer(training).state.gramian)
    norms = np.sqrt(np.diag(gramian))
    np.testing.assert_allclose(
        found / np.outer(norms, norms), gramian / np.outer(norms, norms), atol=1e-5
    )
    expected = np.arange(1, len(y) + 1) / norms
    np.testing.assert_allclose(weights, expected, rtol=1e-4)


@nets
def test_each_pull_walks_the_calls_of_its_branch_only(net):
    model = net()
    x, y = data(model)
    training = train(model, y, lw.UPGrad(level="parameters"))
    walked.clear()
    training.train_on_batch(x, y)
    if BACKEND == "jax":
        import jax

        jax.effects_barrier()
    assert {name: walked.count(name) for name in walked} == NETS[net]


def test_outputs_that_no_gradient_comes_from():
    """Numbers, one that depends on nothing, and a pull from nowhere."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 3)).astype("float32")

    def function(a, b):
        product = ops.matmul(a, b)
        outputs = (product, ops.argmax(product, axis=-1), ops.sin(a), ops.ones((2,)))
        return outputs, None

    tensors = [ops.convert_to_tensor(array) for array in (a, b)]
    _, _, pull_back = _backend.vector_jacobian(function, tensors)
    some, other = (rng.normal(size=(3, 3)).astype("float32") for _ in range(2))
    of_product, of_sine = ops.convert_to_tensor(some), ops.convert_to_tensor(other)
    pulled = pull_back(
        [
            [of_product, None, None, None],
            [None, None, of_sine, None],
            [of_product, None, of_sine, None],
            [None, None, None, ops.ones((2,))],
            [None, None, None, None],
        ]
    )
    products, sines = (some @ b.T, a.T @ some), (other * np.cos(a), 0 * b)
    both = [sum(pair) for pair in zip(products, sines, strict=True)]
    nothing = [0 * a, 0 * b]
    expected = [products, sines, both, nothing, nothing]
    for found, gradients in zip(pulled, expected, strict=True):
        for tensor, gradient in zip(found, gradients, strict=True):
            np.testing.assert_allclose(
                ops.convert_to_numpy(tensor), gradient, atol=1e-6
            )
