import numpy as np
import pytest
from loss_gradients import (
    array_of,
    check,
    compiled,
    drawn,
    reloaded,
    value_and_gradients,
)

from lossweigh.branches import BranchLoss
from lossweigh.losses.contrastive import Contrastive
from lossweigh.losses.distances import Cosine, Euclidean, SquaredEuclidean

SIMILAR = np.array([1, 0, 0, 1, 0.5, 0], "float32")
DISTANCES = {
    Euclidean: lambda x, y: np.sqrt(np.sum((x - y) ** 2)),
    SquaredEuclidean: lambda x, y: np.sum((x - y) ** 2),
    Cosine: lambda x, y: 1 - x @ y / np.sqrt((x @ x) * (y @ y)),
}


def oracle(similar, left, right, margin=1.0, distance=DISTANCES[Euclidean]):
    values = []
    for y, x, z in zip(similar, left, right, strict=True):
        away = distance(x, z)
        values.append(y * away**2 / 2 + (1 - y) * max(0, margin - away) ** 2 / 2)
    return np.array(values)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("margin", [0.5, 3.0])
def test_against_numpy(distance, margin):
    loss = Contrastive(margin=margin, distance=distance())
    check(
        lambda left, right: loss.call(SIMILAR, left, right),
        lambda left, right: oracle(SIMILAR, left, right, margin, DISTANCES[distance]),
        (6, 3),
        (6, 3),
    )


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e8])
def test_at_distance_zero(distance, scale):
    loss, x = Contrastive(distance=distance()), np.full((6, 3), scale, "float32")
    values, gradients = value_and_gradients(
        lambda left, right: loss.call(SIMILAR, left, right), x, x
    )
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()
    if distance is not Cosine:
        np.testing.assert_array_equal(values, (1 - SIMILAR) / 2)
        np.testing.assert_array_equal(gradients, 0)


def test_in_a_branch():
    left, right = drawn((6, 3), (6, 3))
    weight, expected = np.arange(6.0), oracle(SIMILAR, left, right)
    layer = BranchLoss(Contrastive(), of=["left", "right"])
    for y in (SIMILAR, SIMILAR[:, None]):
        got = layer([y, [left, right], weight])
        np.testing.assert_allclose(array_of(got), expected * weight, atol=1e-5)
    function = compiled(lambda x: layer([x[0], x[1:]]), [(None,), (None, 3), (None, 3)])
    for size in (6, 2):
        got = function([SIMILAR[:size], left[:size], right[:size]])
        np.testing.assert_allclose(got, expected[:size], atol=1e-5)
    missing = np.where(SIMILAR == 0.5, -1, SIMILAR)
    left[4] = np.nan
    layer = BranchLoss(Contrastive(), of=["left", "right"], missing=-1)
    got = array_of(layer([missing, [left, right]]))
    assert got.mean() == pytest.approx(np.delete(expected, 4).mean(), abs=1e-5)


def test_reload():
    loss = Contrastive(margin=2.0, distance=Cosine(), name="n", reduction="none")
    assert type(reloaded(loss).distance) is Cosine
    reloaded(Contrastive())
    layer = BranchLoss(loss, of=["left", "right"])
    again = BranchLoss.from_config(layer.get_config())
    assert again.loss.get_config() == loss.get_config()


def test_errors():
    x, y = np.zeros((4, 3), "float32"), np.zeros(4)
    with pytest.raises(ValueError, match=r"`margin` must be greater than 0"):
        Contrastive(margin=0)
    with pytest.raises(TypeError, match=r"`distance` must be a Distance"):
        Contrastive(distance="euclidean")
    for y_true, pair, words in [
        (y, [x, x[:, :2]], r"`right` must have the shape \(batch, features\).*same"),
        (y, [x[0], x], r"`left` must have the shape \(batch, features\)"),
        (x, [x, x], r"`y_true` must have the shape \(batch,\).*\(4, 3\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            Contrastive().call(y_true, *pair)
    with pytest.raises(
        TypeError, match=r"called on 2 tensors.*\(y_true, left, right\)"
    ):
        BranchLoss(Contrastive(), of="left")([y, x])
