import math

import numpy as np
import pytest
from loss_gradients import array_of, check, compiled, drawn, reloaded
from loss_gradients import value_and_gradients as differentiated

from lossweigh.branches import BranchLoss
from lossweigh.losses.glove import GloVe

COUNTS = np.array([1.0, 7.0, 0.0, 100.0, 250.5, 0.25], "float32")


def oracle(counts, scores, max_count=100.0, exponent=0.75):
    values = []
    for row, score in zip(counts, scores, strict=True):
        errors = [
            min(1, (x / max_count) ** exponent) * (s - math.log(x)) ** 2 if x else 0
            for x, s in zip(np.atleast_1d(row), np.atleast_1d(score), strict=True)
        ]
        values.append(sum(errors) / len(errors))
    return np.array(values)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (3, 2)])
@pytest.mark.parametrize(
    "arguments", [(100.0, 0.75), (10.0, 0.5), (10.0, 0.0)], ids=str
)
def test_against_numpy(shape, arguments):
    loss = GloVe(max_count=arguments[0], exponent=arguments[1])
    counts = COUNTS.reshape(shape)
    check(
        lambda scores: loss.call(counts, scores),
        lambda scores: oracle(counts, scores, *arguments),
        shape,
    )


def test_a_count_of_zero():
    """No nan, in the value or in either gradient, whatever the score."""
    counts = np.array([0.0, 0.0, 1e-30, 1e10], "float32")
    scores = np.array([3.0, np.inf, 1.0, 1e10], "float32")
    values, gradients = differentiated(GloVe().call, counts, scores)
    np.testing.assert_array_equal(values[:2], 0)
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()
    for gradient in gradients:
        np.testing.assert_array_equal(gradient[:2], 0)


def test_a_shift_of_all_vectors_is_absorbed_by_the_biases():
    v, u, b, c, shift = drawn((4, 3), (4, 3), (4, 1), (1, 4), (3,))
    counts = np.random.default_rng(0).integers(0, 200, (4, 4))

    def loss(v, u, b, c):
        return array_of(GloVe().call(counts, v @ u.T + b + c))

    v_new, u_new = v + shift, u + shift
    b_new = b - (v @ shift)[:, None] - shift @ shift
    c_new = c - (u @ shift)[None]
    np.testing.assert_allclose(
        loss(v_new, u_new, b_new, c_new), loss(v, u, b, c), rtol=1e-4
    )
    assert not np.allclose(loss(v_new, u_new, b, c), loss(v, u, b, c), rtol=1e-1)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_in_a_branch(shape):
    (scores,) = drawn(shape)
    weight, expected = np.arange(6.0), oracle(COUNTS, scores)
    layer = BranchLoss(GloVe(), branch="pairs")
    for counts in (COUNTS, COUNTS[:, None]):
        got = layer([counts, scores, weight])
        np.testing.assert_allclose(
            array_of(got), expected * weight, rtol=1e-5, atol=1e-5
        )
    function = compiled(layer, [(None,), (None, *shape[1:])])
    for size in (6, 2):
        got = function([COUNTS[:size], scores[:size]])
        np.testing.assert_allclose(got, expected[:size], rtol=1e-5, atol=1e-5)
    again = BranchLoss.from_config(layer.get_config())
    got = array_of(again([COUNTS.astype("int64"), scores]))
    np.testing.assert_allclose(
        got, oracle(COUNTS.astype(int), scores), rtol=1e-5, atol=1e-5
    )
    got = float(GloVe()(COUNTS, scores))
    assert got == pytest.approx(expected.mean(), rel=1e-5)


def test_reload():
    reloaded(GloVe(max_count=10, exponent=0.5, name="n", reduction="sum"))


def test_target():
    assert GloVe().target_spec([None, 1]) == ((None, 1), "float32")
    GloVe().check_target("pairs", COUNTS)
    for counts, received in [
        ([1, -1, -2], "2 negative and 1 positive ones in 3"),
        ([0, 0], "0 negative and 0 positive ones in 2"),
        ([], "0 negative and 0 positive ones in 0"),
    ]:
        with pytest.raises(ValueError, match=f"branch 'pairs' must.*{received}"):
            GloVe().check_target("pairs", np.array(counts))


def test_errors():
    with pytest.raises(ValueError, match=r"`max_count` must be greater than 0"):
        GloVe(max_count=0)
    with pytest.raises(ValueError, match=r"`exponent` must be at least 0"):
        GloVe(exponent=-1)
    with pytest.raises(ValueError, match=r"as many counts as scores.*\(4, 1\).*\(4, 2"):
        GloVe().call(np.zeros(4), np.zeros((4, 2)))
