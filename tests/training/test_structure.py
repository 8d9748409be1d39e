"""Models of every structure train as Keras would train them, and stay as they are."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import arrays
from structures import (
    Subclassed,
    backbone,
    built,
    frozen,
    functional,
    one_layer_twice,
    one_output,
    sequential,
    two_inputs,
)

import lossweigh as lw

X, Y = arrays()
ZETA, ALPHA = Y["zeta"], Y["alpha"]
CLASSES = "sparse_categorical_crossentropy"
BOTH = ["zeta", "alpha"]
L2 = keras.regularizers.L2(0.1)
IMAGES = np.random.default_rng(3).random((2, 32, 32, 3), "float32")


# name: what makes the model, x, y, losses, the names of the branches
CASES = {
    "list": (lambda: functional(list), X, [ZETA, ALPHA], ["mse", CLASSES], BOTH),
    "tuple": (lambda: functional(tuple), X, (ZETA, ALPHA), ("mse", CLASSES), BOTH),
    "dict": (lambda: functional(dict), X, Y, {"alpha": CLASSES, "zeta": "mse"}, BOTH),
    "one output": (one_output, X, ZETA, "mse", ["zeta"]),
    "Sequential": (sequential, X, ZETA, "mse", ["zeta"]),
    "list of inputs": (
        lambda: two_inputs(list),
        [X, X[::-1]],
        [ZETA, ALPHA],
        ["mse", CLASSES],
        BOTH,
    ),
    "dict of inputs": (
        lambda: two_inputs(dict),
        {"left": X, "right": X[::-1]},
        [ZETA, ALPHA],
        ["mse", CLASSES],
        BOTH,
    ),
    "one layer twice": (
        one_layer_twice,
        X,
        [ZETA, ZETA + 1],
        ["mse", "mae"],
        ["shared_0", "shared_1"],
    ),
    "an output without a loss": (
        lambda: functional(dict),
        X,
        {"alpha": ALPHA},
        {"alpha": CLASSES},
        ["alpha"],
    ),
    "subclassed, list": (
        lambda: built(Subclassed(list), X),
        X,
        [ZETA, ALPHA],
        ["mse", CLASSES],
        ["output_0", "output_1"],
    ),
    "subclassed, dict": (
        lambda: built(Subclassed(dict), X),
        X,
        Y,
        {"zeta": "mse", "alpha": CLASSES},
        BOTH,
    ),
    "subclassed, dict of inputs": (
        lambda: built(Subclassed(dict), {"left": X, "right": X}),
        {"left": X, "right": X[::-1]},
        Y,
        {"zeta": "mse", "alpha": CLASSES},
        BOTH,
    ),
    "frozen layer": (frozen, X, [ZETA, ALPHA], ["mse", CLASSES], BOTH),
    "batch normalisation": (
        lambda: functional(list, layers.BatchNormalization()),
        X,
        [ZETA, ALPHA],
        ["mse", CLASSES],
        BOTH,
    ),
    "dropout": (
        lambda: functional(list, layers.Dropout(0.5)),
        X,
        [ZETA, ALPHA],
        ["mse", CLASSES],
        BOTH,
    ),
    "regularisers": (
        lambda: functional(
            list, layers.Dense(4, kernel_regularizer=L2, activity_regularizer=L2)
        ),
        X,
        [ZETA, ALPHA],
        ["mse", CLASSES],
        BOTH,
    ),
    "a backbone": (
        backbone,
        IMAGES,
        [ZETA[:2], ALPHA[:2]],
        ["mse", CLASSES],
        BOTH,
    ),
}


def state(model):
    """All variables: moving statistics and states of seeds are among them."""
    return [ops.convert_to_numpy(variable).copy() for variable in model.variables]


def three_steps(model, trained, x, y):
    keras.utils.set_random_seed(4)  # dropout on torch draws from the global seed
    steps = [model.train_on_batch(x, y, return_dict=True) for _ in range(3)]
    return [float(logs["loss"]) for logs in steps], state(trained)


# Keras says so of an output without a loss, and so do we.
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")
@pytest.mark.parametrize("case", CASES)
def test_trains_as_keras_does(case):
    make, x, y, losses, branches = CASES[case]
    model = make()
    initial = state(model)
    outputs = model.predict(x, verbose=0)

    model.compile(keras.optimizers.SGD(0.05), loss=losses)
    logs, expected = three_steps(model, model, x, y)
    for variable, value in zip(model.variables, initial, strict=True):
        variable.assign(value)

    training = lw.build_training_model(model, losses, lw.FixedWeights())
    assert set(training.branches) == set(branches)
    assert training.prediction_model is model
    training.compile(keras.optimizers.SGD(0.05))
    ours, result = three_steps(training, model, x, y)
    assert ours == pytest.approx(logs, rel=1e-4, abs=1e-5)
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert any((one != other).any() for one, other in zip(result, initial, strict=True))

    # The prediction model is as it was: what it was compiled with, what it predicts.
    assert int(model.optimizer.iterations) == 3
    for variable, value in zip(model.variables, initial, strict=True):
        variable.assign(value)
    after = training.predict(x, verbose=0)
    for one, other in zip(
        keras.tree.flatten(after), keras.tree.flatten(outputs), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_frozen_layer_keeps_its_weights():
    model = frozen()
    before = model.layers[1].get_weights(), model.layers[2].get_weights()
    training = lw.build_training_model(model, ["mse", CLASSES])
    assert not any(
        variable is kernel
        for variable in training.trainable_variables
        for kernel in model.layers[1].variables
    )
    training.compile("adam")
    training.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model.layers[1].get_weights()[0], before[0][0])
    assert abs(model.layers[2].get_weights()[0] - before[1][0]).max() > 1e-4


FORMS_OF_X = {
    "dict of inputs": [{"right": X, "left": X[::-1]}, {"left": X[::-1], "right": X}],
    "list of inputs": [[X, X[::-1]], (X, X[::-1]), {"left": X[::-1], "right": X}],
    "list": [X, [X], {"x": X}, X.tolist()],
}


@pytest.mark.parametrize("case", FORMS_OF_X)
def test_forms_of_x(case):
    training = lw.build_training_model(CASES[case][0](), ["mse", CLASSES])
    training.compile("sgd")
    losses = [
        training.test_on_batch(x, Y, return_dict=True)["loss"] for x in FORMS_OF_X[case]
    ]
    # As metrics add up over calls, equal batches give equal means.
    assert [float(loss) for loss in losses] == pytest.approx(
        [float(losses[0])] * len(losses)
    )


def test_lists_are_in_the_order_of_the_model():
    """Targets, weights and metrics alike, in whatever order the losses were named."""
    losses = {"alpha": CLASSES, "zeta": "mse"}
    weighter = lw.FixedWeights({"zeta": 5, "alpha": 3})
    training = lw.build_training_model(functional(dict), losses, weighter)
    training.compile("sgd", metrics=[["mae"], ["accuracy"]])
    prediction = training.predict(X, verbose=0)
    halves = np.repeat([0.0, 2.0], 5)
    expected = {
        "zeta_loss": (halves[:, None] * (prediction["zeta"] - ZETA) ** 2).mean(),
        "zeta_mae": abs(prediction["zeta"] - ZETA).mean(),
        "alpha_accuracy": (prediction["alpha"].argmax(-1) == ALPHA).mean(),
    }
    in_force = keras.ops.convert_to_numpy(training.weighter.loss_weights)
    in_force = dict(zip(training.branches, in_force, strict=True))
    assert in_force == {"zeta": 5, "alpha": 3}
    weights = [halves, np.ones(10)]
    for data in ((X, [ZETA, ALPHA]), ([X, ZETA, ALPHA], None)):
        training.reset_metrics()
        logs = training.test_on_batch(*data, weights, return_dict=True)
        got = {name: float(logs[name]) for name in expected}
        assert got == pytest.approx(expected, abs=1e-5)


def test_a_list_for_a_dict_of_unknown_order_is_refused():
    model = built(Subclassed(dict), X)
    training = lw.build_training_model(model, {"alpha": CLASSES, "zeta": "mse"})
    training.compile("sgd")
    with pytest.raises(ValueError, match=r"`y` must be a dict by name, .*order"):
        training.test_on_batch(X, [ZETA, ALPHA])
    with pytest.raises(ValueError, match="`sample_weight` must be a dict by name"):
        training.test_on_batch(X, Y, [ALPHA, ALPHA])
    with pytest.raises(ValueError, match="`metrics` must be a dict by output name"):
        training.compile("adam", metrics=[["mae"], ["accuracy"]])
