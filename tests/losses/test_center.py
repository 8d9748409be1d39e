import keras
import numpy as np
import pytest
from loss_gradients import array_of, check, compiled, drawn, reloaded
from loss_gradients import value_and_gradients as differentiated

import lossweigh as lw
from lossweigh.branches import BranchLoss
from lossweigh.losses.center import Center

CLASSES = np.array([0, 1, 0, 3, 1, 0], "int32")  # class 2 is absent


def values_of(centers, classes, features):
    rows = zip(classes, features, strict=True)
    return np.array([np.sum((x - centers[c]) ** 2) / 2 for c, x in rows])


def moved(centers, classes, features, learning_rate=0.5):
    """The paper's equation 4, one class at a time."""
    centers, before = np.array(centers), np.array(centers)
    for j in range(len(centers)):
        total, number = 0.0, 0
        for i, c in enumerate(classes):
            if c == j:
                total, number = total + before[j] - features[i], number + 1
        centers[j] = before[j] - learning_rate * total / (1 + number)
    return centers


def with_centers(**arguments):
    loss = Center(4, **arguments)
    loss.build((None,), (None, 3))
    loss.centers.assign(drawn((4, 3), seed=10)[0])
    return loss, array_of(loss.centers)


def test_against_numpy():
    loss, centers = with_centers()
    check(
        lambda x: loss(CLASSES, x),
        lambda x: values_of(centers, CLASSES, x),
        (6, 3),
    )


@pytest.mark.parametrize("learning_rate", [0.0, 0.5, 1.0])
def test_centers_follow(learning_rate):
    loss, centers = with_centers(learning_rate=learning_rate)
    for seed in range(3):
        (x,) = drawn((6, 3), seed=seed)
        got = loss(CLASSES, x, training=True)
        np.testing.assert_allclose(
            array_of(got), values_of(centers, CLASSES, x), rtol=1e-5, atol=1e-6
        )
        centers = moved(centers, CLASSES, x, learning_rate)
        np.testing.assert_allclose(array_of(loss.centers), centers, atol=1e-5)
    loss(CLASSES, x)
    loss(CLASSES, x, training=False)
    loss.trainable = False
    loss(CLASSES, x, training=True)
    np.testing.assert_allclose(array_of(loss.centers), centers, atol=1e-5)


def test_what_is_not_valid_counts_nowhere():
    loss, centers = with_centers()
    (x,) = drawn((6, 3))
    classes, valid = CLASSES.copy(), np.array([1, 1, 0, 1, 0, 1], bool)
    x[2], classes[2], classes[4] = np.nan, -7, 99
    _, (gradient,) = differentiated(lambda x: loss(classes, x, valid), x)
    values = array_of(loss(classes, x, valid, training=True))
    np.testing.assert_array_equal(values[~valid], 0)
    np.testing.assert_array_equal(gradient[~valid], 0)
    assert np.isfinite(gradient).all()
    expected = moved(centers, classes[valid], x[valid])
    np.testing.assert_allclose(array_of(loss.centers), expected, atol=1e-5)
    loss(classes, x, np.zeros(6, bool), training=True)
    np.testing.assert_allclose(array_of(loss.centers), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e10])
def test_extremes(scale):
    loss, x = Center(4), np.full((6, 3), scale, "float32")
    loss.build((None,), (None, 3))
    values, (gradient,) = differentiated(lambda x: loss(CLASSES, x), x)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(gradient, x)


@pytest.mark.parametrize("column", [False, True])
def test_in_a_branch(column):
    """A training call moves the centres, an evaluation doesn't; missing don't count."""
    (x,) = drawn((6, 3))
    classes = np.where(np.arange(6) == 4, -1, CLASSES)
    known = classes >= 0
    layer = BranchLoss(Center(4), missing=-1)
    y = classes[:, None] if column else classes
    zeros = np.zeros((4, 3))
    expected = values_of(zeros, classes[known], x[known]).sum() / known.sum()
    weight = np.arange(6.0)
    for training, centers in [
        (False, zeros),
        (True, moved(zeros, classes[known], x[known])),
    ]:
        loss = array_of(layer([y, x, weight * 0 + 1], training=training))
        assert loss.mean() == pytest.approx(expected, abs=1e-5)
        np.testing.assert_allclose(array_of(layer.loss.centers), centers, atol=1e-5)
    centers = array_of(layer.loss.centers)
    plain = values_of(centers, np.maximum(classes, 0), x) * known
    loss = array_of(layer([y, x, weight]))
    assert loss.mean() == pytest.approx(np.sum(plain * weight) / known.sum(), abs=1e-5)


def in_a_model(learning_rate=0.5):
    x = keras.Input((2,), name="x")
    y = keras.Input((), dtype="int32", name="y")
    features = keras.layers.Dense(3, name="features")(x)
    loss = Center(4, learning_rate=learning_rate)
    return keras.Model({"x": x, "y": y}, BranchLoss(loss, name="center")([y, features]))


def test_trained_and_saved(tmp_path):
    """Steps of `fit` are those of the loop: features and centres move at once."""
    model = in_a_model()
    model.compile(keras.optimizers.SGD(0.1), loss=lw.ignore_loss)
    (x,) = drawn((6, 2))
    kernel = array_of(model.get_layer("features").kernel)
    bias, centers = np.zeros(3), np.zeros((4, 3))
    data = {"x": x, "y": CLASSES}
    for _ in range(3):
        features = x @ kernel + bias
        expected = values_of(centers, CLASSES, features).mean()
        logs = model.train_on_batch(data, np.zeros(6), return_dict=True)
        assert float(logs["loss"]) == pytest.approx(expected, rel=1e-4)
        gradient = (features - centers[CLASSES]) / 6
        kernel, bias = kernel - 0.1 * x.T @ gradient, bias - 0.1 * gradient.sum(0)
        centers = moved(centers, CLASSES, features)
        got = array_of(model.get_layer("center").loss.centers)
        np.testing.assert_allclose(got, centers, atol=1e-5)
        np.testing.assert_allclose(
            array_of(model.get_layer("features").kernel), kernel, atol=1e-5
        )
        # Metrics of one step aren't averaged with the last one's.
        model.reset_metrics()
    model.evaluate(data, np.zeros(6), verbose=0)
    np.testing.assert_array_equal(array_of(model.get_layer("center").loss.centers), got)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    loss = again.get_layer("center").loss
    assert (loss.num_classes, loss.learning_rate) == (4, 0.5)
    np.testing.assert_array_equal(array_of(loss.centers), got)
    np.testing.assert_allclose(
        again.predict_on_batch(data), model.predict_on_batch(data), rtol=1e-6
    )


def test_compiled_equals_called():
    (x,) = drawn((6, 3))
    loss, centers = with_centers()
    layer = BranchLoss(loss)
    function = compiled(layer, [(None,), (None, 3)], ["int32", "float32"])
    for size in (6, 2):
        expected = values_of(centers, CLASSES[:size], x[:size])
        got = function([CLASSES[:size], x[:size]])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_float32_whatever_the_policy():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        loss, centers = with_centers()
        (x,) = drawn((6, 3))
        values = array_of(loss(CLASSES, x.astype("float16"), training=True))
    finally:
        keras.config.set_dtype_policy(policy)
    assert values.dtype == np.float32
    assert array_of(loss.centers).dtype == np.float32
    x = x.astype("float16").astype("float64")
    np.testing.assert_allclose(values, values_of(centers, CLASSES, x), rtol=1e-5)


def test_reload():
    loss = Center(4, learning_rate=0.25, name="n")
    serialized = reloaded(loss)
    assert (serialized.num_classes, serialized.learning_rate) == (4, 0.25)


def test_target():
    loss = Center(4)
    assert loss.target_spec([None, 2]) == ((None,), "int32")
    for good in (CLASSES, CLASSES.astype("float32"), np.array([], "int32")):
        loss.check_target("faces", good)
    for classes, received in [
        ([0, 4, 1], "Received 4, and in all numbers from 0 to 4"),
        ([0, -1], "Received -1, and in all numbers from -1 to 0"),
        ([0.0, 1.5], r"Received 1\.5"),
    ]:
        with pytest.raises(
            ValueError, match=f"branch 'faces'.*numbers from 0 to 3.*{received}"
        ):
            loss.check_target("faces", np.array(classes))


def test_errors():
    with pytest.raises(ValueError, match=r"`num_classes` must be a whole number"):
        Center(0)
    with pytest.raises(ValueError, match=r"`learning_rate` must be between 0 and 1"):
        Center(4, learning_rate=2)
    x = np.zeros((6, 2, 3), "float32")
    with pytest.raises(ValueError, match=r"`features` must have the shape \(batch, f"):
        Center(4)(CLASSES, x)
    with pytest.raises(ValueError, match=r"`features` must have the shape \(batch, f"):
        BranchLoss(Center(4))([CLASSES, x])
    with pytest.raises(ValueError, match=r"Center takes one output\. Received 2"):
        BranchLoss(Center(4), of=["a", "b"]).target_spec([x[0], x[0]])
    with pytest.raises(ValueError, match=r"`y_true` must have the shape \(batch,\)"):
        Center(4)(np.zeros((6, 2), "int32"), x[:, 0])
