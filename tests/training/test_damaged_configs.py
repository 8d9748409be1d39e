"""A damaged config is refused in words that say which part is wrong."""

import copy
import json

import keras
import pytest
from nets import LOSSES, two_heads

import lossweigh as lw


@pytest.fixture(scope="module")
def whole():
    training = lw.build_training_model(
        two_heads(), LOSSES, lw.DWA(), balancer=lw.UPGrad()
    )
    return json.loads(training.to_json())


def settings(model, kind):
    """The config of the first layer of this class."""
    layers = model["config"]["layers"]
    return next(layer["config"] for layer in layers if layer["class_name"] == kind)


def renamed_branch(model):
    settings(model, "BranchLoss")["branch"] = "omega"


def renamed_loss(model):
    text = json.dumps(model).replace('"zeta_loss"', '"omega_loss"')
    model.update(json.loads(text))


def renamed_target(model):
    settings(model, "BranchLoss")["target"] = "omega"


def without_total(model):
    del model["config"]["output_layers"]["weighted_loss"]


def list_of_outputs(model):
    outputs = model["config"]["output_layers"]
    model["config"]["output_layers"] = [*outputs.values()]


def without_balancer(model):
    settings(model, "BalancedModel")["balancer"] = None


def with_a_number_as_balancer(model):
    settings(model, "BalancedModel")["balancer"] = 3


def other_branches_weighed(model):
    settings(model, "DWA")["branches"] = ["a", "b"]


def other_branches_balanced(model):
    settings(model, "BalancedModel")["branches"] = ["y", "b"]


def word_as_shape(model):
    settings(model, "BranchLoss")["target_shape"] = "x"


def broken_shape(model):
    settings(model, "BranchLoss")["target_shape"] = [3, -1]


def word_as_temperature(model):
    settings(model, "DWA")["temperature"] = "hot"


def unknown_loss(model):
    settings(model, "BranchLoss")["loss"] = "nosuch"


def word_as_layers(model):
    model["config"]["layers"] = "x"


def words_as_layers(model):
    model["config"]["layers"] = ["x", "y"]


def without_weighter(model):
    layers = model["config"]["layers"]
    model["config"]["layers"] = [one for one in layers if one["class_name"] != "DWA"]


REFUSED = {
    renamed_branch: r"losses must be those that its weighter weighs, "
    r"\['zeta', 'alpha'\]\. Received losses of the branches \['omega', 'zeta'\]",
    renamed_loss: r"must have the output 'zeta_loss' for its branch 'zeta'\. Received: "
    r"outputs \['zeta', 'alpha', 'omega_loss', 'alpha_loss', 'weighted_loss'\]",
    renamed_target: r"must have the input 'omega_target' for the target of its branch "
    r"'alpha'\. Received: inputs \['x', 'zeta_target'",
    without_total: r"must have an output 'weighted_loss', its loss\. Received: outputs "
    r"\['zeta', 'alpha', 'zeta_loss', 'alpha_loss'\]",
    list_of_outputs: r"must have an output 'weighted_loss', its loss\. Received: "
    r"outputs \['keras_tensor",
    without_balancer: r"BalancedModel: `balancer` of a BalancedModel must be a "
    r"lossweigh balancer\. Received: balancer=None\.",
    with_a_number_as_balancer: r"must be a lossweigh balancer\. Received: balancer=3\.",
    other_branches_weighed: r"its weighter weighs, \['a', 'b'\]\. Received losses of "
    r"the branches \['alpha', 'zeta'\]",
    other_branches_balanced: r"balancer must balance the branches that its weighter "
    r"weighs, \['zeta', 'alpha'\]\. Received a BalancedModel of the branches "
    r"\['y', 'b'\]",
    word_as_shape: r"BranchLoss: `target_shape` must be the shape of a sample's "
    r"target, a tuple of whole numbers .* Received: target_shape='x'\.",
    broken_shape: r"`target_shape` must be .* Received: target_shape=\[3, -1\]\.",
    word_as_temperature: r"TypeError: DWA: `temperature` must be a number\. Received: "
    r"temperature='hot'",
    unknown_loss: r"`loss` must be the name of a Keras loss.*Received: loss='nosuch'",
    word_as_layers: r"must have `layers`, a list of dicts\. Received: layers=x\.",
    words_as_layers: r"must have `layers`, a list of dicts\. Received: "
    r"layers=\['x', 'y'\]\.",
    without_weighter: r"Unknown layer: dwa\w* It has the layers \['x', .*'loss_tap'\]",
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_the_part_that_is_wrong_is_named(whole, damage):
    model = copy.deepcopy(whole)
    keras.models.model_from_json(json.dumps(model))
    damage(model)
    with pytest.raises(ValueError, match=REFUSED[damage]) as caught:
        keras.models.model_from_json(json.dumps(model))
    assert len(str(caught.value)) < 800  # not the whole config


def test_what_is_no_dict_is_refused():
    with pytest.raises(ValueError, match=r"`layers`, a list of dicts\. Received: x\."):
        lw.TrainingModel.from_config("x")


@pytest.mark.parametrize("shape", ["x", 3, (1.5,), (-1,), [True]])
def test_a_shape_is_sizes(shape):
    with pytest.raises(TypeError, match=r"`target_shape` must be the shape"):
        lw.BranchLoss("mse", target_shape=shape)
