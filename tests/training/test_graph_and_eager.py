"""A TensorFlow graph trains as eager execution does, with a weight that is learned.

In some traced models TensorFlow reads such a weight after its own update (see
`lossweigh/weighting/loss_weighter.py`). What lets it is that the optimized graph has
no path from the read to the update, and that is the same in each traced model: it is
asserted. A few models are trained too, as a smoke test.
"""

import keras
import numpy as np
import pytest
from balanced_nets import Uneven
from keras import layers, ops

import lossweigh as lw

pytestmark = [pytest.mark.compiled, pytest.mark.every_case]

MODELS, STEPS = 6, 3
X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


# Adam's first step is as long for every branch, which a simplex takes back.
OPTIMIZERS = {2: keras.optimizers.Adam, 3: keras.optimizers.SGD}


def two_or_three(num_branches, weighter, run_eagerly):
    """A compiled training model of linear branches, and its targets."""
    x = keras.Input((3,), name="x")
    names = [f"branch_{index}" for index in range(num_branches)]
    model = keras.Model(x, {name: layers.Dense(1, name=name)(x) for name in names})
    training = lw.build_training_model(model, dict.fromkeys(names, "mse"), weighter)
    training.compile(OPTIMIZERS[num_branches](0.05), run_eagerly=run_eagerly)
    return training, {name: (k + 1) * X[:, :1] for k, name in enumerate(names)}


def trained(num_branches, seed, run_eagerly):
    """Each step's logs, and the numbers after the last."""
    keras.utils.set_random_seed(seed)
    weighter = lw.LossWeighter(barrier=0)
    training, y = two_or_three(num_branches, weighter, run_eagerly)
    numbers = []
    for _ in range(STEPS):
        training.reset_metrics()
        logs = training.train_on_batch(X, y, return_dict=True)
        numbers += [float(logs[name]) for name in sorted(logs)]
    for weights in training.get_weights():
        numbers += np.ravel(weights).tolist()
    return np.array(numbers), ops.convert_to_numpy(weighter.loss_weights)


class Literal(lw.Weighter):
    """`w L1 + (1 - w) L2` as everybody writes it, without `LossWeighter`'s cure."""

    def build(self, input_shape):
        super().build(input_shape)
        self.weight = self.add_weight(shape=(), initializer="ones")

    @property
    def loss_weights(self):
        return ops.ones((2,))

    def combine(self, losses, labelled, training):
        weight = self.weight * 1.0
        return weight * losses[0] + (1.0 - weight) * losses[1]


def noisy():
    """Layers with state and with seeds, in the trunk and in a head."""
    x = keras.Input((3,), name="x")
    hidden = layers.BatchNormalization()(layers.Dense(4, activation="tanh")(x))
    hidden = layers.Dropout(0.3, seed=5)(hidden)
    head = layers.Dropout(0.3, seed=6)(layers.BatchNormalization()(hidden))
    z = layers.Dense(1, name="z", kernel_regularizer="l2")(head)
    return keras.Model(x, {"z": z, "b": layers.Dense(1, name="b")(hidden)})


BALANCERS = {
    "state": lambda: lw.GradNorm(),
    "draws": lambda: lw.GradDrop(seed=1),
    "parameters": lambda: lw.NormBalancer(level="parameters"),
    "kept weights and draws": lambda: lw.PCGrad(seed=1),
    "calibrated": lambda: Uneven(level=lw.Calibrated(update_every=2)),
}

if keras.backend.backend() == "tensorflow":
    from optimized_graphs import unordered_reads

    @pytest.mark.parametrize("num_branches", [2, 3])
    def test_traced_models_train_as_in_eager_mode(num_branches):
        for seed in range(MODELS):
            expected, weights = trained(num_branches, seed, run_eagerly=True)
            numbers, _ = trained(num_branches, seed, run_eagerly=False)
            # Far enough that a wrong read would show.
            assert abs(weights - 1 / num_branches).max() > 5e-3
            np.testing.assert_allclose(numbers, expected, atol=1e-4)

    @pytest.mark.parametrize("barrier", [0, 0.5])
    @pytest.mark.parametrize("num_branches", [2, 3])
    def test_a_learned_weight_is_read_before_its_update(num_branches, barrier):
        weighter = lw.LossWeighter(barrier=barrier)
        training, y = two_or_three(num_branches, weighter, run_eagerly=False)
        assert unordered_reads(lambda: training.train_on_batch(X, y)) == []

    def test_a_weight_without_the_cure_is_found():
        training, y = two_or_three(2, Literal(), run_eagerly=False)
        (read,) = unordered_reads(lambda: training.train_on_batch(X, y))
        assert "AssignSubVariableOp" in read

    @pytest.mark.parametrize("balancer", BALANCERS)
    def test_state_and_seeds_are_read_before_their_update(balancer):
        training = lw.build_training_model(
            noisy(), {"z": "mse", "b": "mse"}, balancer=BALANCERS[balancer]()
        )
        training.compile(keras.optimizers.SGD(0.05), metrics={"z": ["mae"]})
        y = {"z": X[:, :1], "b": X[:, 1:2]}
        assert unordered_reads(lambda: training.train_on_batch(X, y)) == []
