"""The numbers of `Derivatives`, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from tanh_networks import (
    EVERY,
    OUTPUTS,
    VARIABLES,
    by_names,
    gradients,
    in_numpy,
    natively,
    network,
    oracle,
    points,
    weights_of,
)

from lossweigh import _backend
from lossweigh.layers import Derivatives
from lossweigh.layers.derivative_names import DerivativeNames, orders

NAMED = {"variables": VARIABLES, "outputs": OUTPUTS}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    if request.param == "float64" and keras.backend.backend() == "jax":
        import jax

        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", True)
        yield request.param
        jax.config.update("jax_enable_x64", before)
    else:
        yield request.param


def close(got, expected, dtype="float32", scale=1.0):
    assert got.dtype == dtype
    tolerance = {"float32": 3e-6, "float64": 1e-13}[dtype] * scale
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_every_derivative_against_numpy(dtype):
    net = network(dtype=dtype)
    u = Derivatives(net, **NAMED)
    assert sorted(u.names) == sorted(EVERY)
    for seed in range(3):
        array = points(seed=seed, dtype=dtype)
        expected = oracle(weights_of(net), array.astype("float64"))
        got = in_numpy(u(array, list(EVERY)))
        assert list(got) == list(EVERY)
        for name in EVERY:
            close(got[name], expected[name], dtype)


@pytest.mark.parametrize(
    "names",
    [
        ["u"],
        ["v_x"],
        ["u", "v_xx"],
        ["u_xt"],
        ["u_tx", "u_xt", "u_tt"],
        ["u_xx", "v_t"],
    ],
    ids="-".join,
)
def test_what_is_asked_for_comes_and_nothing_else(names):
    net = network()
    got = in_numpy(Derivatives(net, **NAMED)(points(dtype="float32"), names))
    expected = oracle(weights_of(net), points())
    assert list(got) == names
    for name in names:
        close(got[name], expected[name])


def test_several_inputs_and_outputs_have_their_names():
    inner = network()
    expected = oracle(weights_of(inner), points())
    u = Derivatives(by_names(inner))
    t, x = np.split(points(dtype="float32"), 2, axis=1)
    assert sorted(u.names) == sorted(EVERY)
    for inputs in ([t, x], {"x": x, "t": t}):
        got = in_numpy(u(inputs, list(EVERY)))
        for name in EVERY:
            close(got[name], expected[name])


def test_inputs_without_names_are_not_differentiated_by():
    sensors, x = keras.Input((3, 4), name="sensors"), keras.Input((2,), name="x")
    code = keras.layers.Dense(5)(keras.layers.Flatten()(sensors))
    out = keras.layers.Dense(5, activation="tanh")(x) * code
    net = keras.Model({"sensors": sensors, "x": x}, {"a": out, "b": out**2})
    u = Derivatives(net, variables={"x": ["a1", "a2"]}, outputs={"b": [*"pqrst"]})
    assert u.names[:4] == ["p", "p_a1", "p_a2", "p_a1_a1"]
    rng = np.random.default_rng(0)
    given = {
        "sensors": rng.normal(size=(6, 3, 4)).astype("float32"),
        "x": rng.normal(size=(6, 2)).astype("float32"),
    }
    step = np.array([[0.0, 1e-2]], "float32")

    def at(x):
        outputs = net({**given, "x": x})["b"]
        return ops.convert_to_numpy(outputs)[:, 1:2]

    got = in_numpy(u(given, ["q", "q_a2"]))
    close(got["q"], at(given["x"]))
    slope = (at(given["x"] + step) - at(given["x"] - step)) / 2e-2
    np.testing.assert_allclose(got["q_a2"], slope, rtol=1e-2, atol=1e-3)


def test_gradients_of_the_weights_against_numpy(dtype):
    """Of a residual's square, by central differences of the chain rule in float64."""
    net = network(widths=(4, 3), outputs=1, dtype=dtype)
    u = Derivatives(net, variables=VARIABLES, outputs=["u"])
    array, names = points(dtype=dtype), ["u", "u_t", "u_x", "u_xx", "u_tx"]

    def of(at):
        return at["u_t"] + at["u"] * at["u_x"] - 0.3 * at["u_xx"] + 0.2 * at["u_tx"]

    value, got = gradients(
        lambda: ops.mean(ops.square(of(u(array, names)))), net.trainable_variables
    )
    weights, array = weights_of(net), array.astype("float64")
    assert np.isclose(value, np.mean(of(oracle(weights, array)) ** 2), rtol=1e-5)
    for weight, gradient in zip(weights, got, strict=True):
        for index in np.ndindex(weight.shape):
            before, sides = weight[index], []
            for step in (1e-5, -1e-5):
                weight[index] = before + step
                sides.append(np.mean(of(oracle(weights, array)) ** 2))
            weight[index] = before
            expected = (sides[0] - sides[1]) / 2e-5
            tolerance = 2e-5 if dtype == "float32" else 1e-8
            assert np.isclose(gradient[index], expected, rtol=tolerance, atol=tolerance)


def test_gradients_of_the_weights_are_the_backends_own():
    net = network(outputs=1)
    u = Derivatives(net, variables=VARIABLES, outputs=["u"])
    array = points(dtype="float32")

    def loss(at):
        u, u_t, u_x, u_xx = at
        return ops.mean(ops.square(u_t + u * u_x - 0.3 * u_xx))

    def by_layer():
        return u(array, ["u", "u_t", "u_x", "u_xx"]).values()

    variables = net.trainable_variables
    value, got = gradients(lambda: loss(by_layer()), variables)
    expected_value, expected = gradients(lambda: loss(natively(net, array)), variables)
    close(value, expected_value)
    for one, other in zip(got, expected, strict=True):
        close(one, other, scale=3.0)


def test_points_that_a_layer_makes():
    """Its weights get a gradient, and an input's share of another isn't counted."""
    inner = network()
    net = by_names(inner)
    scale = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    scale.build((None, 1))
    u = Derivatives(net)
    t = points(dtype="float32")[:, :1]

    def at():
        moving = scale(ops.convert_to_tensor(t))
        return u([moving, 2.0 * moving], ["u_t", "u_xx"])

    array = np.concatenate([t, 2 * t], axis=1).astype("float64")
    expected = oracle(weights_of(inner), array)
    got = in_numpy(at())
    close(got["u_t"], expected["u_t"])
    close(got["u_xx"], expected["u_xx"])
    _, (gradient,) = gradients(lambda: ops.sum(at()["u_t"]), scale.trainable_variables)
    by_scale = t * expected["u_tt"] + 2 * t * expected["u_tx"]
    close(gradient, np.sum(by_scale, keepdims=True), scale=10.0)


def test_one_tensor_for_two_inputs():
    """Partial derivatives, as if they were two."""
    inner = network()
    t = ops.convert_to_tensor(points(dtype="float32")[:, :1])
    got = in_numpy(Derivatives(by_names(inner))([t, t], ["u_t", "u_xx"]))
    expected = oracle(weights_of(inner), np.tile(points()[:, :1], 2))
    close(got["u_t"], expected["u_t"])
    close(got["u_xx"], expected["u_xx"])


@pytest.mark.compiled
def test_predicted():
    net, inputs = network(), keras.Input((2,))
    model = keras.Model(inputs, Derivatives(net, **NAMED)(inputs, list(EVERY)))
    got = model.predict(points(dtype="float32"), batch_size=4, verbose=0)
    expected = oracle(weights_of(net), points())
    for name in EVERY:
        close(got[name], expected[name])


def test_third_and_fourth_order_by_two_layers():
    x = keras.Input((1,), name="x")
    inner = Derivatives(keras.Model(x, {"u": x**5}))
    y = keras.Input((1,), name="x")
    outer = Derivatives(keras.Model(y, {"w": inner({"x": y}, ["u_xx"])["u_xx"]}))
    got = in_numpy(outer(np.array([[2.0]], "float32"), ["w", "w_x", "w_xx"]))
    assert {name: value.item() for name, value in got.items()} == {
        "w": 160.0,
        "w_x": 240.0,
        "w_xx": 240.0,
    }


@pytest.mark.parametrize("sets", [(1,), (3,), (2, 3)])
def test_sets_of_points(sets):
    net, array = network(), points(rows=12, dtype="float32")
    expected = oracle(weights_of(net), array.astype("float64"))
    u = Derivatives(net, **NAMED)
    got = in_numpy(u(array.reshape(*sets, -1, 2), ["u", "v_xx"]))
    symbolic = u(keras.Input(batch_shape=(*sets, None, 2)), ["u", "v_xx"])
    for name in ("u", "v_xx"):
        assert symbolic[name].shape == (*sets, None, 1)
        close(got[name], expected[name].reshape(*sets, -1, 1))


def test_a_derivative_that_is_zero_everywhere():
    t, x = keras.Input((1,), name="t"), keras.Input((1,), name="x")
    u = Derivatives(keras.Model([t, x], {"u": 3.0 * t, "c": ops.ones_like(t)}))
    ones = np.ones((4, 1), "float32")
    got = in_numpy(u([ones, ones], ["u", "u_t", "u_x", "u_tt", "u_tx", "c_t", "c_xx"]))
    assert {name: value[0, 0] for name, value in got.items()} == {
        "u": 3.0,
        "u_t": 3.0,
        "u_x": 0.0,
        "u_tt": 0.0,
        "u_tx": 0.0,
        "c_t": 0.0,
        "c_xx": 0.0,
    }
    assert all(value.shape == (4, 1) for value in got.values())


@pytest.mark.once
def test_no_derivative_is_computed_twice():
    """`u_tt` needs `u_t`, and `u_xt` is a derivative of that, as `u_tx` is."""
    names = DerivativeNames(["u", "v"], ["t", "x"])
    wanted = names.look_up(["u_xt", "u_tt", "u_tx", "u_x", "v_x", "v"])
    assert wanted["u_xt"] == wanted["u_tx"] == (0, 0, 1)
    firsts, seconds = orders(wanted.values())
    assert firsts == {0: [0, 1], 1: [1]}
    assert seconds == {(0, 0): [0, 1]}


def test_outputs_alone_cost_no_derivative(monkeypatch):
    def refuse(*args):
        raise AssertionError("differentiated")

    monkeypatch.setattr(_backend, "derivatives", refuse)
    u = Derivatives(network(), **NAMED)
    u(points(), ["u", "v"])
    with pytest.raises(AssertionError, match="differentiated"):
        u(points(), ["u", "v_x"])


def test_arrays_are_cast_to_the_points_dtype():
    net = network()
    u = Derivatives(net, **NAMED)
    whole = np.array([[1, 0], [2, -1]])
    expected = oracle(weights_of(net), whole.astype("float64"))
    for array in (whole, whole.astype("float64"), whole.astype("float16")):
        close(in_numpy(u(array, ["v_tx"]))["v_tx"], expected["v_tx"])


def test_a_mixed_policy_does_not_round_a_float32_network():
    net = network(dtype="float32")
    expected = oracle(weights_of(net), points())
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        u = Derivatives(net, **NAMED)
    finally:
        keras.config.set_dtype_policy("float32")
    got = in_numpy(u(points(dtype="float32"), list(EVERY)))
    for name in EVERY:
        close(got[name], expected[name])


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner or network()

    def call(self, inputs):
        both = self.inner(inputs)
        return {"u": both[:, :1], "v": both[:, 1:]}


def test_a_subclassed_network():
    net = Subclassed()
    net(points(dtype="float32"))
    expected = oracle(weights_of(net.inner), points())
    got = in_numpy(Derivatives(net, variables=VARIABLES)(points(), ["v_xx", "u_t"]))
    close(got["v_xx"], expected["v_xx"])
    close(got["u_t"], expected["u_t"])


# Networks with a state of their own ------------------------------------------


def linear(layer):
    x = keras.Input((1,), name="x")
    return Derivatives(keras.Model(x, {"u": layer(x)}))


@pytest.mark.parametrize("seed", [3, None])
def test_dropout_drops_the_same_in_all_of_a_call(seed):
    u = linear(keras.layers.Dropout(0.5, seed=seed))
    x = np.full((64, 1), 3.0, "float32")
    calls = [in_numpy(u(x, ["u", "u_x", "u_xx"], training=True)) for _ in range(2)]
    for at in calls:
        assert 0 < np.mean(at["u"] == 0) < 1
        np.testing.assert_allclose(at["u_x"] * 3.0, at["u"])
        assert not at["u_xx"].any()
    assert (calls[0]["u"] != calls[1]["u"]).any()
    at_rest = in_numpy(u(x, ["u", "u_x"]))
    np.testing.assert_array_equal(at_rest["u_x"], 1.0)


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras.layers.Layer):
    """Counts its calls, sums up its inputs, and adds a loss."""

    def build(self, shape):
        self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)
        self.total = self.add_weight(name="total", initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        self.total.assign_add(ops.sum(inputs))
        self.add_loss(0.5 * ops.mean(ops.square(inputs)))
        return 2.0 * inputs

    def compute_output_shape(self, shape):
        return shape


def test_states_move_once_a_call_and_losses_are_added_once():
    layer = Counting()
    u = linear(layer)
    x = np.full((4, 1), 3.0, "float32")
    for _ in range(2):
        at = in_numpy(u(x, ["u", "u_x", "u_xx"]))
    assert (at["u"][0, 0], at["u_x"][0, 0]) == (6.0, 2.0)
    assert (float(layer.calls.value), float(layer.total.value)) == (2.0, 24.0)
    inputs = keras.Input((1,))
    slope = u(inputs, ["u", "u_x", "u_xx"])["u_x"]
    model = keras.Model(inputs, slope + 0.0 * keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    model.fit(x, 2 + 0 * x, epochs=2, batch_size=2, verbose=0)
    assert (float(layer.calls.value), float(layer.total.value)) == (6.0, 48.0)
    assert np.isclose(model.evaluate(x, 2 + 0 * x, verbose=0), 4.5)


class Square(keras.layers.Layer):
    """Has a custom gradient."""

    def call(self, inputs):
        @ops.custom_gradient
        def square(x):
            def gradient(*args, upstream=None):
                return 2.0 * x * (args[0] if upstream is None else upstream)

            return x**2, gradient

        return square(inputs)

    def compute_output_shape(self, shape):
        return shape


def test_a_layer_with_a_custom_gradient():
    u, x = linear(Square()), np.array([[3.0]], "float32")
    if keras.backend.backend() == "jax":
        message = r"`network` must have no layer with a custom gradient, as by"
        with pytest.raises(ValueError, match=message):
            u(x, ["u_x"])
        return
    got = in_numpy(u(x, ["u", "u_x", "u_xx"]))
    assert [value.item() for value in got.values()] == [9.0, 6.0, 2.0]


def test_no_graph_is_kept_where_nothing_is_trained():
    if keras.backend.backend() != "torch":
        return
    import torch

    u = Derivatives(network(), **NAMED)
    array = ops.convert_to_tensor(points(dtype="float32"))
    for grows in (False, True):
        with torch.set_grad_enabled(grows):
            at = u(array, ["u", "u_x", "u_xx"])
        assert [value.requires_grad for value in at.values()] == [grows] * 3
