"""What every method of weights for points does, and refuses."""

import keras
import numpy as np
import pytest
from keras import ops
from point_loops import METHODS, NUM_POINTS, array, drawn_batches, step

import lossweigh as lw

LOSSES, INDEX = np.array([4.0, 1.0, 0.25, 2.0]), np.array([3, 0, 6, 4])


@pytest.fixture(params=METHODS)
def layer(request):
    return METHODS[request.param][0]()


def trained(layer):
    """After two steps whose losses are all different."""
    for losses, index in list(drawn_batches())[:2]:
        step(layer, losses, index)
    return layer


def state(layer):
    return [array(variable) for variable in layer.variables]


def assert_same(before, after):
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_method_is_in_the_table():
    methods = {type(make()).__name__ for make, _, _ in METHODS.values()}
    assert methods | {"PointLosses", "PointWeights"} == set(lw.points.__all__)


def test_outside_of_training_nothing_is_weighed_or_moved(layer):
    trained(layer)
    before = state(layer)
    loss = ops.array(LOSSES, "float32")
    np.testing.assert_array_equal(array(layer([loss, None], training=False)), LOSSES)
    np.testing.assert_array_equal(array(layer([loss, None])), LOSSES)
    assert_same(before, state(layer))


def test_weights_of_points_are_what_rows_are_multiplied_by(layer):
    trained(layer)
    layer.trainable = False
    before = state(layer)
    weighted = step(layer, LOSSES, INDEX)
    expected = LOSSES * array(layer.loss_weights)[INDEX]
    np.testing.assert_allclose(weighted, expected, rtol=1e-6)
    assert_same(before, state(layer))


def test_weights_are_constants_in_the_gradient(layer):
    step(layer, LOSSES, INDEX)
    index = ops.array(INDEX, "int32")

    def total(losses):
        return ops.sum(layer([losses, index], training=True))

    losses = ops.array(LOSSES, "float32")
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(losses)
            value = total(losses)
        gradient = tape.gradient(value, losses)
    elif backend == "torch":
        losses.requires_grad_(True)
        value = total(losses)
        value.backward()
        gradient = losses.grad
    else:
        import jax

        def stateless(losses):
            weighted, _ = layer.stateless_call(
                [], [v.value for v in layer.variables], [losses, index], training=True
            )
            return ops.sum(weighted)

        value, gradient = jax.value_and_grad(stateless)(losses)
    # Each weight is the row's weighted loss by its loss.
    assert array(value) == pytest.approx((array(gradient) * LOSSES).sum(), rel=1e-5)


# What a row that doesn't count has, beside or instead of its loss.
DOES_NOT_COUNT = {
    "no label": {"valid": np.array([1, 0, 1, 1.0])},
    "padded": {"valid": np.array([[1, 1], [0, 0], [1, 0], [1, 1.0]])},
    "weight 0": {"sample_weight": np.array([1, 0, 2, 1.0])},
    "weights 0": {"sample_weight": np.array([[1, 0], [0, 0], [2, 1], [1, 1.0]])},
    "nan": {"loss": np.nan},
    "infinite": {"loss": np.inf},
    "too high": {"index": NUM_POINTS},
    "below 0": {"index": -1},
}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("case", DOES_NOT_COUNT)
def test_a_row_that_does_not_count_moves_nothing(layer, case, again):
    """The others move as without it; `again`, one of them is of the same point."""
    given = dict(DOES_NOT_COUNT[case])
    losses, index = LOSSES.copy(), INDEX.copy()
    index[1] = index[0] if again else index[1]
    if "valid" in given:  # a row's share of the mean grows, and this one's is 0
        losses = losses * (4 / 3) * (np.arange(4) != 1)
    losses[1] = given.pop("loss", losses[1])
    index[1] = given.pop("index", index[1])
    given = {name: ops.array(value, "float32") for name, value in given.items()}
    trained(layer)
    other = layer.fresh()
    other.build([(None,), (None,)])
    for mine, its in zip(other.variables, layer.variables, strict=True):
        mine.assign(its)
    weighted = step(layer, losses, index, **given)
    rest = np.arange(4) != 1
    expected = step(other, LOSSES[rest], INDEX[rest])
    for one, its in zip(state(layer), state(other), strict=True):
        np.testing.assert_allclose(one, its, rtol=1e-6)
    scale = 4 / 3 if "valid" in given else 1.0
    np.testing.assert_allclose(weighted[rest], scale * expected, rtol=1e-5)
    if "index" in DOES_NOT_COUNT[case]:
        assert weighted[1] == 0


def test_a_batch_of_which_nothing_counts_moves_nothing(layer):
    trained(layer)
    before = state(layer)
    step(layer, [0.0, 0.0], [1, 2], valid=ops.zeros((2,)))
    assert_same(before, state(layer))


def test_losses_of_0_are_losses(layer):
    trained(layer)
    step(layer, [0.0, 0.0], [1, 2])
    assert all(np.isfinite(values).all() for values in state(layer))


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_finite_at_any_scale(scale):
    for name in ("attention", "adam", "sigmoid", "causal"):
        layer = METHODS[name][0]()
        for losses, index in drawn_batches():
            assert np.isfinite(step(layer, scale * losses, index)).all()
        assert all(np.isfinite(values).all() for values in state(layer))


def test_config_and_fresh(layer):
    trained(layer)
    layer.branch = "u"
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    fresh = layer.fresh()
    assert fresh.branch is None
    assert layer.has_learned()
    assert not fresh.has_learned()
    fresh.build([(None,), (None,)])
    assert not fresh.has_learned()


def test_index_is_needed_in_training(layer):
    words = r"on \[loss, index\] in training: which of the 7 points"
    with pytest.raises(ValueError, match=words):
        layer([ops.array(LOSSES, "float32"), None], training=True)


def test_shapes_are_checked(layer):
    with pytest.raises(ValueError, match=r"both of shape \(batch,\)\. Received the sh"):
        layer([ops.ones((3, 1)), ops.zeros((3,), "int32")], training=True)


WRONG = {
    "no points": (
        lambda: lw.points.SelfAdaptive(0),
        ValueError,
        "`num_points` must be a whole number of at least 1",
    ),
    "gamma": (
        lambda: lw.points.ResidualAttention(3, gamma=1.0),
        ValueError,
        "`gamma` must be less than 1",
    ),
    "eta": (
        lambda: lw.points.ResidualAttention(3, eta=0),
        ValueError,
        "`eta` must be greater than 0",
    ),
    "initial attention": (
        lambda: lw.points.ResidualAttention(3, initial=-1),
        ValueError,
        "`initial` must be at least 0",
    ),
    "optimizer": (
        lambda: lw.points.SelfAdaptive(3, optimizer="rmsprop"),
        ValueError,
        "`optimizer` must be one of 'adam', 'sgd'",
    ),
    "transform": (
        lambda: lw.points.SelfAdaptive(3, transform="cube"),
        ValueError,
        "`transform` must be one of 'square', 'sigmoid'",
    ),
    "no slope": (
        lambda: lw.points.SelfAdaptive(3, initial=0),
        ValueError,
        "`initial` must be greater than 0",
    ),
    "no slices": (
        lambda: lw.points.Causal(3),
        ValueError,
        "`num_slices` must be given, .*, or `slice_of_point`",
    ),
    "more slices than points": (
        lambda: lw.points.Causal(3, 4),
        ValueError,
        "`num_slices` must be at most `num_points`, 3. Received: num_slices=4",
    ),
    "length of the slices": (
        lambda: lw.points.Causal(3, slice_of_point=[0, 1]),
        ValueError,
        r"whole number for each of the 3 points.* shape \(2,\)",
    ),
    "halves of slices": (
        lambda: lw.points.Causal(2, slice_of_point=[0.0, 0.5]),
        ValueError,
        "`slice_of_point` must hold a whole number.* dtype float64",
    ),
    "a slice without a point": (
        lambda: lw.points.Causal(3, slice_of_point=[0, 2, 2]),
        ValueError,
        r"each of the numbers from 0 to 2, and no other. Received: \[0, 2\]",
    ),
    "another number of slices": (
        lambda: lw.points.Causal(3, 2, slice_of_point=[0, 1, 2]),
        ValueError,
        "each of the numbers from 0 to 1",
    ),
    "order of the epsilons": (
        lambda: lw.points.Causal(3, 1, epsilons=[1, 0.1]),
        ValueError,
        "`epsilons` must be numbers each larger than the one before",
    ),
    "threshold": (
        lambda: lw.points.Causal(3, 1, threshold=2),
        ValueError,
        "`threshold` must be between 0 and 1",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    make, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        make()
