"""A training model with fixed weights is the model that Keras would train."""

import keras
import numpy as np
import pytest
from keras import ops
from nets import (
    FIXED,
    LOSSES,
    arrays,
    copy_of,
    fixed,
    sample_weights,
    two_heads,
    two_inputs,
)
from nets import sequences as sequence_model

import lossweigh as lw

pytestmark = pytest.mark.compiled

STEPS = 50


def step_weights():
    """A weight for each of 5 time steps, some of them 0."""
    rng = np.random.default_rng(3)
    return {name: rng.integers(0, 3, (10, 5)).astype("float32") for name in LOSSES}


# name: model, shape of the steps, sample weights
CASES = {
    "dict": (two_heads, (), None),
    "list": (lambda: two_heads(list), (), None),
    "weights": (two_heads, (), sample_weights()),
    "regularised, a list": (
        lambda: two_heads(list, regularised=True),
        (),
        sample_weights(),
    ),
    "masked": (sequence_model, (5,), None),
    "masked, weights a step": (sequence_model, (5,), step_weights()),
}


def as_native(model, values):
    """Values by branch as Keras takes them for the model's outputs."""
    if values is None or isinstance(model.output, dict):
        return values
    return [values["zeta"], values["alpha"]]


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_keras(case):
    make, steps, weights = CASES[case]
    model = make()
    x, y = arrays(steps=steps)
    native = copy_of(model)
    native.compile(
        keras.optimizers.SGD(0.1),
        loss=as_native(native, LOSSES),
        loss_weights=as_native(native, FIXED),
    )
    training = fixed(model)

    for step in range(STEPS):
        rows = (np.arange(4) + 3 * step) % len(x)
        some = None if weights is None else {n: w[rows] for n, w in weights.items()}
        targets = {n: t[rows] for n, t in y.items()}
        for each in (native, training):
            each.reset_metrics()
        expected = native.train_on_batch(
            x[rows],
            as_native(native, targets),
            sample_weight=as_native(native, some),
            return_dict=True,
        )
        logs = training.train_on_batch(
            x[rows], targets, sample_weight=some, return_dict=True
        )
        for key in ("loss", "zeta_loss", "alpha_loss"):
            assert float(logs[key]) == pytest.approx(float(expected[key]), abs=1e-5)
        for ours, theirs in zip(model.get_weights(), native.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("missing", [None, "nan"])
@pytest.mark.parametrize("balancer", [None, lw.MGDA], ids=["plain", "balanced"])
@pytest.mark.parametrize("net", [two_heads, two_inputs])
def test_a_direct_call_is_what_the_graph_computes(net, balancer, missing):
    """`call` goes past the graph where nothing is masked; both give the same.

    The graph is run by a model of Keras's own over the same inputs and outputs.
    """
    x, y = arrays()
    y["zeta"][1:3, 0] = 0.0 if missing is None else np.nan
    losses = {
        name: lw.BranchLoss(loss, missing=missing) for name, loss in LOSSES.items()
    }
    training = lw.build_training_model(
        net(), losses, lw.LossWeighter(), balancer and balancer()
    )
    inputs = {"x": x} if net is two_heads else {"right": x, "left": 2 * x[::-1]}
    inputs.update({f"{name}_target": values for name, values in y.items()})
    weights = sample_weights()
    inputs.update({f"{name}_sample_weight": w[:, None] for name, w in weights.items()})
    inputs = {name: ops.convert_to_tensor(values) for name, values in inputs.items()}
    direct = training(inputs)
    graph = keras.Model(training.input, training.output)(inputs)
    assert direct.keys() == graph.keys()
    for name, values in graph.items():
        np.testing.assert_allclose(
            ops.convert_to_numpy(direct[name]), ops.convert_to_numpy(values), rtol=1e-6
        )


def edited(training, where):
    """The training model's graph with its loss, or a branch's, doubled."""
    outputs = dict(training.output)
    if where == "total":
        outputs["weighted_loss"] = 2.0 * outputs["weighted_loss"]
    else:  # between the losses and the weighter
        weighter = lw.FixedWeights(
            branches=training.branches, inferred_task_types=["regression"] * 2
        )
        losses = [2.0 * outputs[f"{branch}_loss"] for branch in training.branches]
        outputs["weighted_loss"] = weighter(losses, valid=[None] * 2)
    return lw.TrainingModel(training.input, outputs)


@pytest.mark.parametrize("where", ["total", "losses"])
def test_an_edited_graph_is_what_is_trained(where):
    x, y = arrays()
    training = lw.build_training_model(two_heads(), LOSSES, lw.FixedWeights())
    twice = edited(training, where)
    found = []
    for each in (training, twice):
        each.compile("sgd")
        found.append(each.test_on_batch(x, y, return_dict=True)["loss"])
    assert found[1] == pytest.approx(2 * found[0], rel=1e-6)
