"""What is true of every method, or of some, on drawn gradients of any scale."""

import keras
import numpy as np
import pytest
from gramians import (
    KINDS,
    METHODS,
    TWO_BRANCHES,
    array,
    compiled,
    drawn,
    make,
    parts,
    sizes_of,
    solve,
)
from keras import ops

from lossweigh import balancing

SCALES = [1e-10, 1e-5, 1.0, 1e5, 1e15]
ORDERED = {"PCGrad", "GradVac"}  # depend on the order of the branches
NEVER_CONFLICT = {"UPGrad", "DualCone", "DualProj", "MGDA", "NashMTL"}
# Weights for gradients that are s times as long, as a power of s.
POWERS = {
    "FairGrad": -4 / 3,
    "NashMTL": -1,
    "NormBalancer": -1,
}


def test_the_table_has_every_method_of_the_gramian():
    others = {"Balancer", "GradDrop"}
    assert set(METHODS) == set(balancing.__all__) - others


@pytest.mark.parametrize("name", METHODS)
def test_finite_at_any_scale(name):
    rng = np.random.default_rng(0)
    for num in sizes_of(name, (1, 2, 5, 32)):
        for kind in KINDS.values():
            jacobian = kind(rng, num)
            gramian = jacobian @ jacobian.T
            gramian /= gramian.max() or 1.0
            for scale in SCALES:
                weights = solve(name, gramian * scale**2)
                assert weights.shape == (num,)
                assert np.isfinite(weights).all(), (num, scale)


@pytest.mark.parametrize("floatx", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", METHODS)
def test_weights_are_float32_whatever_floatx_is(name, floatx):
    num = max(sizes_of(name, (2, 3)))
    gramian = np.array([[4.0, -3.0, 1.0], [-3.0, 9.0, 2.0], [1.0, 2.0, 5.0]], "float32")
    gramian, present = gramian[:num, :num], np.array([True, True, False])[:num]
    given = ops.convert_to_tensor(gramian), ops.convert_to_tensor(present)
    expected = make(name).solve(*given)
    keras.config.set_floatx(floatx)
    try:
        found = make(name).solve(*given)
    finally:
        keras.config.set_floatx("float32")
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(array(found), array(expected), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_degenerate_gradients(name):
    for num in sizes_of(name, (1, 2, 5)):
        signs = np.where(np.arange(num) % 2, 1.0, -1.0)
        lengths = 10.0 ** np.linspace(-10, 10, num)
        for gramian in (
            np.zeros((num, num)),
            np.ones((num, num)),
            np.outer(signs, signs),
            np.diag(np.arange(num) * 1.0),
            np.diag(lengths**2),
            np.outer(lengths, lengths),
            np.outer(signs * lengths, signs * lengths),
            np.ones((num, num)) + 1e-7 * np.eye(num),
        ):
            for scale in SCALES if gramian.max() <= num else [1e-10, 1.0]:
                assert np.isfinite(solve(name, gramian * scale**2)).all(), gramian


@pytest.mark.parametrize("name", METHODS)
def test_the_scale_of_all_gradients(name):
    """It changes no weights, or all by a power of it."""
    for jacobian in drawn(20, sizes=sizes_of(name, (2, 5)), log_scale=0):
        once = solve(name, jacobian @ jacobian.T)
        for scale in (1e-8, 1e8, 1e14):
            scaled = solve(name, jacobian @ jacobian.T * scale**2)
            scaled = scaled.astype(float) / scale ** POWERS.get(name, 0)
            error = np.linalg.norm((scaled - once) @ jacobian)
            assert error <= 1e-3 * parts(jacobian, once)


@pytest.mark.parametrize("name", sorted(set(METHODS) - ORDERED))
def test_permuting_branches_permutes_weights(name):
    order = np.array([1, 0] if name in TWO_BRANCHES else [3, 0, 4, 2, 1])
    before, after = {}, {}
    if name == "LearningRateAnnealing":
        before, after = {"reference": 2}, {"reference": 3}
    for jacobian in drawn(50, sizes=(len(order),)):
        permuted = jacobian[order]
        weights = solve(name, jacobian @ jacobian.T, **before)
        other = solve(name, permuted @ permuted.T, **after)
        error = np.linalg.norm(weights @ jacobian - other @ permuted)
        assert error < 2e-3 * parts(jacobian, weights) + 1e-30


@pytest.mark.parametrize("name", sorted(NEVER_CONFLICT))
def test_no_loss_rises(name):
    """`J d >= 0` up to 4e-4 of the lengths that go into it."""
    arguments = {"ridge": 1e-8} if name in ("UPGrad", "DualProj") else {}
    for jacobian in drawn(200, seed=1, sizes=sizes_of(name, (2, 5, 16))):
        weights = solve(name, jacobian @ jacobian.T, **arguments).astype(float)
        rises = jacobian @ (weights @ jacobian)
        lengths = np.linalg.norm(jacobian, axis=1)
        assert (rises >= -4e-4 * lengths * parts(jacobian, weights)).all()


@pytest.mark.parametrize("name", ["UPGrad", "DualProj"])
def test_no_loss_rises_with_the_default_ridge(name):
    for jacobian in drawn(100, seed=1, kinds=["plain", "conflicting", "deficient"]):
        weights = solve(name, jacobian @ jacobian.T).astype(float)
        rises = jacobian @ (weights @ jacobian)
        assert (rises >= -4e-4 * (jacobian**2).sum() * weights.max()).all()


def test_upgrad_is_linear_under_scaling():
    """Of the branches: the combined gradient of `diag(c) J` is linear in `c > 0`."""
    rng = np.random.default_rng(0)

    def combined(factors, jacobian):
        scaled = factors[:, None] * jacobian
        weights = solve("UPGrad", scaled @ scaled.T, ridge=0.0)
        return weights.astype(float) @ scaled

    for jacobian in drawn(40, sizes=(2, 5), kinds=["plain"], log_scale=2):
        num = len(jacobian)
        first, second = rng.uniform(0.1, 2, size=(2, num))
        a, b = rng.uniform(0.1, 2, size=2)
        whole = combined(a * first + b * second, jacobian)
        sum_of_both = a * combined(first, jacobian) + b * combined(second, jacobian)
        error = np.linalg.norm(whole - sum_of_both)
        assert error < 2e-3 * np.linalg.norm(jacobian)


@pytest.mark.parametrize("name", sorted(set(METHODS) - TWO_BRANCHES))
def test_the_absent_are_as_if_they_did_not_exist(name):
    rng = np.random.default_rng(0)
    for jacobian in drawn(60, sizes=(5,)):
        present = np.append(True, rng.permutation(4) < 1)
        gramian = jacobian @ jacobian.T
        kept = gramian[np.ix_(present, present)]
        gramian[~present] = np.nan
        gramian[:, ~present] = np.nan
        weights = solve(name, gramian, present)
        assert (weights[~present] == 0).all()
        expected = solve(name, kept)
        error = np.linalg.norm((weights[present] - expected) @ jacobian[present])
        assert error <= 2e-3 * parts(jacobian[present], expected)


@pytest.mark.parametrize("name", METHODS)
def test_none_present(name):
    num = max(sizes_of(name, (2, 5)))
    weights = solve(name, np.full((num, num), np.nan), [False] * num)
    np.testing.assert_array_equal(weights, 0)


@pytest.mark.parametrize("name", METHODS)
def test_compiled_equals_eager(name):
    for jacobian in drawn(5, sizes=(2,)):
        gramian = (jacobian @ jacobian.T).astype("float32")
        eager = array(make(name).solve(ops.convert_to_tensor(gramian)))
        weights = solve(name, gramian)
        error = np.linalg.norm((eager - weights) @ jacobian)
        assert error <= 1e-3 * parts(jacobian, weights)


@pytest.mark.parametrize("name", sorted(set(METHODS) - TWO_BRANCHES))
def test_one_branch_and_identical_branches(name):
    alone = solve(name, [[4.0]])
    expected = {
        "CAGrad": 1.5,
        "FairGrad": 2 ** (-4 / 3),
        "NashMTL": 0.5,
        "NormBalancer": 0.5,
    }
    np.testing.assert_allclose(alone, expected.get(name, 1), rtol=1e-4)
    same = solve(name, np.full((5, 5), 4.0))
    np.testing.assert_allclose(same, same[0], rtol=2e-2)


@pytest.mark.parametrize("name", METHODS)
def test_inside_a_branch_that_is_taken_or_not(name):
    """As a step does that finds weights anew only now and then."""
    balancer = make(name)

    def step(gramian, now):
        return ops.cond(
            now, lambda: balancer.solve(gramian), lambda: ops.zeros((2,), "float32")
        )

    gramian = np.array([[18.0, -22.0], [-22.0, 38.0]])
    step, tensor = compiled(step), ops.convert_to_tensor(gramian, "float32")
    taken = array(step(tensor, ops.convert_to_tensor(True)))
    np.testing.assert_allclose(taken, solve(name, gramian), rtol=1e-4)
    np.testing.assert_array_equal(array(step(tensor, ops.convert_to_tensor(False))), 0)


if keras.backend.backend() == "tensorflow":

    @pytest.mark.every_case
    @pytest.mark.parametrize("name", METHODS)
    def test_xla(name):
        import tensorflow as tf

        gramian = np.array([[18.0, -22.0], [-22.0, 38.0]])
        solver = tf.function(make(name).solve, jit_compile=True)
        found = array(solver(ops.convert_to_tensor(gramian, "float32")))
        np.testing.assert_allclose(found, solve(name, gramian), rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_config(name):
    balancer = make(name)
    again = type(balancer).from_config(balancer.get_config())
    assert again.get_config() == balancer.get_config()
    registered = keras.saving.get_registered_name(type(balancer))
    assert registered == f"lossweigh>{name}"
