import math

import numpy as np
import pytest
from loss_gradients import array_of, check, compiled, drawn, reloaded
from loss_gradients import value_and_gradients as differentiated
from scipy import sparse

from lossweigh.branches import BranchLoss
from lossweigh.losses.pointwise_mutual_information import PointwiseMutualInformation

TOTAL = 1000.0
COUNTS = np.array(
    [[1, 20, 30], [7, 7, 900], [0, 20, 30], [120, 150, 400], [0, 0, 0]], "float32"
)


def oracle(counts, scores, max_count=None, exponent=0.75):
    values = []
    for (pair, row, column), score in zip(counts, np.ravel(scores), strict=True):
        if pair == 0:
            values.append(0)
            continue
        together, one, other = pair / TOTAL, row / TOTAL, column / TOTAL
        weight = 1 if max_count is None else min(1, (pair / max_count) ** exponent)
        values.append(weight * (score - math.log(together / (one * other))) ** 2)
    return np.array(values)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("arguments", [(None, 0.75), (10, 0.5)], ids=str)
def test_against_numpy(shape, arguments):
    max_count, exponent = arguments
    loss = PointwiseMutualInformation(TOTAL, max_count=max_count, exponent=exponent)
    check(
        lambda scores: loss.call(COUNTS, scores),
        lambda scores: oracle(COUNTS, scores, *arguments),
        shape,
    )


@pytest.mark.parametrize("max_count", [None, 10.0])
def test_a_count_of_zero(max_count):
    counts = np.array([[0, 5, 5], [3, 0, 5], [0, 0, 0], [1e9, 1e10, 1e10]], "float32")
    loss = PointwiseMutualInformation(1e12, max_count=max_count)
    values, gradients = differentiated(loss.call, counts, np.full(4, 2.0))
    np.testing.assert_array_equal(values[:3], 0)
    assert np.isfinite(values).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[:3], 0)


def test_from_a_sparse_matrix():
    """The lines of the docstring, against the dense matrix."""
    dense = np.random.default_rng(0).poisson(1.0, (6, 6))
    counts = sparse.coo_array(dense)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    y = np.stack([counts.data, rows[counts.row], columns[counts.col]], axis=1)
    share = dense / dense.sum()
    with np.errstate(divide="ignore"):
        information = np.log(share / (share.sum(1)[:, None] * share.sum(0)))
    loss = PointwiseMutualInformation(counts.sum())
    got = array_of(loss.call(y, information[counts.row, counts.col]))
    np.testing.assert_allclose(got, 0, atol=1e-10)


def test_a_shift_of_all_vectors_is_not_absorbed():
    """There are no biases: lengths and angles of the vectors are determined."""
    vectors, shift = drawn((5, 3), (3,))
    loss = PointwiseMutualInformation(TOTAL)
    before, after = (
        array_of(loss.call(COUNTS, np.sum(v * v[::-1], axis=1)))
        for v in (vectors, vectors + shift)
    )
    assert not np.allclose(before, after, rtol=1e-1)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_in_a_branch(shape):
    (scores,) = drawn(shape)
    weight, expected = np.arange(5.0), oracle(COUNTS, scores)
    loss = PointwiseMutualInformation(TOTAL)
    layer = BranchLoss(loss, branch="pairs")
    got = layer([COUNTS, scores, weight])
    np.testing.assert_allclose(array_of(got), expected * weight, rtol=1e-5)
    function = compiled(layer, [(None, 3), (None, *shape[1:])])
    for size in (5, 2):
        got = function([COUNTS[:size], scores[:size]])
        np.testing.assert_allclose(got, expected[:size], rtol=1e-5, atol=1e-6)
    again = BranchLoss.from_config(layer.get_config())
    got = array_of(again([COUNTS.astype("int64"), scores]))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert float(loss(COUNTS, scores)) == pytest.approx(expected.mean(), rel=1e-5)


def test_reload():
    reloaded(
        PointwiseMutualInformation(
            9, max_count=10, exponent=0.5, name="n", reduction="sum"
        )
    )
    reloaded(PointwiseMutualInformation(9))


def test_target():
    loss = PointwiseMutualInformation(TOTAL)
    assert loss.target_spec([None, 1]) == ((None, 3), "float32")
    loss.check_target("pairs", COUNTS)
    for counts, received in [
        ([[1, -1, -2]], "2 negative numbers, and 1 of 1 pairs occur"),
        ([[0, 3, 3], [0, 3, 3]], "0 negative numbers, and 0 of 2 pairs occur"),
        (np.zeros((0, 3)), "0 negative numbers, and 0 of 0 pairs occur"),
    ]:
        with pytest.raises(ValueError, match=f"branch 'pairs' must hold .*{received}"):
            loss.check_target("pairs", np.array(counts))


def test_errors():
    for arguments, words in [
        ({"total": 0}, r"`total` must be greater than 0"),
        ({"total": 1, "max_count": 0}, r"`max_count` must be greater than 0"),
        ({"total": 1, "exponent": -1}, r"`exponent` must be at least 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            PointwiseMutualInformation(**arguments)
    loss = PointwiseMutualInformation(1)
    for shape in [(4,), (4, 2), (4, 3, 1)]:
        with pytest.raises(
            ValueError, match=r"a target \(batch, 3\).*Received a target"
        ):
            loss.call(np.zeros(shape), np.zeros(4))
    with pytest.raises(ValueError, match=r"`y_pred` must have the shape \(batch,\)"):
        loss.call(np.zeros((4, 3)), np.zeros((4, 2)))
