import keras
import numpy as np
import pytest
from keras import ops
from loss_gradients import (
    array_of,
    check,
    compiled,
    differentiable,
    drawn,
    reloaded,
    value_and_gradients,
)

from lossweigh.branches import BranchLoss, TargetFreeLoss
from lossweigh.losses.distances import Cosine, Euclidean, SquaredEuclidean
from lossweigh.losses.miners import BatchHard, GivenTriplets, Miner
from lossweigh.losses.triplet_margin import TripletMargin

DISTANCES = {
    Euclidean: lambda x, y: np.sqrt(np.sum((x - y) ** 2)),
    SquaredEuclidean: lambda x, y: np.sum((x - y) ** 2),
    Cosine: lambda x, y: 1 - x @ y / np.sqrt((x @ x) * (y @ y)),
}
LABELS = np.array([0, 1, 0, 2, 1, 0, 3], "int32")  # 2 and 3 have no positive


def batch_hard(labels, embeddings, margin, distance, valid=None):
    """The loss of each sample, one with a triplet or not, and which have one."""
    number = len(labels)
    valid = np.ones(number) if valid is None else valid
    values, found = np.zeros(number), np.zeros(number, bool)
    for a in range(number):
        near, far = [], []
        for i in range(number):
            if valid[a] and valid[i] and i != a:
                away = distance(embeddings[a], embeddings[i])
                (near if labels[i] == labels[a] else far).append(away)
        if near and far:
            found[a] = True
            values[a] = max(0, margin + max(near) - min(far))
    return values * np.sum(valid) / max(found.sum(), 1), found


def hard(**arguments):
    return TripletMargin(miner=BatchHard(), **arguments)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_given_triplets_against_numpy(distance, margin):
    loss, one = TripletMargin(margin=margin, distance=distance()), DISTANCES[distance]

    def oracle(*triplets):
        rows = zip(*triplets, strict=True)
        return np.array([max(0, margin + one(a, p) - one(a, n)) for a, p, n in rows])

    check(loss.values, oracle, (6, 3), (6, 3), (6, 3))


@pytest.mark.parametrize("distance", DISTANCES)
def test_batch_hard_against_numpy(distance):
    one, loss = DISTANCES[distance], hard(margin=1.5, distance=distance())
    check(
        lambda x: loss.values(ops.array(LABELS), x),
        lambda x: batch_hard(LABELS, x, 1.5, one)[0],
        (7, 3),
    )


def test_what_is_not_valid_is_never_paired():
    (embeddings,) = drawn((7, 3))
    valid = np.array([1, 1, 1, 1, 1, 0, 1], bool)
    embeddings[5] = np.nan

    def oracle(x):
        x = np.nan_to_num(x)
        return batch_hard(LABELS, x, 1.0, DISTANCES[Euclidean], valid)[0]

    loss = hard(margin=1.0)
    values, (gradient,) = value_and_gradients(
        lambda x: loss.values(ops.array(LABELS), x, valid=ops.array(valid)), embeddings
    )
    np.testing.assert_allclose(values, oracle(embeddings), atol=1e-5)
    assert np.isfinite(gradient).all()
    assert not gradient[5].any()
    wide = np.repeat(valid[:, None], 3, axis=1)  # of the prediction's shape
    again = loss.values(LABELS, ops.array(embeddings), valid=ops.array(wide))
    np.testing.assert_allclose(array_of(again), values, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_over_the_anchors_with_a_triplet(seed):
    """In the layer, whichever samples are masked, unlabelled or alone."""
    (embeddings,) = drawn((7, 3), seed=seed)
    labels = LABELS.copy()
    labels[4] = -1  # unlabelled: sample 1 is now alone
    mask = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    valid = mask & (labels >= 0)
    weight = np.arange(1, 8).astype("float32")
    values, found = batch_hard(labels, embeddings, 1.0, DISTANCES[Euclidean], valid)
    plain = values * found.sum() / valid.sum()
    assert found.sum() == 3
    layer = BranchLoss(hard(margin=1.0), missing=-1)
    got = layer([labels, embeddings, weight], mask=[None, ops.array(mask), None])
    expected = np.sum(plain * weight) / 3
    assert np.mean(array_of(got)) == pytest.approx(expected, abs=1e-5)


def test_given_triplets_with_masks_and_weights():
    triplets = drawn((4, 2), (4, 2), (4, 2))
    loss = TripletMargin(margin=3.0)
    values = array_of(loss.values(*map(ops.array, triplets)))
    triplets[1][2] = np.nan
    valid = np.array([1, 1, 0, 1], bool)
    weight = np.array([[1], [2], [3], [0]], "float32")
    tensors = [ops.array(triplet) for triplet in triplets]
    weights = ops.array(weight)
    for shape in (4,), (4, 1):
        some = ops.array(valid.reshape(shape))
        got = loss.values(*tensors, valid=some, weight=weights)
        np.testing.assert_allclose(
            array_of(got), [values[0], 2 * values[1], 0, 0], rtol=1e-6
        )
    layer = TargetFreeLoss(loss, of=["anchor", "positive", "negative"])
    mask = [[ops.array(valid), None, None], None]
    got = layer([triplets, weight], mask=mask)
    assert np.mean(array_of(got)) == pytest.approx((values[0] + 2 * values[1]) / 3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_collapsed_embeddings(distance):
    loss = hard(distance=distance(), margin=0.5)
    both = differentiable(lambda x: loss.values(ops.array(LABELS), x), 1)
    for scale in (0.0, 1.0, 1e8):
        values, (gradient,) = both(np.full((7, 3), scale))
        assert np.mean(values) == pytest.approx(0.5, abs=1e-5)
        assert np.isfinite(gradient).all()


def test_without_a_triplet():
    loss = hard(margin=9.0)
    both = differentiable(lambda x, y, v: loss.values(y, x, valid=v > 0), 3)
    (embeddings,) = drawn((3, 2))
    for labels, valid in [
        ([0, 0, 0], [1, 1, 1]),
        ([0, 1, 2], [1, 1, 1]),
        ([0, 0, 1], [1, 1, 0]),
        ([0, 0, 1], [0, 0, 0]),
    ]:
        values, gradients = both(embeddings, np.array(labels), np.array(valid))
        np.testing.assert_array_equal(values, 0)
        np.testing.assert_array_equal(gradients[0], 0)
    values, _ = both(embeddings, np.array([0, 0, 1]), np.ones(3))
    assert (values[:2] > 0).all()


def test_an_anchor_without_a_triplet_has_no_gradient_of_its_own():
    far_away = np.array([[0.0], [1.0], [100.0]])
    _, (gradient,) = value_and_gradients(
        lambda x: hard().values(np.array([0, 0, 1]), x), far_away
    )
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("column", [False, True])
def test_in_compile_of_a_plain_model(column):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    model.compile(keras.optimizers.SGD(0.1), loss=hard(margin=1.0))
    (x,) = drawn((7, 4))
    kernel = array_of(model.get_layer("d").kernel)
    values, _ = batch_hard(LABELS, x @ kernel, 1.0, DISTANCES[Euclidean])
    y = LABELS[:, None] if column else LABELS
    logs = model.train_on_batch(x, y, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(values.mean(), abs=1e-5)
    loss = hard(margin=1.0)
    _, (gradient,) = value_and_gradients(
        lambda k: loss.values(LABELS, ops.matmul(ops.array(x), k)), kernel
    )
    moved = array_of(model.get_layer("d").kernel) - kernel
    np.testing.assert_allclose(moved, -0.1 * gradient / 7, atol=1e-5)


def test_reductions():
    (embeddings,) = drawn((7, 3))
    values, _ = batch_hard(LABELS, embeddings, 1.0, DISTANCES[Euclidean])
    got = {
        reduction: array_of(hard(margin=1.0, reduction=reduction)(LABELS, embeddings))
        for reduction in ("sum_over_batch_size", "sum", "none")
    }
    np.testing.assert_allclose(got["none"], values, atol=1e-5)
    assert got["sum"] == pytest.approx(values.sum(), abs=1e-4)
    assert got["sum_over_batch_size"] == pytest.approx(values.mean(), abs=1e-5)


def test_compiled_equals_called():
    layer = BranchLoss(hard(margin=1.0), missing=-1)
    shapes = [(None,), (None, 3)]
    function = compiled(layer, shapes, ["int32", "float32"])
    given = TargetFreeLoss(TripletMargin(margin=1.0), of=["a", "p", "n"])
    other = compiled(lambda x: given([x]), [(None, 3)] * 3)
    for size in (7, 4):
        labels, triplets = LABELS[:size] - (size == 4), drawn(*[(size, 3)] * 3)
        np.testing.assert_allclose(
            function([labels, triplets[0]]),
            array_of(layer([labels, triplets[0]])),
            atol=1e-5,
        )
        np.testing.assert_allclose(
            other(triplets), array_of(given([triplets])), atol=1e-5
        )


def test_reload():
    loss = TripletMargin(
        margin=0.7, distance=Cosine(), miner=BatchHard(), name="n", reduction="sum"
    )
    other = reloaded(loss)
    assert type(other.distance) is Cosine
    assert type(other.miner) is BatchHard
    reloaded(TripletMargin())
    reloaded(GivenTriplets())
    layer = BranchLoss(hard(margin=0.7), branch="people")
    again = BranchLoss.from_config(layer.get_config())
    (x,) = drawn((7, 3))
    np.testing.assert_array_equal(
        array_of(again([LABELS, x])), array_of(layer([LABELS, x]))
    )


def test_target():
    assert hard().target_spec([None, 3]) == ((None,), "int32")
    for labels in ([0, 0, 1], [0.0, 1.0, 1.0]):
        hard().check_target("people", np.array(labels))
    wrong = {
        "Received 3 labels of 1 classes, at most 3 of one class": [4, 4, 4],
        "Received 3 labels of 3 classes, at most 1 of one class": [0, 1, 2],
        "Received 0 labels of 0 classes, at most 0 of one class": [],
    }
    for received, labels in wrong.items():
        with pytest.raises(ValueError, match=f"branch 'people' must.*{received}"):
            hard().check_target("people", np.array(labels))


def test_a_miner_of_your_own():
    class Next(Miner):
        def triplets(self, tensors, valid, distance):
            (x,) = tensors
            return x, ops.roll(x, -1, axis=0), ops.roll(x, -2, axis=0), None

    loss = TripletMargin(margin=0.0, miner=Next())
    values = array_of(loss.values(ops.array([[0.0], [3.0], [1.0]])))
    np.testing.assert_allclose(values, [2, 0, 0])
    loss.check_target("x", np.zeros(2))


def test_errors():
    x = np.zeros((4, 3), "float32")
    for arguments, error, words in [
        ({"margin": -1}, ValueError, r"`margin` must be at least 0"),
        ({"distance": "l2"}, TypeError, r"`distance` must be a Distance"),
        ({"miner": "hard"}, TypeError, r"`miner` must be a Miner.*miner='hard'"),
        ({"reduction": "max"}, ValueError, r"`reduction` must be one of"),
    ]:
        with pytest.raises(error, match=words):
            TripletMargin(**arguments)
    for loss, tensors, words in [
        (TripletMargin(), (x, x), r"three tensors.*Received 2.*TargetFreeLoss"),
        (TripletMargin(), (x, x[0], x), r"`positive` must have the shape \(batch, f"),
        (TripletMargin(), (x, x, x[:, :2]), r"`negative`.*the same for all"),
        (hard(), (x,), r"two tensors, labels \(batch,\).*Received 1"),
        (hard(), (x[:, 0], x, x), r"two tensors.*Received 3"),
        (hard(), (x, x), r"`labels` must have the shape \(batch,\), one number"),
        (hard(), (x[:, 0], x[None]), r"`embeddings` must have .* one vector a sam"),
    ]:
        with pytest.raises(ValueError, match=words):
            loss.values(*tensors)
    with pytest.raises(ValueError, match=r"has no target.*TargetFreeLoss"):
        BranchLoss(TripletMargin(), of=["a", "p", "n"])([x[:, 0], [x, x, x]])
    with pytest.raises(ValueError, match=r"BatchHard takes one output\. Received 2"):
        BranchLoss(hard(), of=["a", "p"])([x[:, 0], [x, x]])
    with pytest.raises(ValueError, match=r"`embeddings` must have the shape"):
        hard().target_spec([None, 5, 3])
