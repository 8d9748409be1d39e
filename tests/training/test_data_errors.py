"""Data that doesn't fit is refused in words, and nothing is lost by it."""

import keras
import numpy as np
import pytest
from nets import ROWS, arrays, fixed, two_heads
from refusals import fails_and_goes_on

import lossweigh as lw

pytestmark = pytest.mark.once

X, Y = arrays()
ZETA, ALPHA = Y["zeta"], Y["alpha"]
ONES = np.ones(ROWS, "float32")
DUMMY = np.zeros(ROWS)


def with_one(array, value):
    changed = array.astype("float32")
    changed.flat[3] = value
    return changed


def of_y(**targets):
    return {"y": {**Y, **targets}}


# name: arguments of fit besides x and y, error, words of the message with ` ... `
# where some are left out
REFUSED = {
    "no y": (
        {"y": None},
        ValueError,
        "`y` must have an array for each of the targets ['zeta', 'alpha'] ... "
        "y=None ... `fit(x, {'zeta': ..., 'alpha': ...})`",
    ),
    "unknown name": (
        of_y(box=ZETA),
        ValueError,
        "`y` may only have the names ['zeta', 'alpha'] ... (unknown: ['box'])",
    ),
    "missing name": (
        {"y": {"zeta": ZETA}},
        ValueError,
        "`y` must have the names ['zeta', 'alpha'] ... (missing: ['alpha'])",
    ),
    "too many targets": (
        {"y": [ZETA, ALPHA, ALPHA]},
        ValueError,
        "`y` must have one array for each of the outputs ['zeta', 'alpha'] ... "
        "Received 3 arrays",
    ),
    "one target": (
        {"y": ZETA},
        ValueError,
        "`y` must have one array for each of the targets ['zeta', 'alpha'] ... "
        "Received: an array of shape (10, 3)",
    ),
    "no x": (
        {"x": None},
        ValueError,
        "`x` must have the inputs ['x']",
    ),
    "too few arrays": (
        {"x": [X, ZETA], "y": DUMMY},
        ValueError,
        "`x` must hold the inputs ['x'] ... [x, zeta_target, alpha_target] ... "
        "Received 2 arrays in `x`",
    ),
    "unknown input": (
        {"x": {"image": X}},
        ValueError,
        "`x` must have the names ['x'] ... unknown: ['image']; missing: ['x']",
    ),
    "shape of a target": (
        of_y(zeta=ZETA[:, :2]),
        ValueError,
        "The target of the branch 'zeta' must have the shape (None, 3) ... shape "
        "(10, 2) ... target_shape",
    ),
    "classes one-hot": (
        of_y(alpha=np.eye(4)[ALPHA]),
        ValueError,
        "The target of the branch 'alpha' must have the shape (None,) ... shape "
        "(10, 4)",
    ),
    "length of a target": (
        of_y(alpha=ALPHA[:9]),
        ValueError,
        "The arrays must have the same length, 10 ... 9 for `alpha_target`",
    ),
    "words as targets": (
        of_y(alpha=ALPHA.astype("str")),
        TypeError,
        "The input 'alpha_target' must hold numbers ... dtype <U ... "
        "`np.unique(words, return_inverse=True)[1]`",
    ),
    "objects as targets": (
        of_y(zeta=ZETA.astype(object)),
        TypeError,
        "The input 'zeta_target' must hold numbers ... dtype object",
    ),
    "nan": (
        of_y(zeta=with_one(ZETA, np.nan)),
        ValueError,
        "The target of the branch 'zeta' must not hold nan. Received 1 of them in "
        '30 numbers ... missing="nan"',
    ),
    "class too high": (
        of_y(alpha=with_one(ALPHA, 4)),
        ValueError,
        "The target of the branch 'alpha' must hold class indices ... from 0 to 3 "
        "... to 4",
    ),
    "class below 0": (
        of_y(alpha=with_one(ALPHA, -1)),
        ValueError,
        "must hold class indices, whole numbers from 0 to 3. Received numbers from -1",
    ),
    "half a class": (
        of_y(alpha=with_one(ALPHA, 0.5)),
        ValueError,
        "must hold class indices, whole numbers from 0 to 3",
    ),
    "unknown weight": (
        {"sample_weight": {"box": ONES}},
        ValueError,
        "`sample_weight` may only have the names ['zeta', 'alpha'] ... (unknown: "
        "['box'])",
    ),
    "too many axes of a weight": (
        {"sample_weight": {"zeta": np.ones((10, 3, 1))}},
        ValueError,
        "`sample_weight` of 'zeta' must have 1 to 2 axes ... (10, 3, 1)",
    ),
    "length of a weight": (
        {"sample_weight": {"zeta": ONES[:9]}},
        ValueError,
        "The arrays must have the same length, 10 ... 9 for `zeta_sample_weight`",
    ),
    "nan as a weight": (
        {"sample_weight": {"zeta": with_one(ONES, np.nan)}},
        ValueError,
        "`sample_weight` of 'zeta' must hold finite numbers of at least 0. Received 1 "
        "others, such as nan",
    ),
    "infinite weight": (
        {"sample_weight": with_one(ONES, np.inf)},
        ValueError,
        "`sample_weight` of 'zeta' must hold finite numbers ... such as inf",
    ),
    "negative weight": (
        {"sample_weight": {"alpha": -ONES}},
        ValueError,
        "`sample_weight` of 'alpha' must hold finite numbers of at least 0 ... -1.0",
    ),
    "complex weight": (
        {"sample_weight": {"alpha": 1j * ONES}},
        TypeError,
        "The input 'alpha_sample_weight' must hold real numbers ... dtype complex",
    ),
    "ragged weights": (
        {"sample_weight": {"alpha": [[1.0]] + [[1.0, 2.0]] * (ROWS - 1)}},
        ValueError,
        "`alpha_sample_weight` must be an array, whose rows have the same length",
    ),
    "ragged targets": (
        {"y": {"zeta": [[1.0]] + [[1.0, 2.0]] * (ROWS - 1), "alpha": ALPHA}},
        ValueError,
        "`zeta_target` must be an array, whose rows have the same length",
    ),
    "ragged x": (
        {"x": [[1.0]] + [[1.0, 2.0]] * (ROWS - 1)},
        ValueError,
        "`x` must be an array, whose rows have the same length",
    ),
    "words as x": (
        {"x": X.astype("str")},
        TypeError,
        "The input 'x' must hold numbers ... dtype <U",
    ),
    "dates as x": (
        {"x": np.array(["2020-01-01"] * ROWS, "datetime64[D]")},
        TypeError,
        "The input 'x' must hold real numbers ... dtype datetime64",
    ),
    "no rows": (
        {"x": X[:0], "y": {"zeta": ZETA[:0], "alpha": ALPHA[:0]}},
        ValueError,
        "The arrays must have at least one row. Received x, zeta_target, alpha_target",
    ),
    "a number as a target": (
        of_y(alpha=np.array(1)),
        ValueError,
        "The arrays must have the same length, 10. Received 1 for `alpha_target`",
    ),
    "length of x": (
        {"x": X[:9]},
        ValueError,
        "The arrays must have the same length, 9. Received 10 for `zeta_target`",
    ),
    "unknown class weight": (
        {"class_weight": {"box": {0: 1.0}}},
        ValueError,
        "`class_weight` may only have the names ['zeta', 'alpha'] ... (unknown: "
        "['box'])",
    ),
    "class weight of no branch": (
        {"class_weight": {0: 1.0, 1: 2.0}},
        ValueError,
        "`class_weight` must be a dict by branch name, as in {'zeta': {0: 1.0, 1: "
        "5.0}}",
    ),
    "class weight of no class": (
        {"class_weight": {"alpha": {-1: 2.0}}},
        ValueError,
        "`class_weight['alpha']` must have class indices, integers of at least 0",
    ),
    "negative class weight": (
        {"class_weight": {"alpha": {1: -2.0}}},
        ValueError,
        "`class_weight['alpha'][1]` must be at least 0",
    ),
    "class weights of another type": (
        {"class_weight": {"zeta": {0: 1.0}, "alpha": [1, 2]}},
        TypeError,
        "`class_weight['alpha']` must be a dict from class index to weight",
    ),
    "an array of class weights": (
        {"class_weight": {"alpha": np.ones(4)}},
        TypeError,
        "`class_weight['alpha']` must be a dict from class index to weight",
    ),
    "no dict of class weights": (
        {"class_weight": [1.0, 2.0]},
        TypeError,
        "`class_weight` must be a dict by branch name",
    ),
    "validation data": (
        {"validation_data": (X, {"zeta": ZETA})},
        ValueError,
        "`y` must have the names ['zeta', 'alpha'] ... (missing: ['alpha'])",
    ),
    "data and y": (
        {"x": (batch for batch in [(X, Y)]), "y": Y},
        ValueError,
        "`y` and `sample_weight` must be left out when `x` is a data set, "
        "generator or loader",
    ),
}


@pytest.fixture(scope="module")
def training():
    keras.utils.set_random_seed(0)
    return fixed(two_heads())


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(training, case):
    arguments, error, words = REFUSED[case]
    fails_and_goes_on(training, arguments, error, words)


def of_a_dict(*names):
    """A training model whose prediction model takes a dict, and 3 rows for each."""
    inputs = {name: keras.Input((2,), name=name) for name in names}
    merged = keras.layers.Concatenate()([*inputs.values(), *inputs.values()])
    model = keras.Model(inputs, keras.layers.Dense(1, name="y")(merged))
    training = lw.build_training_model(model, "mse")
    training.compile("sgd")
    return training, [np.ones((3, 2), "float32") for _ in names]


def test_an_array_for_a_dict_of_one():
    training, (x,) = of_a_dict("a")
    y = np.ones((3, 1))
    expected = training.evaluate({"a": x}, y, verbose=0)
    assert training.evaluate(x, y, verbose=0) == expected
    assert training.evaluate({"a": [x]}, y, verbose=0) == expected


def test_no_dict_for_a_dict_of_several():
    training, arrays = of_a_dict("a", "b")
    with pytest.raises(ValueError, match=r"`x` must be a dict with the names.*a list"):
        training.evaluate(arrays, np.ones((3, 1)), verbose=0)
    with pytest.raises(ValueError, match=r"`x` must be a dict .* of shape \(3, 2\)"):
        training.evaluate(arrays[0], np.ones((3, 1)), verbose=0)
