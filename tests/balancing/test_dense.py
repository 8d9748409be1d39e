"""Gradients behind `Dense` layers, which are products, against the same written out."""

import keras
import numpy as np
import pytest
from gramians import array, compiled
from keras import ops

import lossweigh as lw
from lossweigh.gradients import statistics
from lossweigh.gradients.dense_heads import DenseHeads, pays
from lossweigh.gradients.factored import Factored
from lossweigh.gradients.graph import Call
from lossweigh.gradients.written_out import WrittenOut

# What stands before the columns, the columns of each branch, and the features.
CASES = {
    "one column each": ((16,), (1, 1, 1), 8),
    "one branch": ((16,), (3,), 8),
    "uneven": ((5,), (4, 1, 2), 7),
    "a place for each step": ((4, 6), (2, 3), 9),
    "few steps": ((8, 2), (2, 3, 1), 9),
    "images": ((2, 5, 3), (1, 2, 1, 1), 6),
    "one column each, of images": ((2, 5, 3), (1, 1), 6),
    "many": ((32,), (2,) * 17, 40),
}


def drawn(case, seed=0):
    """The gradients as products in float64, and written out."""
    lead, units, features = CASES[case]
    rng = np.random.default_rng(seed)
    scales = np.repeat(10.0 ** rng.uniform(-2, 2, len(units)), units)
    left = rng.normal(size=(*lead, sum(units))) * scales
    kernel = rng.normal(size=(features, sum(units)))
    ends = np.cumsum(units)[:-1]
    pairs = zip(np.split(left, ends, -1), np.split(kernel, ends, -1), strict=True)
    return left, kernel, [d @ w.T for d, w in pairs]


def factored(case, left, kernel, branches=None):
    _, units, _ = CASES[case]
    return Factored(
        tuple(range(len(units))) if branches is None else branches,
        units,
        ops.convert_to_tensor(left, "float32"),
        ops.convert_to_tensor(kernel, "float32"),
    )


@pytest.mark.parametrize("case", CASES)
def test_against_numpy(case):
    left, kernel, written = drawn(case)
    flat = np.stack([g.ravel() for g in written])
    norms = np.linalg.norm(flat, axis=1)
    weights = np.random.default_rng(1).normal(size=len(written)).astype("float32")

    def found_by(left, kernel, weights):
        site = factored(case, left, kernel)
        return site.gramian(), site.weighted_sum(weights)

    given = [np.asarray(a, "float32") for a in (left, kernel, weights)]
    found, total = compiled(found_by)(*map(ops.convert_to_tensor, given))
    np.testing.assert_allclose(
        array(found) / np.outer(norms, norms),
        flat @ flat.T / np.outer(norms, norms),
        atol=2e-6,
    )
    expected = sum(w * g for w, g in zip(weights, written, strict=True))
    np.testing.assert_allclose(
        array(total), expected, atol=3e-6 * abs(expected).max(), rtol=0
    )


@pytest.mark.parametrize("case", ["one column each", "one column each, of images"])
def test_elements_of_one_column_each(case):
    left, kernel, written = drawn(case)

    def found_by(left, kernel):
        site = factored(case, left, kernel)
        return site.absolute_sums(), *site.sums(), site.size()

    given = [np.asarray(a, "float32") for a in (left, kernel)]
    totals, *sums, size = compiled(found_by)(*map(ops.convert_to_tensor, given))
    np.testing.assert_allclose(
        array(totals), [abs(g).sum() for g in written], rtol=1e-5
    )
    assert array(size) == written[0].size
    expected = [sum(written), sum(abs(g) for g in written)]
    for total, wanted in zip(sums, expected, strict=True):
        np.testing.assert_allclose(
            array(total), wanted, atol=3e-6 * abs(wanted).max(), rtol=0
        )


def test_beside_other_sites_and_branches():
    """Summed over the sites that two branches share; others may be written out."""
    case = "uneven"
    left, kernel, written = drawn(case)
    rng = np.random.default_rng(2)
    others = [rng.normal(size=(6, 3)).astype("float32") for _ in range(3)]
    # Five branches: 4, 0 and 2 behind `Dense`; 0, 1 and 2 at another site.
    other = WrittenOut((0, 1, 2), [ops.convert_to_tensor(g) for g in others])
    sites = [factored(case, left, kernel, branches=(4, 0, 2)), other]
    rows = np.zeros((5, written[0].size + others[0].size))
    for branch, gradient in zip((4, 0, 2), written, strict=True):
        rows[branch, : gradient.size] = gradient.ravel()
    for branch, gradient in enumerate(others):
        rows[branch, written[0].size :] = gradient.ravel()
    found = array(statistics.gramian(sites, 5))
    np.testing.assert_allclose(found, rows @ rows.T, rtol=1e-5, atol=1e-3)
    squares = array(statistics.squared_norms(sites, 5))
    np.testing.assert_allclose(squares, np.square(rows).sum(axis=1), rtol=1e-5)
    assert array(statistics.finite(sites, 5)).all()


@pytest.mark.parametrize("case", ["one column each", "uneven"])
def test_mean_sizes_beside_other_sites_and_branches(case):
    left, kernel, written = drawn(case)
    others = [np.full((6, 3), float(k + 1), "float32") for k in range(3)]
    one, two, three = (ops.convert_to_tensor(g) for g in others)
    sites = [
        factored(case, left, kernel, branches=(3, 0, 2)),
        WrittenOut((0, 3), [one, two]),
        WrittenOut((3,), [three]),
    ]
    sums, sizes = map(array, statistics.absolute_sums_and_sizes(sites, 4))
    means = sums / np.maximum(sizes, 1.0)
    rows = [
        [written[1].ravel(), others[0].ravel()],
        [np.zeros(1)],
        [written[2].ravel()],
        [written[0].ravel(), others[1].ravel(), others[2].ravel()],
    ]
    expected = [np.abs(np.concatenate(row)).mean() for row in rows]
    np.testing.assert_allclose(means, expected, rtol=1e-5)


@pytest.mark.parametrize("where", ["left", "kernel"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("case", "column"), [("uneven", 4), ("one column each", 1)])
def test_a_branch_that_is_not_finite_spoils_no_other(case, column, where, value):
    left, kernel, written = drawn(case)
    spoilt = {"left": left, "kernel": kernel}[where]
    spoilt[1, column] = value  # the second branch's one column
    site = factored(case, left, kernel)
    found = array(site.gramian())
    assert not np.isfinite(found[1]).any()
    assert not np.isfinite(found[:, 1]).any()
    kept = [0, 2]
    expected = [[np.vdot(written[i], written[k]) for k in kept] for i in kept]
    np.testing.assert_allclose(found[np.ix_(kept, kept)], expected, rtol=1e-5)
    only = site.only(ops.convert_to_tensor([True, False, True]))
    total = array(only.weighted_sum(ops.convert_to_tensor([2.0, 3.0, 5.0])))
    np.testing.assert_allclose(
        total, 2 * written[0] + 5 * written[2], rtol=1e-4, atol=1e-3
    )


def test_a_branch_that_is_not_finite_spoils_no_other_elsewhere():
    """Not where only some branches have a part in a site, either."""
    rows = np.random.default_rng(3).normal(size=(3, 4)).astype("float32")
    rows[1, 0] = np.nan
    site = WrittenOut((0, 2, 3), [ops.convert_to_tensor(row) for row in rows])
    found = array(statistics.gramian([site], 4))
    finite = np.isfinite(found)
    assert not finite[2, [0, 2, 3]].any()
    assert finite[np.ix_([0, 1, 3], [0, 1, 3])].all()
    assert found[0, 3] == pytest.approx(np.vdot(rows[0], rows[2]), rel=1e-5)
    assert (found[1, [0, 1, 3]] == 0).all()
    spoilt = array(statistics.finite([site], 4))
    np.testing.assert_array_equal(spoilt, [True, True, False, True])


@pytest.mark.parametrize("biases", [(True, True), (False, True), (False, False)])
def test_outputs_and_the_kernels_gradient(biases):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 5, 7)).astype("float32")
    layers = [
        keras.layers.Dense(units, use_bias=bias, bias_initializer="normal")
        for units, bias in zip((2, 3), biases, strict=True)
    ]
    expected = [array(layer(x)) for layer in layers]
    calls = [
        Call(layer, (), {}, [0], [k + 1], [True], frozenset([k]))
        for k, layer in enumerate(layers)
    ]
    exit = DenseHeads(calls, keras.KerasTensor((None, 5, 7)))
    tensor = ops.convert_to_tensor(x)
    kernels = exit.parameters()
    outputs = exit.finish(exit.leave(tensor, kernels))
    for found, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(array(found), wanted, atol=1e-5)
        if keras.backend.backend() == "torch":  # as Keras's own: no view of another
            assert found.is_contiguous()
            assert found._base is None
    left = rng.normal(size=(3, 5, 5)).astype("float32")
    site = exit.site([ops.convert_to_tensor(left)], kernels)
    (gradient,) = exit.parameter_gradients(site, tensor)
    np.testing.assert_allclose(
        array(gradient), np.einsum("btf,btc->fc", x, left), rtol=1e-4, atol=1e-4
    )


def test_very_many_rows_keep_their_digits():
    """A million places are added up in blocks."""
    rng = np.random.default_rng(5)
    left = rng.normal(size=(16, 256, 256, 2)).astype("float32")
    left[..., 1] = left[..., 0] + 1e-2 * left[..., 1]
    kernel = np.ones((4, 2), "float32")
    site = Factored((0, 1), (1, 1), *map(ops.convert_to_tensor, (left, kernel)))
    flat = left.reshape(-1, 2).astype(float)
    np.testing.assert_allclose(array(site.gramian()), 4 * flat.T @ flat, rtol=5e-6)


def test_factors_pay_for_small_layers():
    assert pays(lw.UPGrad(), [1] * 20, 512)
    assert pays(lw.UPGrad(), [10, 10], 128)
    assert not pays(lw.UPGrad(), [64] * 3, 512)
    assert not pays(lw.UPGrad(), [10] * 20, 64)
    # A method that looks at elements finds them in layers of one unit.
    assert pays(lw.GradDrop(), [1] * 20, 512)
    assert not pays(lw.GradDrop(), [10, 10], 128)
    assert not pays(lw.LearningRateAnnealing(), [10, 10], 128)
