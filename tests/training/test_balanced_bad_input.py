"""Gradients that a balancer can do nothing with: no numbers, zeros, all the same."""

import keras
import numpy as np
import pytest
from balanced_nets import LEVELS, data, plain, state_of, step, weights_of
from keras import layers, ops

import lossweigh as lw

NEITHER = {"Balancer", "DualCone"}  # the base, and what balances two branches only
METHODS = [name for name in lw.balancing.__all__ if name not in NEITHER]
# One of each kind at the other levels: all angles, norms, absolute values.
ELSEWHERE = [("UPGrad", level) for level in LEVELS if level != "representation"] + [
    ("NormBalancer", "calibrated"),
    ("LearningRateAnnealing", "calibrated"),
]
FACTORS = {1e6: np.nan, 2e6: np.inf, 3e6: 0.0}


@keras.saving.register_keras_serializable(package="tests")
def spoilt(y_true, y_pred):
    """A squared error whose gradient is what `FACTORS` says of some targets."""
    factor = ops.ones_like(y_true)
    for target, value in FACTORS.items():
        factor = ops.where(ops.abs(y_true - target) < 1e5, value, factor)
    return ops.mean(ops.square(y_pred - y_true) * factor, axis=-1)


@pytest.mark.parametrize("level", LEVELS)
def test_a_branch_without_labels_moves_nothing(level):
    """Its weight and its state stay, and the others are balanced without it."""
    model = plain()
    x, y = data(model)
    losses = {name: lw.BranchLoss("mse", missing="nan") for name in y}
    balancer = lw.GradNorm(**LEVELS[level])
    training = lw.build_training_model(model, losses, lw.FixedWeights(), balancer)
    training.compile(keras.optimizers.SGD(0.01))
    training.train_on_batch(x, y)
    place = list(y).index("b")
    weights = weights_of(training)
    state = state_of(training)
    for _ in range(4):
        training.train_on_batch(x, {**y, "b": np.full_like(y["b"], np.nan)})
    after = weights_of(training)
    assert after[place] == weights[place]
    if level != "parameters / 3":  # whose weights may all be kept, too
        assert (np.delete(after, place) != np.delete(weights, place)).all()
    for name in balancer.initial_state(3):
        assert state_of(training)[name][place] == state[name][place]
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize(
    ("name", "level"), [*((name, "representation") for name in METHODS), *ELSEWHERE]
)
def test_a_gradient_that_is_not_finite_or_zero(name, level):
    """It stays out of the trunk, which the others go on to train."""
    model = plain()
    x, y = data(model)
    losses = {**dict.fromkeys(y, "mse"), "b": lw.BranchLoss(spoilt)}
    balancer = getattr(lw, name)(**LEVELS[level])
    training = lw.build_training_model(model, losses, lw.FixedWeights(), balancer)
    training.compile(keras.optimizers.SGD(0.01))
    training.train_on_batch(x, y)
    start = model.get_weights()
    steps = 2 if level == "representation" else 4  # an exact pass among them
    for target, value in FACTORS.items():
        model.set_weights(start)
        bad = {**y, "b": y["b"].copy()}
        bad["b"][slice(None) if value == 0 else (0, 0)] = target
        for _ in range(steps):
            training.train_on_batch(x, bad)
        moved = [
            np.abs(now - then).max()
            for now, then in zip(model.get_weights(), start, strict=True)
        ]
        assert np.isfinite(moved[:4]).all(), value  # two layers, each with a bias
        assert min(moved[:4]) > 0, value
        assert np.isfinite(weights_of(training)).all()
        assert all(np.isfinite(kept).all() for kept in state_of(training).values())


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("level", LEVELS)
def test_identical_branches(level):
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(4)(x)
    one = layers.Dense(2, name="z")
    model = keras.Model(
        x, {"z": one(hidden), "b": layers.Identity(name="b")(one(hidden))}
    )
    rows, y = data(model)
    y["b"] = y["z"]
    methods = (lw.UPGrad, lw.MGDA, lw.IMTLG, lw.NashMTL, lw.CAGrad)
    for method in methods if level == "representation" else methods[:2]:
        lost, training = step(model, rows, y, method(**LEVELS[level]))
        assert all(np.isfinite(part).all() for part in lost)
        weights = weights_of(training)
        assert weights[0] == pytest.approx(weights[1], rel=1e-3), method


# Keras says so of an output without a loss.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    ("name", "level"),
    [
        *((name, "representation") for name in ("UPGrad", "GradDrop", "GradNorm")),
        *ELSEWHERE,
    ],
)
def test_one_branch(name, level):
    """Its gradient keeps its direction."""
    model = plain()
    x, y = data(model)
    y = {"z": y["z"]}
    expected, _ = step(model, x, y)
    lost, training = step(model, x, y, getattr(lw, name)(**LEVELS[level]))
    (weight,) = weights_of(training)
    assert np.isfinite(weight)
    assert weight > 0
    for trunk, plainly in zip(lost[:4], expected[:4], strict=True):
        np.testing.assert_allclose(trunk, weight * plainly, rtol=1e-4, atol=2e-5)


@pytest.mark.compiled
@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_an_input_of_another_shape_is_named(level):
    """As without a balancer, and not the inner layer that fails first."""
    model = plain()
    x, y = data(model)
    losses = dict.fromkeys(y, "mse")
    training = lw.build_training_model(model, losses, balancer=lw.ConFIG(level=level))
    training.compile("sgd")
    words = rf"(?s)'{model.inputs[0].name}'.*expected shape=.*found shape="
    with pytest.raises(ValueError, match=words):
        training.fit(x[:, 1:], y, verbose=0)
    training.fit(x, y, verbose=0)
