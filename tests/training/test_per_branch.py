"""Arguments with one entry a branch: by its name, as the library names outputs."""

import keras
import numpy as np
import pytest
from keras import layers

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
KINDS = RNG.integers(0, 2, (2, 12))
SPARSE = "sparse_categorical_crossentropy"
CLASS_WEIGHTS = {0: 1.0, 1: 5.0}


def structured(kind, first, second):
    """By the keys of the outputs: whole numbers, or in a dict of dicts."""
    if kind == "whole numbers":
        return {0: first, 1: second}
    return {"g": {"a": first}, "b": second}


def two_heads(kind):
    x = keras.Input((4,), name="x")
    heads = [layers.Dense(2, activation="softmax")(x) for _ in range(2)]
    return keras.Model(x, structured(kind, *heads))


def flat(kind):
    return ("0", "1") if kind == "whole numbers" else ("g/a", "b")


KEYS = pytest.mark.parametrize("kind", ["whole numbers", "nested"])


def cross_entropies(model, kind):
    """Each head's losses of the samples."""
    made = {str(key): value for key, value in model.predict(X, verbose=0).items()}
    made = (
        [made["0"], made["1"]]
        if kind == "whole numbers"
        else [made["g"]["a"], made["b"]]
    )
    return [-np.log(p[np.arange(12), k]) for p, k in zip(made, KINDS, strict=True)]


@KEYS
@pytest.mark.parametrize("as_weighter", [dict, lw.FixedWeights])
def test_weights_by_the_keys_of_the_outputs(kind, as_weighter):
    model = two_heads(kind)
    losses = structured(kind, SPARSE, SPARSE)
    weighter = as_weighter(structured(kind, 2.0, 3.0))
    training = lw.build_training_model(model, losses, weighter)
    training.compile("sgd")
    logs = training.test_on_batch(X, structured(kind, *KINDS), return_dict=True)
    first, second = cross_entropies(model, kind)
    expected = 2 * first.mean() + 3 * second.mean()
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    training.weighter.assign(structured(kind, 1.0, 0.0))
    logs = training.test_on_batch(X, structured(kind, *KINDS), return_dict=True)
    assert logs["loss"] == pytest.approx(first.mean(), rel=1e-5)


@KEYS
def test_class_weights_by_the_keys_of_the_outputs(kind):
    model = two_heads(kind)
    losses = structured(kind, SPARSE, SPARSE)
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    first, second = cross_entropies(model, kind)
    logs = training.train_on_batch(
        X,
        structured(kind, *KINDS),
        class_weight=structured(kind, CLASS_WEIGHTS, {1: 3.0}),
        return_dict=True,
    )
    a, b = flat(kind)
    weighed = [np.where(KINDS[0], 5, 1) * first, np.where(KINDS[1], 3, 1) * second]
    assert logs[f"{a}_loss"] == pytest.approx(weighed[0].mean(), rel=1e-5)
    assert logs[f"{b}_loss"] == pytest.approx(weighed[1].mean(), rel=1e-5)


def test_unknown_names_of_class_weights():
    training = lw.build_training_model(two_heads("nested"), SPARSE)
    training.compile("sgd")
    for wrong, named in [
        ({"g": {"c": CLASS_WEIGHTS}}, r"unknown: \['g/c'\]"),
        ({"h": CLASS_WEIGHTS}, r"unknown: \['h'\]"),
        ({"g": CLASS_WEIGHTS}, r"unknown: \['g'\]"),
    ]:
        with pytest.raises(ValueError, match=named):
            training.fit(X, structured("nested", *KINDS), class_weight=wrong)


@KEYS
def test_of_and_target_by_a_key(kind):
    model = two_heads(kind)
    a, b = (0, 1) if kind == "whole numbers" else ("g/a", "b")
    losses = {
        "again": lw.BranchLoss(SPARSE, of=a, target=b),
        "both": lw.TargetFreeLoss(lw.losses.PairwiseRanking(), of=[a, b]),
    }
    assert losses["again"].of == [flat(kind)[0]]
    assert losses["again"].target == flat(kind)[1]
    assert losses["both"].of == list(flat(kind))
    training = lw.build_training_model(model, {b: SPARSE, "again": losses["again"]})
    training.compile("sgd")
    logs = training.test_on_batch(X, {b: KINDS[0]}, return_dict=True)
    first = cross_entropies(model, kind)[0].mean()
    assert logs["again_loss"] == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("wrong", [True, 1.5, [None], [], {"a": 1}])
def test_of_what_is_no_name(wrong):
    with pytest.raises(TypeError, match="`of` must be the name of an output"):
        lw.BranchLoss("mse", of=wrong)


WEIGHTERS = {
    "LossWeighter": lambda some: lw.LossWeighter(initial_weights=some),
    "FAMO": lambda some: lw.FAMO(ideal_losses=some),
    "preferred": lambda some: lw.SmoothTchebycheff(preferences=some, smoothing=9),
    "SmoothTchebycheff": lambda some: lw.SmoothTchebycheff(ideal_losses=some),
    "FixedWeights": lambda some: lw.FixedWeights(some),
}
ARGUMENTS = {
    "LossWeighter": "initial_weights",
    "FAMO": "ideal_losses",
    "preferred": "preferences",
    "SmoothTchebycheff": "ideal_losses",
    "FixedWeights": "weights",
}


@KEYS
@pytest.mark.parametrize("method", list(WEIGHTERS))
def test_every_argument_takes_a_dict(kind, method, tmp_path):
    """The same numbers as from the list, where the dict has another order too."""
    a, b = flat(kind)
    made = []
    model = two_heads(kind)
    weights = model.get_weights()
    for given in ([0.2, 0.7], structured(kind, 0.2, 0.7), {b: 0.7, a: 0.2}):
        model.set_weights(weights)
        weighter = WEIGHTERS[method](given)
        training = lw.build_training_model(model, SPARSE, weighter)
        assert training.branches == [a, b]
        training.compile(keras.optimizers.SGD(0.01))
        y = structured(kind, *KINDS)
        training.fit(X, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        made.append(training.evaluate(X, y, verbose=0))
    np.testing.assert_allclose(made[1], made[0], rtol=1e-6)
    np.testing.assert_allclose(made[2], made[0], rtol=1e-6)
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    np.testing.assert_allclose(loaded.evaluate(X, y, verbose=0), made[0], rtol=1e-6)
    assert weighter.fresh().get_config()[ARGUMENTS[method]] == {a: 0.2, b: 0.7}


@pytest.mark.parametrize("method", list(WEIGHTERS))
def test_names_that_there_are_not(method):
    argument = ARGUMENTS[method]
    weighter = WEIGHTERS[method]({"b": 0.7, "c": 0.2})
    with pytest.raises(ValueError, match=rf"`{argument}` must have the names .*'c'"):
        lw.build_training_model(two_heads("nested"), SPARSE, weighter)
    with pytest.raises(ValueError, match=rf"`{argument}` given by branch name"):
        WEIGHTERS[method]({"b": 0.7, "c": 0.2}).build([(None,), (None,)])


def test_task_types_by_a_key():
    task_types = structured("nested", "regression", "classification")
    weighter = lw.Uncertainty(task_types=task_types)
    lw.build_training_model(two_heads("nested"), SPARSE, weighter)
    assert weighter.scale == [0.5, 1.0]
    with pytest.raises(ValueError, match="`task_types` given by branch name"):
        lw.Uncertainty(task_types=task_types).build([(None,), (None,)])


# Lists ---------------------------------------------------------------------------


def second(output):
    return lw.BranchLoss(SPARSE, of=output, target=output)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_list_of_branches_whose_order_is_not_known(balanced):
    """Whether `losses` began with another output moved the further branch."""
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(3)(x)
    heads = [layers.Dense(2, "softmax", name=name)(hidden) for name in ("a", "b")]
    model = keras.Model(x, heads)

    def build(losses, numbers=(0.1, 0.2, 0.7)):
        if balanced:
            return lw.build_training_model(
                model, losses, balancer=lw.UPGrad(preferences=numbers)
            )
        return lw.build_training_model(model, losses, list(numbers))

    for losses in (
        {"b": SPARSE, "more": second("a"), "a": SPARSE},
        {"more": second("a"), "b": SPARSE, "a": SPARSE},
    ):
        with pytest.raises(ValueError, match="in an unclear order"):
            build(losses)
    # In the outputs' order it is that of `losses`, wherever a further branch stands.
    for losses in (
        {"a": SPARSE, "more": second("a"), "b": SPARSE},
        {"more": second("a"), "a": SPARSE, "b": SPARSE},
    ):
        assert build(losses).branches == list(losses)
    # Without further branches it is that of the outputs, as in Keras.
    assert build({"b": SPARSE, "a": SPARSE}, (0.3, 0.7)).branches == ["a", "b"]
