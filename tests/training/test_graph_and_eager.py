"""A TensorFlow graph trains as eager execution does, with a weight that is learned.

In some freshly traced models TensorFlow reads such a weight after its own update
(see `lossweigh/weighting/base.py`), so it takes many of them to tell.
"""

import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw

MODELS, STEPS = 60, 3
X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


# Adam's first step is as long for every branch, which a simplex takes back.
OPTIMIZERS = {2: keras.optimizers.Adam, 3: keras.optimizers.SGD}


def trained(num_branches, seed, run_eagerly):
    """Each step's logs, and the numbers after the last."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((3,), name="x")
    names = [f"branch_{index}" for index in range(num_branches)]
    model = keras.Model(x, {name: layers.Dense(1, name=name)(x) for name in names})
    losses = dict.fromkeys(names, "mse")
    training = lw.build_training_model(model, losses, lw.LossWeighter(barrier=0))
    training.compile(OPTIMIZERS[num_branches](0.05), run_eagerly=run_eagerly)
    y = {name: (index + 1) * X[:, :1] for index, name in enumerate(names)}
    numbers = []
    for _ in range(STEPS):
        training.reset_metrics()
        logs = training.train_on_batch(X, y, return_dict=True)
        numbers += [float(logs[name]) for name in sorted(logs)]
    for weights in training.get_weights():
        numbers += np.ravel(weights).tolist()
    return np.array(numbers), ops.convert_to_numpy(training.weighter.loss_weights)


def count_of_differing_models(num_branches):
    differing = 0
    for seed in range(MODELS):
        expected, weights = trained(num_branches, seed, run_eagerly=True)
        numbers, _ = trained(num_branches, seed, run_eagerly=False)
        assert abs(weights - 1 / num_branches).max() > 5e-3  # a wrong read would show
        differing += not np.allclose(numbers, expected, atol=1e-4)
    return differing


if keras.backend.backend() == "tensorflow":

    def test_two_branches():
        assert count_of_differing_models(2) == 0

    def test_three_branches():
        assert count_of_differing_models(3) == 0
