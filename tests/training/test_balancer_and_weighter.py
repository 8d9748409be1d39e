"""A balancer sees the gradients of the weighted losses, whatever weights them."""

import keras
import numpy as np
import pytest
from balanced_nets import Alone, data, plain, weights_of
from keras import ops

import lossweigh as lw

WEIGHTERS = [name for name in lw.weighting.__all__ if name != "Weighter"]
ARGUMENTS = {  # to move within a few steps, be repeatable, and leave no branch out
    "FixedWeights": {"weights": [3.0, 0.5, 1.0]},
    "RandomWeights": {"seed": 5},
    "ReLoBRaLo": {"seed": 5, "keep_probability": 0.5},
    "SmoothTchebycheff": {"smoothing": 5.0},
    "SoftAdapt": {"window": 3},
}
STEPS, RATE = 3, 0.02


@pytest.fixture(scope="module")
def alone():
    keras.utils.set_random_seed(0)
    model = plain()
    return Alone(model, *data(model)), model.get_weights()


@pytest.mark.parametrize("name", WEIGHTERS)
def test_the_weighted_gradients_are_balanced(alone, name):
    """The heads as without a balancer, `sum_k a_k w_k g_k` for what is shared."""
    alone, start = alone
    model, (x, y) = alone.model, alone.batch
    model.set_weights(start)
    balancer = lw.MGDA(level="parameters")
    training = lw.build_training_model(
        model,
        dict.fromkeys(y, "mse"),
        getattr(lw, name)(**ARGUMENTS.get(name, {})),
        balancer,
    )
    training.compile(keras.optimizers.SGD(RATE))
    uneven = []
    for _ in range(STEPS):
        shared, own = alone.gradients()
        before = model.get_weights()
        training.train_on_batch(x, y)
        moved, heads = alone.lost_since(before)
        weights = [h @ g / (RATE * g @ g) for h, g in zip(heads, own, strict=True)]
        for head, weight, gradient in zip(heads, weights, own, strict=True):
            np.testing.assert_allclose(head, RATE * weight * gradient, atol=2e-6)
        weighted = np.array(weights)[:, None] * shared
        gramian = ops.convert_to_tensor(weighted @ weighted.T, "float32")
        balance = ops.convert_to_numpy(balancer.solve(gramian))
        uneven.append(np.abs(balance * len(y) - 1).max())
        np.testing.assert_allclose(weights_of(training), balance, rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(moved, RATE * balance @ weighted, atol=2e-6)
    assert max(uneven) > 0.1  # or there was nothing to balance


@pytest.mark.compiled
def test_imtl_is_two_halves(alone):
    """IMTL-L with IMTL-G: losses of one size, then projections of one length."""
    alone, start = alone
    model, (x, y) = alone.model, alone.batch
    model.set_weights(start)
    weighter = lw.IMTLL(learning_rate=0.1)
    balancer = lw.IMTLG(level="parameters")
    training = lw.build_training_model(
        model, dict.fromkeys(y, "mse"), weighter, balancer
    )
    training.compile(keras.optimizers.SGD(1e-6))  # the losses stay as they are
    for _ in range(150):
        logs = training.train_on_batch(x, y, return_dict=True)
        training.reset_metrics()
    losses = np.array([float(logs[f"{name}_loss"]) for name in y])
    weights = ops.convert_to_numpy(weighter.loss_weights)
    assert losses.max() > 2 * losses.min()
    np.testing.assert_allclose(weights * losses, 1.0, rtol=2e-2)

    shared, _ = alone.gradients()
    weighted = weights[:, None] * shared
    combined = weights_of(training) @ weighted
    units = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    projections = units @ combined
    np.testing.assert_allclose(projections, projections.mean(), rtol=2e-2)


def test_equal_weights_beside_a_balancer():
    """Without a weighter of the user's, nothing else weights the losses."""
    model = plain()
    losses = dict.fromkeys(data(model)[1], "mse")
    training = lw.build_training_model(model, losses, balancer=lw.MGDA())
    assert type(training.weighter) is lw.FixedWeights
