"""What is wrong with an index, or with the points, is said in words."""

import keras
import numpy as np
import pytest
from points_nets import ROWS, X, Y, assert_same, net, rows_of, state, weighing
from refusals import pattern

import lossweigh as lw

INDEX = np.arange(ROWS, dtype="int32")


def changed(value, dtype="int32"):
    index = INDEX.astype(dtype)
    index[3] = value
    return index


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.batch = x, y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batch


# Arguments of `fit`, error, words with ` ... ` where some are left out.
REFUSED = {
    "fewer rows": (
        {"x": X[:8], "y": {name: y[:8] for name, y in Y.items()}},
        ValueError,
        "a row for each of the 10 points that the branch 'u' has weights for "
        "(`SelfAdaptive(10)`). Received 8 rows. ... 'u_index' beside the inputs",
    ),
    "a split": (
        {"validation_split": 0.5},
        ValueError,
        "each of the 10 points ... Received 5 rows of 10 (validation_split=0.5)",
    ),
    "too high": (
        {"x": {"x": X, "u_index": changed(10)}},
        ValueError,
        "`u_index` must hold whole numbers from 0 to 9: the branch 'u' has weights for "
        "10 points. Received numbers from 0 to 10.",
    ),
    "below 0": (
        {"x": {"x": X, "u_index": changed(-1)}},
        ValueError,
        "Received numbers from -1 to 9",
    ),
    "dtype": (
        {"x": {"x": X, "u_index": changed(3, "float32")}},
        TypeError,
        "`u_index` must hold which point each row is, whole numbers of an integer "
        'dtype. Received an array of dtype float32. Give `index.astype("int32")`',
    ),
    "axes": (
        {"x": {"x": X, "u_index": np.stack([INDEX, INDEX], -1)}},
        ValueError,
        "`u_index` must have the shape (batch,) ... shape (10, 2)",
    ),
    "length": (
        {"x": {"x": X, "u_index": INDEX[:9]}},
        ValueError,
        "The arrays must have the same length, 10. Received 9 for `u_index`",
    ),
    "a data set without": (
        {"x": Batches({"x": X}, Y), "y": None},
        ValueError,
        "Each batch must say which points its rows are: the branch 'u' has weights for "
        "10 points. Let the data set yield ({..., 'u_index': index}, y) ... from 0 to "
        "9. Received a batch without 'u_index'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_fit_refuses(case):
    """Nothing is lost by it: the next `fit` works."""
    arguments, error, words = REFUSED[case]
    training = weighing("adam")
    before = training.get_weights()
    with pytest.raises(error, match=pattern(words)):
        training.fit(**{"x": X, "y": Y, "verbose": 0, **arguments})
    assert_same(training.get_weights(), before)
    training.fit(X, Y, verbose=0)
    training.evaluate(X[:3], {name: y[:3] for name, y in Y.items()}, verbose=0)


def test_a_batch_by_hand_says_which_points_it_is():
    training = weighing("adam")
    x, y = rows_of([1, 2])
    with pytest.raises(
        ValueError, match=r"for each of the 10 points.* Received 2 rows"
    ):
        training.train_on_batch(x["x"], y)
    training.train_on_batch(x, y)
    training.train_on_batch(X, Y)  # these are all of them
    with pytest.raises(ValueError, match="whole numbers from 0 to 9"):
        training.train_on_batch({**x, "u_index": np.array([0, 10])}, y)


def test_other_points_after_a_resume(tmp_path):
    training = weighing("adam")
    training.fit(X, Y, verbose=0)
    training.save(tmp_path / "training.keras")
    resumed = keras.models.load_model(tmp_path / "training.keras")
    x, y = rows_of(np.resize(INDEX, 12))
    with pytest.raises(ValueError, match=r"each of the 10 points.* Received 12 rows"):
        resumed.fit(x["x"], y, verbose=0)
    assert_same(state(resumed), state(training))


if keras.backend.backend() != "jax":  # which compiles every step

    @pytest.mark.parametrize("value", [ROWS, -1])
    def test_eager_steps_refuse_an_index_of_a_data_set(value):
        training = weighing("adam")
        before = training.get_weights()
        data = Batches({"x": X, "u_index": changed(value)}, Y)
        with pytest.raises(
            ValueError, match="`u_index` must hold whole numbers from 0"
        ):
            training.fit(data, verbose=0)
        assert_same(training.get_weights(), before)


if keras.backend.backend() != "torch":  # which compiles none

    @pytest.mark.compiled
    def test_compiled_steps_leave_a_row_out_and_tell():
        """After each epoch. The row weighs nothing and moves nothing."""
        ours, theirs = weighing("ascent", rate=0.0), weighing("ascent", rate=0.0)
        theirs.prediction_model.set_weights(ours.prediction_model.get_weights())
        wrong = np.array([0, 1, 2, ROWS, 4, 5, -1, 7, 8, 9], "int32")
        words = r"`u_index` must hold whole numbers from 0 to 9. The data set gave 4 o"
        with pytest.warns(UserWarning, match=words) as told:
            ours.fit(Batches({"x": X, "u_index": wrong}, Y), epochs=2, verbose=0)
        told = [str(one.message) for one in told if "u_index" in str(one.message)]
        assert len(told) == 2
        assert told[0].endswith("weighed 0 in the loss of the branch 'u'.")
        rows = np.delete(INDEX, [3, 6])
        for _ in range(4):
            theirs.train_on_batch(*rows_of(rows))
        assert_same(state(ours), state(theirs), rtol=1e-5)
        # A validation may have any index.
        data = Batches({"x": X, "u_index": wrong}, Y)
        ours.fit(X, Y, validation_data=data, verbose=0)


def test_what_the_branch_takes():
    words = r"`point_weights` must be weights of points, such as .*num_points\)`"
    with pytest.raises(TypeError, match=words):
        lw.BranchLoss("mse", point_weights=lw.points.SelfAdaptive)
    points = lw.points.Causal(ROWS, slice_of_point=INDEX // 5)
    for loss in (lw.BranchLoss, lw.TargetFreeLoss):
        config = loss("mse", point_weights=points).get_config()
        copy = loss.from_config(config).points.layer
        assert copy.get_config() == points.get_config()
        assert copy is not points


def test_what_the_build_refuses():
    points = lw.points.SelfAdaptive(ROWS)
    losses = {name: lw.BranchLoss("mse", point_weights=points) for name in "uv"}
    with pytest.raises(
        ValueError, match=r"\['v'\]` are the SelfAdaptive of the branch"
    ):
        lw.build_training_model(net(), losses)
    assert points.branch is None
    training = weighing(points)
    training.fit(X, Y, verbose=0)
    with pytest.raises(
        ValueError, match=r"\['u'\]` must not have learned anything yet"
    ):
        weighing(points)
    weighing(points.fresh())
    with pytest.raises(ValueError, match="the SelfAdaptive of the branch 'u' already"):
        lw.build_training_model(
            net(), {"v": lw.BranchLoss("mse", point_weights=points), "u": "mse"}
        )


def test_an_input_of_the_same_name():
    x, index = keras.Input((3,), name="x"), keras.Input((1,), name="u_index")
    both = keras.layers.Concatenate()([x, index])
    model = keras.Model([x, index], keras.layers.Dense(1, name="u")(both))
    points = lw.points.SelfAdaptive(ROWS)
    with pytest.raises(ValueError, match="must not have an input named 'u_index'"):
        lw.build_training_model(model, lw.BranchLoss("mse", point_weights=points))
    assert points.branch is None
    training = lw.build_training_model(model, "mse")  # without them it is an input
    training.compile("sgd")
    training.fit({"x": X, "u_index": INDEX[:, None]}, Y["u"], verbose=0)
