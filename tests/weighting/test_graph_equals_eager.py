"""A compiled step moves a weighter as an eager one does.

On TensorFlow a graph may read a variable after its own assignment, in some traced
models and not in others (see `lossweigh/weighting/loss_weighter.py`). What lets it
is seen in the optimized graph of one model; a few models are a smoke test.
"""

import functools

import keras
import numpy as np
import pytest
from methods import METHODS, array, every_method_in_one, its_data

import lossweigh as lw

pytestmark = [pytest.mark.compiled, pytest.mark.every_case]

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
STEPS = 4
# Two methods a model on TensorFlow: one of these beside Uncertainty or LossWeighter.
OTHERS = [
    name
    for name in METHODS
    if name not in ("Uncertainty", "LossWeighter", "FixedWeights")
]


def compiled(names, run_eagerly):
    keras.utils.set_random_seed(7)
    # Without the barrier the weight's gradient doesn't depend on the weight: the
    # case in which the order of read and assignment was lost.
    model = every_method_in_one(names, LossWeighter={"barrier": 0})
    model.compile(
        keras.optimizers.Adam(0.05), loss=lw.ignoreLoss, run_eagerly=run_eagerly
    )
    return model


def train(names, run_eagerly):
    """Losses of each step, and all variables after the last."""
    model = compiled(names, run_eagerly)
    losses = []
    for seed in range(STEPS):
        data = its_data(num_rows=4, seed=seed)
        losses.append(model.train_on_batch(data, np.zeros(4, "float32")))
    return np.array(losses), [array(variable) for variable in model.variables]


eagerly = functools.cache(functools.partial(train, run_eagerly=True))


PAIRS = [(("Uncertainty", "LossWeighter")[k % 2], OTHERS[k]) for k in range(6)]


@pytest.mark.parametrize("names", PAIRS if ON_TENSORFLOW else [tuple(METHODS)])
def test_graph_equals_eager(names):
    expected_losses, expected = eagerly(names)
    losses, got = train(names, run_eagerly=False)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4, atol=1e-5)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


if ON_TENSORFLOW:
    from optimized_graphs import unordered_reads

    def test_every_read_has_its_place_before_or_after_an_assignment():
        model = compiled(tuple(METHODS), run_eagerly=False)
        data, zeros = its_data(num_rows=4), np.zeros(4, "float32")
        assert unordered_reads(lambda: model.train_on_batch(data, zeros)) == []
