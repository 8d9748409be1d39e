"""What `build_training_model` makes, and what it refuses in which words."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import LOSSES, arrays, two_heads
from refusals import pattern

import lossweigh as lw

X, Y = arrays()
SPARSE = LOSSES["alpha"]


def scalar(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def named(output, input_name="x"):
    x = keras.Input((4,), name=input_name)
    first = layers.Dense(3, name="first")(x)
    return keras.Model(x, {"zeta": first, output: layers.Dense(2)(first)})


def named_once(**kwargs):
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(3, name="zeta")(x), **kwargs)


def slashed():
    x = keras.Input((4,), name="x")
    return keras.Model(x, {"a/b": layers.Dense(3)(x), "a_b": layers.Dense(3)(x)})


class NeedsArguments(keras.losses.Loss):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale


class Unsavable:
    def __call__(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


def nested():
    x = keras.Input((4,), name="x")
    return keras.Model(x, {"zeta": [layers.Dense(3)(x), layers.Dense(3)(x)]})


def training_model():
    return lw.build_training_model(two_heads(), LOSSES)


def weighter_of_others():
    weighter = lw.FixedWeights([1, 2])
    lw.build_training_model(named("other"), {"zeta": "mse", "other": "mse"}, weighter)
    return weighter


def loss_of_another():
    loss = lw.BranchLoss("mse")
    lw.build_training_model(two_heads(), {"zeta": loss})
    return loss


# name: arguments, error, words of the message with ` ... ` where some are left out
REFUSED = {
    "no model": (
        lambda: ("model", LOSSES),
        TypeError,
        "`pred_model` must be a keras.Model ... pred_model='model' (of type str)",
    ),
    "a training model": (
        lambda: (training_model(), LOSSES),
        TypeError,
        "`pred_model` must be the model that predicts ... `prediction_model`",
    ),
    "not built": (
        lambda: (keras.Sequential([layers.Dense(3, name="d")], name="net"), "mse"),
        ValueError,
        "`pred_model` must have known inputs and outputs ... 'net' (a "
        "Sequential) ... isn't built ... `model(x[:1])`",
    ),
    "nested outputs": (
        lambda: (nested(), {"zeta": "mse"}),
        ValueError,
        "`pred_model` must return a tensor, a list or tuple of tensors, or a dict of "
        "tensors or of such dicts ... a list for the output 'zeta'",
    ),
    "unknown name": (
        lambda: (two_heads(), {"zeta": "mse", "box": "mse"}),
        ValueError,
        "`losses` may only have the names ['zeta', 'alpha'] ... (unknown: ['box']). "
        "For a further branch say which outputs it looks at",
    ),
    "too few": (
        lambda: (two_heads(list), ["mse"]),
        ValueError,
        "`losses` must hold one loss for each of the 2 outputs ['zeta', "
        "'alpha'] ... Received 1: losses=['mse']",
    ),
    "too many": (
        lambda: (two_heads(list), ("mse", SPARSE, "mse")),
        ValueError,
        "`losses` must hold one loss for each of the 2 outputs ... Received 3",
    ),
    "a layer for two outputs": (
        lambda: (two_heads(), lw.BranchLoss("mse")),
        TypeError,
        "`losses` must be a dict by output name or a list ... losses=<BranchLoss",
    ),
    "two losses of one output": (
        lambda: (named_once(), ["mse", "mae"]),
        ValueError,
        "`losses` must hold one loss for each of the 1 outputs ['zeta'] ... "
        "{'zeta': ..., 'second': BranchLoss(..., of='zeta')}",
    ),
    "a model that is named as a target's input": (
        lambda: (named_once(name="zeta_target"), "mse"),
        ValueError,
        "`pred_model` must not be named 'zeta_target'",
    ),
    "names that differ in a slash": (
        lambda: (slashed(), "mse"),
        ValueError,
        "`losses` must have names that differ in more than `/` and `_`",
    ),
    "none at all": (
        lambda: (two_heads(), {"zeta": None}),
        ValueError,
        "`losses` must hold a loss for at least one of the outputs",
    ),
    "a lambda": (
        lambda: (two_heads(), {"zeta": lambda y_true, y_pred: y_pred}),
        ValueError,
        "In `losses['zeta']`: `loss` must not be a Python lambda ... "
        "@keras.saving.register_keras_serializable()",
    ),
    "an unknown loss": (
        lambda: (two_heads(), {"zeta": "nonsense"}),
        ValueError,
        "In `losses['zeta']`: `loss` must be the name of a Keras loss ... 'nonsense'",
    ),
    "a loss of another type": (
        lambda: (two_heads(), {"zeta": 3}),
        TypeError,
        "In `losses['zeta']`: `loss` must be a Keras loss name ... loss=3",
    ),
    "a class that needs arguments": (
        lambda: (two_heads(), {"zeta": NeedsArguments}),
        TypeError,
        "In `losses['zeta']`: `loss` must be a loss, not the class of one that needs "
        "arguments: write `NeedsArguments(...)`",
    ),
    "a partial of positions": (
        lambda: (two_heads(), {"zeta": functools.partial(scalar, 1.0)}),
        TypeError,
        "In `losses['zeta']`: `loss` must be a partial of a named function with "
        "keyword arguments alone",
    ),
    "an object that can't be saved": (
        lambda: (two_heads(), {"zeta": Unsavable()}),
        TypeError,
        "In `losses['zeta']` ... saved by its `get_config` and `from_config`",
    ),
    "a scalar loss": (
        lambda: (two_heads(), {"zeta": scalar}),
        ValueError,
        "The loss 'scalar' of the branch 'zeta' returned a scalar ... Expected "
        "one a ... `ops.mean(..., axis=-1)`",
    ),
    "another branch's loss": (
        lambda: (two_heads(), {"alpha": loss_of_another()}),
        ValueError,
        "`losses['alpha']` is the BranchLoss of the branch 'zeta' already ... "
        "Give each branch a BranchLoss of its own",
    ),
    "no weighter": (
        lambda: (two_heads(), LOSSES, 3.0),
        TypeError,
        "`weighter` must be a lossweigh weighter ... weighter=3.0",
    ),
    "a weighter's name": (
        lambda: (two_heads(), LOSSES, "revised_uncertainty"),
        TypeError,
        "weighter='revised_uncertainty'. Did you mean `RevisedUncertainty()`?",
    ),
    "a weighter's class": (
        lambda: (two_heads(), LOSSES, lw.Uncertainty),
        TypeError,
        "`weighter` must be a lossweigh weighter ... Did you mean `Uncertainty()`?",
    ),
    "a balancer's class": (
        lambda: (two_heads(), LOSSES, None, lw.UPGrad),
        TypeError,
        "`balancer` must be a lossweigh balancer ... Did you mean `UPGrad()`?",
    ),
    "another model's weighter": (
        lambda: (two_heads(), LOSSES, weighter_of_others()),
        ValueError,
        "already weighs the branches ['zeta', 'other'] ... ['zeta', 'alpha'] "
        "... Make a new FixedWeights",
    ),
    "unknown name of a weight": (
        lambda: (two_heads(), LOSSES, lw.FixedWeights({"zeta": 1, "box": 2})),
        ValueError,
        "`weights` must have the names ['zeta', 'alpha'] ... unknown: ['box']; "
        "missing: ['alpha']",
    ),
    "too few weights": (
        lambda: (two_heads(), LOSSES, lw.FixedWeights([1])),
        ValueError,
        "`weights` must hold one number for each of the 2 branches ... Received 1",
    ),
    "the name of a target": (
        lambda: (named("other", "zeta_target"), {"zeta": "mse"}),
        ValueError,
        "`pred_model` must not have an input named 'zeta_target' ... "
        "['zeta_target'] ... ['zeta'] ... Rename the layer",
    ),
    "the name of a sample weight": (
        lambda: (named("other", "zeta_sample_weight"), {"zeta": "mse"}),
        ValueError,
        "`pred_model` must not have an input named 'zeta_sample_weight'",
    ),
    "the name of a branch's loss": (
        lambda: (named("zeta_loss"), {"zeta": "mse"}),
        ValueError,
        "`pred_model` must not have an output named 'zeta_loss' ... Rename the layer",
    ),
    "the name of the total": (
        lambda: (named("weighted_loss"), {"zeta": "mse"}),
        ValueError,
        "`pred_model` must not have an output named 'weighted_loss'",
    ),
    # Their losses would be called as the total and the sum are.
    "a branch called weighted": (
        lambda: (named("weighted"), {"zeta": "mse", "weighted": "mse"}),
        ValueError,
        "`pred_model` must not have an output named 'weighted'",
    ),
    "a branch called unweighted": (
        lambda: (named("unweighted"), {"zeta": "mse", "unweighted": "mse"}),
        ValueError,
        "`pred_model` must not have an output named 'unweighted'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    arguments, error, words = REFUSED[case]
    arguments = arguments()
    with pytest.raises(error, match=pattern(words)):
        lw.build_training_model(*arguments)


def test_a_failed_build_leaves_its_arguments_usable():
    model, weighter, loss = two_heads(), lw.FixedWeights(), lw.BranchLoss("mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match="returned a scalar"):
        lw.build_training_model(model, {"zeta": scalar, "alpha": SPARSE}, weighter)
    with pytest.raises(ValueError, match="a BranchLoss of its own"):
        lw.build_training_model(model, {"alpha": loss, "zeta": loss}, weighter)
    training = lw.build_training_model(model, {"zeta": loss}, weighter)
    training.compile("sgd")
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(training.test_on_batch(X, {"zeta": Y["zeta"]})[0])


@pytest.mark.smoke
@pytest.mark.parametrize("form", [list, tuple, dict])
def test_numbers_are_fixed_weights(form):
    weights = form({"zeta": 2.0, "alpha": 0.5} if form is dict else [2.0, 0.5])
    training = lw.build_training_model(two_heads(), LOSSES, weights)
    assert type(training.weighter) is lw.FixedWeights
    np.testing.assert_array_equal(
        ops.convert_to_numpy(training.weighter.loss_weights), [2.0, 0.5]
    )


@pytest.mark.smoke
def test_what_is_built():
    model = two_heads()
    training = lw.build_training_model(model, LOSSES)
    assert isinstance(training, lw.TrainingModel)
    assert training.name == f"{model.name}_training"
    assert isinstance(training.weighter, lw.FixedWeights)  # the default
    assert training.loss_weights == {"zeta": 1.0, "alpha": 1.0}
    assert training.weighter.branches == training.branches == ["zeta", "alpha"]
    assert {name: loss.branch for name, loss in training.branch_losses.items()} == {
        "zeta": "zeta",
        "alpha": "alpha",
    }
    assert set(training.input) == {
        "x",
        *("zeta_target", "alpha_target"),
        *("zeta_sample_weight", "alpha_sample_weight"),
    }
    targets = {name: training.input[f"{name}_target"] for name in LOSSES}
    assert (targets["zeta"].shape, targets["zeta"].dtype) == ((None, 3), "float32")
    assert (targets["alpha"].shape, targets["alpha"].dtype) == ((None,), "int32")
    training = lw.build_training_model(model, LOSSES, lw.LossWeighter())
    weighted = {id(variable) for variable in training.weighter.variables}
    assert training.weighter.trainable_variables
    assert not weighted & {id(variable) for variable in model.variables}
    trained = [id(variable) for variable in training.trainable_variables]
    assert sorted(trained) == sorted(
        id(v) for part in (model, training.weighter) for v in part.trainable_variables
    )
    assert lw.build_training_model(model, LOSSES, name="mine").name == "mine"


def test_numbers_as_weights_where_an_input_is_called_weighter():
    x = keras.Input((4,), name="weighter")
    outputs = {name: keras.layers.Dense(1, name=name)(x) for name in "ab"}
    model = keras.Model(x, outputs)
    training = lw.build_training_model(model, {"a": "mse", "b": "mae"}, [1.0, 2.0])
    assert training.loss_weights == {"a": 1.0, "b": 2.0}


def test_a_balancer_in_place_of_a_weighter():
    model = two_heads()
    with pytest.raises(TypeError, match="This is a balancer: give it as `balancer=`"):
        lw.build_training_model(model, LOSSES, lw.UPGrad())
    with pytest.raises(TypeError, match="This is a weighter: give it as `weighter=`"):
        lw.build_training_model(model, LOSSES, balancer=lw.Uncertainty())
