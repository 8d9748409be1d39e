"""A weighter is printed with its weights by name, in any state."""

import keras
import numpy as np
import pytest
from keras import ops
from methods import METHODS, make, rows, weights

import lossweigh as lw

TRACES = keras.backend.backend() in ("tensorflow", "jax")


def bound(weighter, branches):
    weighter.bind(branches, ["regression"] * len(branches))
    weighter(rows(*range(1, len(branches) + 1)))
    return weighter


@pytest.mark.once
@pytest.mark.parametrize("name", METHODS)
def test_before_it_is_built_what_differs_from_the_defaults_is_shown(name):
    assert repr(getattr(lw, name)()) == f"{name}()"
    given = METHODS[name].arguments
    shown = repr(make(name))
    assert shown.startswith(f"{name}(")
    arguments = shown.removeprefix(f"{name}(").removesuffix(")")
    expected = {f"{key}={value!r}" for key, value in given.items()}
    assert set(filter(None, arguments.split(", "))) == expected


@pytest.mark.parametrize("name", METHODS)
def test_the_weights_are_shown_by_name(name):
    weighter = bound(getattr(lw, name)(), ["zeta", "alpha"])
    (shown,) = [eval(repr(weighter), {name: lambda **given: given})]
    assert list(shown) == ["weights"]
    assert list(shown["weights"]) == ["zeta", "alpha"]
    np.testing.assert_allclose(
        list(shown["weights"].values()), weights(weighter), rtol=5e-4
    )


@pytest.mark.once
def test_examples():
    fixed = lw.FixedWeights({"box": 30.0, "label": 1 / 3})
    assert repr(fixed) == f"FixedWeights(weights={{'box': 30.0, 'label': {1 / 3}}})"
    bound(fixed, ["box", "label"])
    assert repr(fixed) == "FixedWeights(weights={'box': 30.0, 'label': 0.3333})"
    fixed.assign({"label": 2.0})
    assert repr(fixed) == "FixedWeights(weights={'box': 30.0, 'label': 2.0})"
    by_hand = lw.LossWeighter(barrier=0, initial_weights=[1, 3])
    by_hand(rows(1.0, 2.0))
    shown = "weights=[0.25, 0.75], initial_weights=[1.0, 3.0], barrier=0.0"
    assert repr(by_hand) == f"LossWeighter({shown})"
    learned = bound(lw.RevisedUncertainty(learning_rate=0.1), ["box", "label"])
    shown = "weights={'box': 0.5, 'label': 0.5}, learning_rate=0.1"
    assert repr(learned) == f"RevisedUncertainty({shown})"


@pytest.mark.compiled
@pytest.mark.parametrize("weighter", [lw.RevisedUncertainty(), lw.LossWeighter()])
def test_in_a_traced_step(weighter):
    seen = []

    def loss(y_true, y_pred):
        seen.append(repr(weighter))
        return ops.mean(ops.square(y_pred - y_true), axis=-1)

    x = keras.Input((2,))
    heads = {name: keras.layers.Dense(1, name=name)(x) for name in ("a", "b")}
    prediction = keras.Model(x, heads)
    training = lw.build_training_model(prediction, {"a": loss, "b": "mse"}, weighter)
    training.compile("adam")
    seen.clear()
    ones = np.ones((4, 1))
    training.fit(np.ones((4, 2)), {"a": ones, "b": ones}, verbose=0)
    name = type(weighter).__name__
    known, unknown = (
        f"{name}(weights={{'a': ",
        f"{name}(weights=<not known in a traced step>)",
    )
    assert all(shown == unknown or shown.startswith(known) for shown in seen)
    assert (unknown in seen) == TRACES
    assert repr(weighter).startswith(f"{name}(weights={{'a': ")


class Odd(lw.Weighter):
    """A user's weighter, about which all may fail."""

    def __init__(self, needed, **kwargs):
        super().__init__(**kwargs)
        self.needed = needed

    @property
    def loss_weights(self):
        return ops.ones((7,))

    def combine(self, losses, labelled, training):
        return losses[0]

    def get_config(self):
        raise ValueError("no config")


@pytest.mark.once
def test_it_never_fails():
    half_made = lw.LossWeighter.__new__(lw.LossWeighter)
    assert repr(half_made) == "LossWeighter()"
    odd = Odd(needed=3)
    assert repr(odd) == "Odd()"
    assert repr(bound(odd, ["a", "b"])).startswith("Odd(weights=<not known")
