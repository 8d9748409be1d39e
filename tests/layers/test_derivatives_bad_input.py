"""What `Derivatives` refuses and warns of, in which words."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from tanh_networks import OUTPUTS, VARIABLES, by_names, network, points

import lossweigh as lw
from lossweigh.layers import Derivatives, DerivativeWarning

pytestmark = pytest.mark.once

NAMED = {"variables": VARIABLES, "outputs": OUTPUTS}


def unbuilt():
    return keras.Sequential([layers.Dense(1)], name="unbuilt")


def whole_numbers():
    x = keras.Input((1,), name="x", dtype="int32")
    return keras.Model(x, layers.Dense(1, name="u")(ops.cast(x, "float32")))


CONSTRUCTOR = {
    "a layer": (
        lambda: Derivatives(layers.Dense(1)),
        TypeError,
        r"`network` must be a keras.Model. Received: network=<Dense .*of type Dense",
    ),
    "unbuilt": (
        lambda: Derivatives(unbuilt()),
        ValueError,
        r"`network` must be built. Received the model 'unbuilt' \(a Sequential\), "
        r"which isn't. Call it once on a batch of points, as in `network\(points",
    ),
    "no variables": (
        lambda: Derivatives(network(), outputs=OUTPUTS),
        ValueError,
        r"`variables` must name the columns, as no tensor of the network has one "
        r"column.*shapes \{'network_input': \(None, 2\)\}.*`variables=\[\"t\", ",
    ),
    "no outputs": (
        lambda: Derivatives(network(), variables=VARIABLES),
        ValueError,
        r"`outputs` must name the columns, as no tensor of the network has one column",
    ),
    "too few": (
        lambda: Derivatives(network(), variables=["x"], outputs=OUTPUTS),
        ValueError,
        r"`variables` must have a name for each column of 'network_input', which has "
        r"the shape \(None, 2\). Received 1: \['x'\]",
    ),
    "a string": (
        lambda: Derivatives(network(), variables="tx", outputs=OUTPUTS),
        TypeError,
        r"`variables` must be a list of names, as in \[\"u\", \"v\"\]. Received: "
        r"variables='tx'",
    ),
    "a list for several": (
        lambda: Derivatives(by_names(network()), variables=["t", "x"]),
        ValueError,
        r"`variables` must be a dict of lists of names for the tensors \['t', 'x'\], "
        r"as there are several. Received: variables=\['t', 'x'\]",
    ),
    "an unknown input": (
        lambda: Derivatives(by_names(network()), variables={"y": ["y"]}),
        ValueError,
        r"`variables` may only have the names \['t', 'x'\].*unknown: \['y'\]",
    ),
    "an unknown output": (
        lambda: Derivatives(by_names(network()), outputs={"w": ["w"]}),
        ValueError,
        r"`outputs` may only have the names \['v', 'u'\].*unknown: \['w'\]",
    ),
    "twice": (
        lambda: Derivatives(network(), variables=["x", "x"], outputs=OUTPUTS),
        ValueError,
        r"`variables` must hold at least one name, and each name once.*twice: \['x'\]",
    ),
    "none": (
        lambda: Derivatives(by_names(network()), variables={}),
        ValueError,
        r"`variables` must hold at least one name.*variables=\{\}\.",
    ),
    "two meanings": (
        lambda: Derivatives(network(), variables=["t", "x"], outputs=["u", "u_t"]),
        ValueError,
        r"`outputs` and `variables` must have names that tell their derivatives apart. "
        r"Received: outputs=\['u', 'u_t'\], .*where 'u_t' may mean two things",
    ),
    "whole numbers": (
        lambda: Derivatives(whole_numbers()),
        ValueError,
        r"`variables` must name the columns.*Received: variables=None",
    ),
}

ROWS = points()
CALLS = {
    "an unknown derivative": (
        lambda u: u(ROWS, ["u", "u_y"]),
        ValueError,
        r"`names` must be some of \['u', 'u_t', 'u_x', 'u_tt', 'u_tx', 'u_xt', 'u_xx', "
        r"'v', .*'v_xx'\]. Received: names=\['u', 'u_y'\] \(unknown: \['u_y'\]\)",
    ),
    "a third order": (
        lambda u: u(ROWS, ["u_xxx"]),
        ValueError,
        r"unknown: \['u_xxx'\]",
    ),
    "no name": (lambda u: u(ROWS, []), ValueError, r"`names` must be some of .*\[\]\."),
    "a string": (
        lambda u: u(ROWS, "u_x"),
        TypeError,
        r"`names` must be a list of names, .*Received: names='u_x'",
    ),
    "without rows": (
        lambda u: u(ROWS[0], ["u"]),
        ValueError,
        r"`inputs` must be \(batch, 2\) for the input 'network_input' of the network, "
        r"a row for each point. Received the shape \(2,\)",
    ),
    "too many columns": (
        lambda u: u(np.zeros((4, 3)), ["u_x"]),
        ValueError,
        r"`inputs` must be \(batch, 2\) .*Received the shape \(4, 3\)",
    ),
    "too many inputs": (
        lambda u: u([ROWS, ROWS], ["u_x"]),
        ValueError,
        r"`inputs` must be what the network takes, \['network_input'\]. Received 2 of",
    ),
    "a wrong key": (
        lambda u: u({"x": ROWS}, ["u_x"]),
        ValueError,
        r"`inputs` must have the names \['network_input'\].*unknown: \['x'\]",
    ),
    "no tensor": (
        lambda u: u("points", ["u_x"]),
        TypeError,
        r"`inputs` must be tensors or arrays. Received for the input 'network_input': "
        r"'points' \(of type str\)",
    ),
}


@pytest.mark.parametrize("case", CONSTRUCTOR)
def test_the_constructor_refuses(case):
    make, kind, message = CONSTRUCTOR[case]
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("case", CALLS)
def test_a_call_refuses(case):
    call, kind, message = CALLS[case]
    with pytest.raises(kind, match=message):
        call(Derivatives(network(), **NAMED))


def test_many_names_are_described():
    net = keras.Sequential([keras.Input((9,)), layers.Dense(1)])
    u = Derivatives(net, variables=[*"abcdefghi"], outputs=["u"])
    message = (
        r"`names` must be some of the outputs \['u'\] and their derivatives of first "
        r"and second order by \['a', .*'i'\], as in 'u_a' and 'u_aa'"
    )
    with pytest.raises(ValueError, match=message):
        u(np.zeros((2, 9)), ["u_z"])


def test_inputs_with_different_axes_in_front():
    t, x = np.zeros((1, 4, 1)), np.zeros((4, 1))
    with pytest.raises(
        ValueError, match=r"must all have as many axes in front.*'t': \("
    ):
        Derivatives(by_names(network()))({"t": t, "x": x}, ["u_x"])


@pytest.mark.parametrize("axis", [None, 0])
def test_a_residual_without_a_batch_axis(axis):
    given = keras.Input((2,))
    u_xx = Derivatives(network(), **NAMED)(given, ["u_xx"])["u_xx"]
    model = keras.Model(given, {"residual": ops.mean(u_xx, axis=axis)})
    with pytest.raises(
        ValueError, match=r"'residual' must be of tensors with a row for"
    ):
        lw.build_training_model(model, {"residual": "mse"})


# Rows that are mixed -----------------------------------------------------------


def normalised():
    inputs = keras.Input((2,))
    inner = layers.BatchNormalization(name="batch_norm")
    return keras.Model(inputs, layers.Dense(1)(keras.Sequential([inner])(inputs)))


def test_batch_normalization_is_refused_unless_it_is_frozen():
    net = normalised()
    u = Derivatives(net, variables=VARIABLES, outputs=["u"])
    message = (
        r"`network` must compute each row of a batch by itself.*Received "
        r"BatchNormalization layers that train, \['batch_norm'\], which mix the rows"
    )
    for inputs in (keras.Input((2,)), ROWS):
        with pytest.raises(ValueError, match=message):
            u(inputs, ["u_x"])
        u(inputs, ["u"])
        u(inputs, ["u_x"], training=False)
    net.trainable = False
    u(ROWS, ["u_x"], training=True)


def test_batch_normalization_is_refused_in_training():
    u = Derivatives(normalised(), variables=VARIABLES, outputs=["u"])
    given = keras.Input((2,))
    model = keras.Model(given, u(given, ["u_x"], training=False)["u_x"])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"layers that train, \['batch_norm'\]"):
        model.fit(ROWS, ROWS[:, :1], verbose=0)


# Warnings ----------------------------------------------------------------------


def with_activation(activation):
    inner = layers.Dense(3, activation=activation, name="kinked")
    return keras.Sequential([keras.Input((2,)), inner, layers.Dense(1)])


def with_layer(layer):
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(3), layer])
    return keras.Sequential([keras.Input((2,)), inner, layers.Dense(1)])


def with_operation(operation):
    x = keras.Input((2,))
    return keras.Model(x, layers.Dense(1)(operation(layers.Dense(3)(x))))


KINKED = {
    "relu": lambda: with_activation("relu"),
    "leaky_relu": lambda: with_activation("leaky_relu"),
    "hard_tanh": lambda: with_activation("hard_tanh"),
    "layer as activation": lambda: with_activation(layers.LeakyReLU(name="kinked")),
    "Activation": lambda: with_layer(layers.Activation("relu6", name="kinked")),
    "ReLU": lambda: with_layer(layers.ReLU(name="kinked")),
    "PReLU": lambda: with_layer(layers.PReLU(name="kinked")),
    "ops.relu": lambda: with_operation(ops.relu),
    "ops.abs": lambda: with_operation(ops.abs),
    "ops.maximum": lambda: with_operation(lambda x: ops.maximum(x, 0.0)),
}
SMOOTH = ["tanh", "gelu", "silu", "softplus", "sigmoid", "mish", "linear", "elu"]


@pytest.mark.parametrize("case", KINKED)
def test_kinks_are_warned_of_once_for_second_derivatives(case):
    u = Derivatives(KINKED[case](), variables=VARIABLES, outputs=["u"])
    u(ROWS, ["u", "u_x"])
    message = r"isn't smooth enough for second derivatives: \{'.*'\} have kinks"
    with pytest.warns(DerivativeWarning, match=message):
        u(keras.Input((2,)), ["u_xx"])
    u(ROWS, ["u_xx"])


@pytest.mark.parametrize("activation", SMOOTH)
def test_smooth_networks_are_not_warned_of(activation):
    u = Derivatives(with_activation(activation), variables=VARIABLES, outputs=["u"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        u(ROWS, ["u_xx"])
