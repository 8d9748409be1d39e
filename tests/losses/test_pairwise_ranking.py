import numpy as np
import pytest
from loss_gradients import array_of, check, compiled, drawn, reloaded
from loss_gradients import value_and_gradients as differentiated

from lossweigh.branches import TargetFreeLoss
from lossweigh.losses.pairwise_ranking import PairwiseRanking


def oracle(right, wrong, margin=1.0):
    values = []
    for i in range(len(right)):
        rights, wrongs = np.atleast_1d(right[i]), np.atleast_1d(wrong[i])
        hinges = [
            max(0, margin + w - rights[min(j, len(rights) - 1)])
            for j, w in enumerate(wrongs)
        ]
        values.append(sum(hinges) / len(hinges))
    return np.array(values)


SHAPES = [
    ((5,), (5,)),
    ((5, 1), (5, 1)),
    ((5, 4), (5, 4)),
    ((5, 1), (5, 4)),
    ((5,), (5, 4)),
    ((5,), (5, 1)),
    ((5, 1), (5,)),
    ((1,), (1,)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_against_numpy(shapes, margin):
    loss = PairwiseRanking(margin=margin)
    check(
        loss.call,
        lambda right, wrong: oracle(right, wrong, margin),
        *shapes,
    )


@pytest.mark.parametrize("scale", [0.0, 1e10])
def test_equal_scores(scale):
    same = np.full((3,), scale, "float32")
    values, gradients = differentiated(PairwiseRanking().call, same, same)
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()


def test_in_a_branch():
    right, wrong = drawn((5, 1), (5, 1))
    weight, expected = np.arange(5.0), oracle(right, wrong)
    layer = TargetFreeLoss(PairwiseRanking(), of=["right", "wrong"])
    got = layer([[right, wrong], weight])
    np.testing.assert_allclose(array_of(got), expected * weight, atol=1e-5)
    function = compiled(lambda x: layer([x]), [(None, 1), (None, 1)])
    for size in (5, 2):
        got = function([right[:size], wrong[:size]])
        np.testing.assert_allclose(got, expected[:size], atol=1e-5)
    again = TargetFreeLoss.from_config(layer.get_config())
    np.testing.assert_allclose(array_of(again([[right, wrong]])), expected, atol=1e-5)
    assert float(PairwiseRanking()(right, wrong)) == pytest.approx(expected.mean())


def test_reload():
    reloaded(PairwiseRanking(margin=0.1, name="n", reduction="sum"))


def test_errors():
    with pytest.raises(ValueError, match=r"`margin` must be at least 0"):
        PairwiseRanking(margin=-0.1)
    for right, wrong in [((4,), (3,)), ((4, 2), (4, 3)), ((4, 3), (4, 1)), ((), ())]:
        with pytest.raises(ValueError, match=r"as many right scores as wrong ones"):
            PairwiseRanking().call(np.zeros(right), np.zeros(wrong))
