"""Two devices give what one gives; tests for the backends that have such a thing.

The number of devices is set before the backend starts, so each runs in a process
of its own.
"""

import json

import fresh
import keras
import pytest

# Prints the history and the trained numbers of one device, then of two.
COMPARE = """
import contextlib, json, os, sys
import numpy as np
sys.path.insert(0, "tests/training")
{before}
import keras
from nets import LOSSES, arrays, copy_of, sample_weights, two_heads
import lossweigh as lw

x, y = arrays(16)
weights = sample_weights(16)
weights["alpha"] += 0.5
if {balancer} is not None:
    # Each replica balances its own half of a batch: let the halves be the same.
    halves = np.concatenate([np.r_[i : i + 4, i : i + 4] for i in (0, 4)])
    x, y = x[halves], {{name: values[halves] for name, values in y.items()}}
    weights = {{name: values[halves] for name, values in weights.items()}}

def fit(start, in_force):
    with in_force:
        model = two_heads(regularised={balancer} is None)
        if start is not None:
            model.set_weights(start)
        start = model.get_weights()
        training = lw.build_training_model(
            model, LOSSES, lw.LossWeighter(), {balancer}
        )
        training.compile(keras.optimizers.SGD(0.1), metrics={{"zeta": ["mae"]}})
    history = training.fit(
        x, y, sample_weight=weights, class_weight={{"alpha": {{1: 2.0}}}},
        validation_data=(x, y), batch_size=8, epochs=2, shuffle=False, verbose=0,
    )
    values = [float(np.sum(w)) for w in training.get_weights()]
    return start, history.history, values

start, history, values = fit(None, contextlib.nullcontext())
print(json.dumps([history, values]))
_, history, values = fit(start, {two}())
print(json.dumps([history, values]))
"""

MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)

def mirrored():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy.scope()
"""

DATA_PARALLEL = """
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

def data_parallel():
    devices = keras.distribution.list_devices()
    assert len(devices) == 2
    return keras.distribution.DataParallel(devices=devices).scope()
"""


BALANCERS = ["None", "lw.UPGrad()", "lw.NashMTL(level='parameters', update_every=2)"]


def assert_two_equal_one(before, two, balancer):
    output = fresh.run(COMPARE.format(before=before, two=two, balancer=balancer))
    (history, values), (of_two, values_of_two) = (
        json.loads(line) for line in output.splitlines() if line.startswith("[")
    )
    assert {"loss", "val_loss", "zeta_mae", "alpha_weight"} < history.keys()
    assert of_two.keys() == history.keys()
    for name, numbers in history.items():
        assert of_two[name] == pytest.approx(numbers, abs=1e-5), name
    assert values_of_two == pytest.approx(values, abs=1e-4)


if keras.backend.backend() == "tensorflow":

    @pytest.mark.parametrize("balancer", BALANCERS)
    def test_mirrored_strategy(balancer):
        assert_two_equal_one(MIRRORED, "mirrored", balancer)


if keras.backend.backend() == "jax":

    @pytest.mark.parametrize("balancer", BALANCERS)
    def test_data_parallel(balancer):
        assert_two_equal_one(DATA_PARALLEL, "data_parallel", balancer)
