import keras
import numpy as np
import pytest
from gramians import drawn, parts, solve

import lossweigh as lw
from lossweigh.balancing.dual_cone import VARIANTS

# The gradients whose weights were worked out by hand.
JACOBIAN = np.array([[1.0, 0.0], [-2.0, 1.0]])
WEIGHTS = {
    "center": (1.6180, 0.7236),
    "average": (1.5, 0.7),
    "projection": (2.0, 1.0),
}
COMBINED = {
    "center": (0.1708, 0.7236),
    "average": (0.1, 0.7),
    "projection": (0.0, 1.0),
}


@keras.saving.register_keras_serializable(package="tests")
def the_output(y_pred):
    return y_pred


def naive(variant, r, b):
    """The paper's formula, on the gradients themselves."""
    whole, product = r + b, r @ b
    if not (r.any() and b.any()):
        return whole
    if variant == "center":
        axis = r / np.linalg.norm(r) + b / np.linalg.norm(b)
        length = axis @ axis
        return axis * (whole @ axis / length) if length > 1e-12 else 0.0 * whole
    of_r = r - product / (b @ b) * b
    of_b = b - product / (r @ r) * r
    if variant == "average":
        inside = min(whole @ r, whole @ b) >= 0
        return whole if inside else 0.5 * (of_r + of_b)
    return of_r if whole @ b < 0 else of_b if whole @ r < 0 else whole


@pytest.mark.smoke
@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers(variant):
    weights = solve("DualCone", JACOBIAN @ JACOBIAN.T, variant=variant)
    np.testing.assert_allclose(weights, WEIGHTS[variant], atol=1e-4)
    np.testing.assert_allclose(weights @ JACOBIAN, COMBINED[variant], atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_against_the_formula(variant):
    """And neither loss rises, whatever the scale."""
    changed = 0
    for jacobian in drawn(200, sizes=(2,)):
        weights = solve("DualCone", jacobian @ jacobian.T, variant=variant)
        combined = weights.astype(float) @ jacobian
        error = np.linalg.norm(combined - naive(variant, *jacobian))
        assert error <= 1e-3 * parts(jacobian, weights)
        bound = 4e-4 * np.linalg.norm(jacobian, axis=1) * parts(jacobian, weights)
        assert (jacobian @ combined >= -bound).all()
        changed += not np.allclose(weights, 1.0)
    assert changed > 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_another_order(variant):
    for jacobian in (JACOBIAN, np.array([[1.0, 1.0], [-0.4, 0.1]])):
        weights = solve("DualCone", jacobian @ jacobian.T, variant=variant)
        turned = jacobian[::-1]
        again = solve("DualCone", turned @ turned.T, variant=variant)
        np.testing.assert_allclose(again, weights[::-1], rtol=1e-5)


def test_the_center_is_config():
    for jacobian in drawn(50, sizes=(2,)):
        center = solve("DualCone", jacobian @ jacobian.T)
        config = solve("ConFIG", jacobian @ jacobian.T)
        error = np.linalg.norm((center - config) @ jacobian)
        assert error <= 1e-3 * parts(jacobian, center)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inside_of_the_cone(variant):
    """A gradient beside another of its length keeps its weight."""
    for gramian in ([[4.0, 1.0], [1.0, 4.0]], [[4.0, 4.0], [4.0, 4.0]]):
        np.testing.assert_allclose(solve("DualCone", gramian, variant=variant), 1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [2.0, 1e-4, 1e6])
def test_opposite_gradients_cancel_each_other(variant, length):
    jacobian = np.array([[2.0], [-length]])
    weights = solve("DualCone", jacobian @ jacobian.T, variant=variant)
    assert np.abs(weights @ jacobian) <= 1e-6 * parts(jacobian, weights)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_other_gradient_is_absent_or_zero(variant):
    gramian = np.array([[4.0, np.nan], [np.nan, np.nan]])
    weights = solve("DualCone", gramian, [True, False], variant=variant)
    np.testing.assert_array_equal(weights, (1, 0))
    weights = solve("DualCone", np.diag([4.0, 0.0]), variant=variant)
    np.testing.assert_array_equal(weights, (1, 0 if variant == "center" else 1))


def test_arguments():
    with pytest.raises(
        ValueError, match="`variant` must be one of 'center', 'average', 'projection'"
    ):
        lw.DualCone(variant="middle")
    balancer = lw.DualCone(variant="average")
    assert lw.DualCone.from_config(balancer.get_config()).variant == "average"


def test_another_number_of_branches():
    """Said when the model is built, too."""
    words = r"`DualCone` balances two branches.* Received 3\. Use `ConFIG`"
    with pytest.raises(ValueError, match=words):
        lw.DualCone().solve(np.eye(3, dtype="float32"))
    balancer = lw.DualCone()
    with pytest.raises(ValueError, match=words):
        balancer.set_branches(["a", "b", "c"])
    assert balancer.branches is None
    with pytest.raises(ValueError, match=r"two branches.* Received 1"):
        balancer.set_branches(["a"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_a_model(variant):
    """One weight vector, whose two losses have the gradients above."""
    inputs = [keras.Input((2,), name=name) for name in ("at_r", "at_b")]
    shared = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    pairs = zip("rb", inputs, strict=True)
    outputs = {n: keras.layers.Identity(name=n)(shared(x)) for n, x in pairs}
    model = keras.Model(inputs, outputs)
    balancer = lw.DualCone(variant=variant, level="parameters")
    losses = {name: lw.TargetFreeLoss(the_output) for name in "rb"}
    training = lw.build_training_model(model, losses, lw.FixedWeights(), balancer)
    training.compile(keras.optimizers.SGD(1.0))
    training.train_on_batch(list(JACOBIAN[:, None].astype("float32")))
    np.testing.assert_allclose(
        model.get_weights()[0][:, 0], -np.array(COMBINED[variant]), atol=1e-4
    )
    found = [training.balance[name] for name in "rb"]
    np.testing.assert_allclose(found, WEIGHTS[variant], atol=1e-4)


def test_a_model_of_three_branches():
    x = keras.Input((2,), name="x")
    hidden = keras.layers.Dense(2)(x)
    model = keras.Model(x, {n: keras.layers.Dense(1, name=n)(hidden) for n in "abc"})
    losses = dict.fromkeys("abc", "mse")
    with pytest.raises(ValueError, match="`DualCone` balances two branches"):
        lw.build_training_model(model, losses, balancer=lw.DualCone())
