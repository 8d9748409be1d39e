"""Training models whose branches are residuals: every way to run, saved and resumed."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from tanh_networks import VARIABLES, gradients, in_numpy, network, points

import lossweigh as lw
from lossweigh.layers import Derivatives, DerivativeWarning

NU = 0.05
NAMES = ["u", "u_t", "u_x", "u_xx"]
X = {
    "interior": points(rows=24, seed=1, dtype="float32"),
    "initial": points(rows=24, seed=2, dtype="float32"),
}
Y = {
    "residual": np.zeros((24, 1), "float32"),
    "initial_value": np.sin(np.pi * X["initial"][:, 1:]),
}
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}


def residual(at):
    return at["u_t"] + at["u"] * at["u_x"] - NU * at["u_xx"]


def small_network():
    return network(widths=(6, 6), outputs=1)


def derivatives(net, **kwargs):
    return Derivatives(net, variables=VARIABLES, outputs=["u"], **kwargs)


def inputs(*front):
    return {name: keras.Input(batch_shape=(*front, None, 2), name=name) for name in X}


def one_layer(net, *front):
    given, u = inputs(*front), derivatives(net)
    return keras.Model(
        given,
        {
            "residual": residual(u(given["interior"], NAMES)),
            "initial_value": u(given["initial"], ["u"])["u"],
        },
    )


def layer_and_network(net):
    """Keras saves the layer first."""
    given = inputs()
    start = net(given["initial"])
    later = residual(derivatives(net)(given["interior"], NAMES))
    return keras.Model(given, {"residual": later, "initial_value": start + 0 * later})


def network_and_layer(net):
    """Keras saves the network first."""
    given = inputs()
    later = residual(derivatives(net)(given["interior"], NAMES))
    start = net(given["initial"])
    return keras.Model(given, {"residual": later + 0 * start, "initial_value": start})


def two_layers(net):
    given = inputs()
    later = residual(derivatives(net)(given["interior"], NAMES))
    start = derivatives(net, name="again")(given["initial"], ["u"])["u"]
    return keras.Model(given, {"residual": later, "initial_value": start})


def training_model(net, form=one_layer, optimizer=None, **kwargs):
    methods = {k: kwargs.pop(k) for k in ("weighter", "balancer") if k in kwargs}
    losses = {"residual": "mse", "initial_value": "mse"}
    training = lw.build_training_model(form(net), losses, **methods)
    training.compile(optimizer or keras.optimizers.Adam(0.01), **kwargs)
    return training


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [ops.convert_to_numpy(variable) for variable in variables]


# Saved and resumed -----------------------------------------------------------


@pytest.mark.parametrize(
    "form", [one_layer, layer_and_network, network_and_layer, two_layers]
)
def test_a_reloaded_model_goes_on_to_the_bit(form, tmp_path):
    keras.utils.set_random_seed(1)
    net = small_network()
    training = training_model(net, form)
    training.fit(X, Y, epochs=2, **FIT)
    training.save(tmp_path / "training.keras")
    net.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras")
    for one, other in zip(state(loaded), state(training), strict=True):
        np.testing.assert_array_equal(one, other)
    networks = [
        layer.network if isinstance(layer, Derivatives) else layer
        for layer in loaded.prediction_model.layers
        if isinstance(layer, (Derivatives, keras.Sequential))
    ]
    assert all(each is networks[0] for each in networks)
    expected = training.fit(X, Y, epochs=2, **FIT).history
    assert loaded.fit(X, Y, epochs=2, **FIT).history == expected
    for one, other in zip(state(loaded), state(training), strict=True):
        np.testing.assert_array_equal(one, other)
    after = net.predict(X["initial"], verbose=0)
    np.testing.assert_array_equal(networks[0].predict(X["initial"], verbose=0), after)
    keras.saving.load_model(tmp_path / "network.keras").predict(after[:, [0, 0]])


def test_the_first_call_may_ask_for_less(tmp_path):
    """Keras takes the number of outputs of every call from the first one."""
    net = small_network()
    given, u = inputs(), derivatives(net)
    start = u(given["initial"], ["u"])["u"]
    later = residual(u(given["interior"], NAMES))
    model = keras.Model(given, {"residual": later, "initial_value": start})
    expected = one_layer(net)(X)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        said = each(X)
        for name in expected:
            np.testing.assert_array_equal(
                ops.convert_to_numpy(said[name]), ops.convert_to_numpy(expected[name])
            )


def test_the_network_is_served_alone(tmp_path):
    net = small_network()
    training = training_model(net)
    training.fit(X, Y, **FIT)
    net.save(tmp_path / "network.keras")
    alone = keras.saving.load_model(tmp_path / "network.keras")
    predicted = training.predict(X, verbose=0)["initial_value"]
    np.testing.assert_array_equal(alone.predict(X["initial"], verbose=0), predicted)
    assert not any(isinstance(layer, Derivatives) for layer in alone.layers)


def test_every_argument_is_saved():
    layer = Derivatives(
        network(), variables={"network_input": ["a", "b"]}, outputs=["p", "q"], name="d"
    )
    config = keras.saving.serialize_keras_object(layer)
    other = keras.saving.deserialize_keras_object(config)
    assert other.names == layer.names
    assert other.name == "d"
    assert other.network is not layer.network


# Weighed, balanced and looked at ---------------------------------------------


def by_branch(net):
    """The gradient of each branch's loss, flat."""
    u = derivatives(net)
    losses = [
        lambda: ops.mean(ops.square(residual(u(X["interior"], NAMES)))),
        lambda: ops.mean(
            ops.square(ops.subtract(net(X["initial"]), Y["initial_value"]))
        ),
    ]
    both = [gradients(loss, net.trainable_variables) for loss in losses]
    return [np.concatenate([g.ravel() for g in of], dtype="float64") for _, of in both]


def moved(net, **methods):
    """By how much a step of gradient descent moves the weights."""
    before = np.concatenate([w.ravel() for w in net.get_weights()], dtype="float64")
    sgd = keras.optimizers.SGD(1.0)
    training = training_model(net, optimizer=sgd, **methods)
    training.train_on_batch(X, Y)
    after = np.concatenate([w.ravel() for w in net.get_weights()], dtype="float64")
    return before - after


def config(one, other):
    """Liu, Chu & Thuerey (2024), equations 4 and 5, for two gradients."""

    def unit(vector):
        return vector / np.linalg.norm(vector)

    def without(vector, other):
        return vector - vector @ other / (other @ other) * other

    direction = unit(unit(without(one, other)) + unit(without(other, one)))
    return (one @ direction + other @ direction) * direction


@pytest.mark.parametrize("form", [one_layer, two_layers])
def test_config_at_the_parameters(form):
    net = small_network()
    expected = config(*by_branch(net))
    balancer = lw.ConFIG(level="parameters")
    got = moved(net, balancer=balancer)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)


def test_weighed():
    net = small_network()
    one, other = by_branch(net)
    got = moved(net, weighter=[0.25, 3.0])
    np.testing.assert_allclose(got, 0.25 * one + 3.0 * other, rtol=1e-4, atol=1e-6)


def mean_square(residual):
    return ops.mean(ops.square(residual), axis=-1)


def test_a_residual_needs_no_target():
    results = []
    for loss in ("mse", lw.TargetFreeLoss(mean_square)):
        keras.utils.set_random_seed(4)
        training = lw.build_training_model(
            one_layer(small_network()), {"residual": loss, "initial_value": "mse"}
        )
        training.compile("sgd")
        target_free = isinstance(loss, lw.TargetFreeLoss)
        y = {name: Y[name] for name in Y if not (target_free and name == "residual")}
        results.append(training.fit(X, y, epochs=2, **FIT).history["residual_loss"])
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_inspected():
    net = small_network()
    one, other = by_branch(net)
    seen = training_model(net, weighter=[1.0, 1.0]).inspect(X, Y, batch_size=24)
    norms = [np.linalg.norm(one), np.linalg.norm(other)]
    np.testing.assert_allclose(seen.gradient_norms[0], norms, rtol=1e-4)
    np.testing.assert_allclose(
        seen.cosines[0, 0, 1], one @ other / norms[0] / norms[1], rtol=1e-3, atol=1e-4
    )


# Every way to run ------------------------------------------------------------


# Torch's compiler takes long, and warns users of torch.
LONG = [pytest.mark.filterwarnings("ignore"), pytest.mark.long]
JIT = pytest.param(
    {"jit_compile": True}, marks=LONG if keras.backend.backend() == "torch" else []
)


@functools.cache
def trained(balanced, **way):
    """Logs, losses and predictions after two epochs, and the weights."""
    keras.utils.set_random_seed(2)
    net = small_network()
    if balanced:
        methods = {"balancer": lw.ConFIG(level="parameters")}
    else:
        methods = {"weighter": [0.5, 2.0]}
    sgd = keras.optimizers.SGD(0.05)
    training = training_model(net, optimizer=sgd, **methods, **way)
    history = training.fit(X, Y, epochs=2, **FIT).history
    evaluated = training.evaluate(X, Y, batch_size=12, verbose=0)
    predicted = training.predict(X, batch_size=12, verbose=0)
    return [*history.values(), evaluated, *predicted.values(), *net.get_weights()]


@pytest.mark.compiled
@pytest.mark.parametrize("balanced", [False, True], ids=["plain", "ConFIG"])
@pytest.mark.parametrize("way", [{}, JIT])
def test_compiled_as_eager(balanced, way):
    expected = trained(balanced, run_eagerly=True)
    for got, of_eager in zip(trained(balanced, **way), expected, strict=True):
        np.testing.assert_allclose(got, of_eager, rtol=1e-4, atol=1e-5)


def test_sets_of_points_train_as_rows():
    """`(1, n, 2)`: all points as one row of the batch."""
    results = []
    for front in ((), (1,)):
        keras.utils.set_random_seed(3)
        net = small_network()
        training = lw.build_training_model(
            one_layer(net, *front), {"residual": "mse", "initial_value": "mse"}
        )
        training.compile("sgd")
        x, y = (
            {name: array.reshape(*front, 24, -1) for name, array in each.items()}
            for each in (X, Y)
        )
        training.fit(x, y, batch_size=24, epochs=2, verbose=0)
        results.append(net.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_warned_of_and_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        net = network(widths=(6, 6), outputs=1, dtype=None)
        with pytest.warns(DerivativeWarning, match=r"compute in half precision"):
            training = training_model(net)
    finally:
        keras.config.set_dtype_policy("float32")
    history = training.fit(X, Y, epochs=8, **FIT).history
    assert np.isfinite(history["residual_loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    at = in_numpy(derivatives_quietly(net)(X["interior"], NAMES))
    assert {name: value.dtype for name, value in at.items()} == dict.fromkeys(
        NAMES, "float32"
    )


def derivatives_quietly(net):
    layer = derivatives(net)
    with pytest.warns(DerivativeWarning):
        layer(X["interior"], ["u_x"])
    return layer
