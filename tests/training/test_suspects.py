"""Numbers that don't fit: refused in arrays and tensors, told of data sets."""

import keras
import numpy as np
import pytest
from keras import ops
from nets import LOSSES, ROWS, arrays, fixed, two_heads

import lossweigh as lw

X, Y = arrays()
ONES = np.ones(ROWS, "float32")


def with_one(array, value):
    changed = array.astype("float32")
    changed.flat[3] = value
    return changed


HALF = {**Y, "alpha": with_one(Y["alpha"], 0.5)}
CLASSES = r"'alpha' must hold class indices, whole numbers from 0 to 3"
# y, sample weights, words
WRONG = {
    "half a class": (HALF, None, CLASSES),
    "a class too high": ({**Y, "alpha": with_one(Y["alpha"], 4)}, None, CLASSES),
    "a class below 0": ({**Y, "alpha": with_one(Y["alpha"], -1)}, None, CLASSES),
    "nan": (Y, {"zeta": with_one(ONES, np.nan)}, "'zeta' must hold finite numbers"),
    "nan in a target": (
        {**Y, "zeta": with_one(Y["zeta"], np.nan)},
        None,
        "'zeta' must (hold numbers, and no|not hold) nan",
    ),
    "negative": (Y, {"zeta": with_one(ONES, -1)}, "'zeta' must hold finite numbers"),
}


def data_set(*data):
    """A data set of one batch, again and again."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return tuple(part for part in data if part is not None)

    return Batches()


@pytest.mark.compiled
@pytest.mark.parametrize("case", WRONG)
def test_tensors_are_refused(case):
    y, weights, words = WRONG[case]
    training = fixed(two_heads())
    before = training.get_weights()
    data = keras.tree.map_structure(ops.convert_to_tensor, (X, y, weights or {}))
    for call in (training.fit, training.evaluate):
        with pytest.raises(ValueError, match=words):
            call(data[0], data[1], sample_weight=data[2], verbose=0)
    with pytest.raises(ValueError, match=words):
        training.train_on_batch(*data)
    for one, other in zip(before, training.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:The loss of the branch")
@pytest.mark.parametrize("case", ["half a class", "nan", "nan in a target", "negative"])
def test_a_data_set_is_told_of(case):
    """After each epoch, and the training goes on."""
    y, weights, words = WRONG[case]
    training = fixed(two_heads())
    with pytest.warns(UserWarning, match=words) as told:
        training.fit(data_set(X, y, weights), epochs=2, verbose=0)
    told = [str(one.message) for one in told if "must hold" in str(one.message)]
    assert len(told) == 2
    assert "The data set gave 2 others" in told[0]
    with pytest.warns(UserWarning, match=words):
        training.evaluate(data_set(X, y, weights), verbose=0)
    fixed(two_heads()).fit(data_set(X, Y), verbose=0)  # and says nothing


@pytest.mark.compiled
def test_what_is_missing_is_not_told_of():
    y = {"zeta": with_one(Y["zeta"], np.nan), "alpha": with_one(Y["alpha"], np.nan)}
    weights = {"zeta": np.ones(ROWS), "alpha": np.arange(ROWS) % 2}
    losses = {name: lw.BranchLoss(loss, missing="nan") for name, loss in LOSSES.items()}
    training = lw.build_training_model(two_heads(), losses)
    training.compile("sgd")
    training.fit(data_set(X, y, weights), verbose=0)


if keras.backend.backend() == "tensorflow":

    @pytest.mark.compiled
    def test_a_target_of_unknown_shape_is_not_broadcast():
        """A step that was traced for any size looks at the size as it runs."""
        import tensorflow as tf

        def batches():
            yield X[:4], {**{k: v[:4] for k, v in Y.items()}}
            yield X[:4], {"zeta": Y["zeta"][:4, :1], "alpha": Y["alpha"][:4]}

        shapes = {"zeta": (None, None), "alpha": (None,)}
        spec = {k: tf.TensorSpec(s, Y[k].dtype) for k, s in shapes.items()}
        data = tf.data.Dataset.from_generator(
            batches, output_signature=(tf.TensorSpec((None, 4)), spec)
        )
        training = fixed(two_heads())
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[4,1\]"):
            training.fit(data, shuffle=False, verbose=0)
        training.fit(data, steps_per_epoch=1, shuffle=False, verbose=0)


def sold():
    x = keras.Input((4,), name="x")
    output = keras.layers.Dense(2, activation="sigmoid", name="sold")(x)
    training = lw.build_training_model(
        keras.Model(x, output), lw.BranchLoss("binary_crossentropy", missing=-5)
    )
    # Eager torch refuses such a target itself, once it comes to the loss.
    training.compile("sgd")
    return training


OUTSIDE = np.repeat([[0.0, 1.0], [-1.0, -5.0]], ROWS // 2, axis=0).astype("float32")


def test_a_cross_entropy_is_for_numbers_from_0_to_1():
    training = sold()
    words = r"'sold' should hold numbers from 0 to 1.*from -1.0 to 1.0.*missing="
    with pytest.warns(UserWarning, match=words):
        goes_on(training.fit, X, OUTSIDE, verbose=0)


def test_a_data_set_for_a_cross_entropy():
    training = sold()
    words = f"'sold' must hold numbers from 0 to 1. The data set gave {ROWS}"
    if keras.backend.backend() == "torch":
        training.fit(data_set(X, np.maximum(OUTSIDE, 0)), verbose=0)  # nothing to tell
        return
    with pytest.warns(UserWarning, match=words):
        training.fit(data_set(X, OUTSIDE), verbose=0)


def goes_on(function, *args, **kwargs):
    """Calls it; torch may then refuse what Keras gives it."""
    try:
        function(*args, **kwargs)
    except RuntimeError:
        assert keras.backend.backend() == "torch"
