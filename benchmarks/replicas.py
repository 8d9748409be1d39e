"""What it costs that several replicas add up: a step on two CPU devices, TensorFlow.

    KERAS_BACKEND=tensorflow python benchmarks/replicas.py

Native Keras, fixed weights, weighters and balancers under one `MirroredStrategy` of
two devices, interleaved in one run; medians, and the ratios to native Keras.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import lossweigh as lw

ROWS, FEATURES, UNITS = 256, 64, 256
BRANCHES = ("a", "b", "c")
METHODS = {
    "fixed weights": {},
    "missing labels": {"missing": "nan"},
    "Uncertainty": {"weighter": lw.Uncertainty},
    "FAMO": {"weighter": lw.FAMO},
    "UPGrad, representation": {"balancer": lw.UPGrad},
    "UPGrad, parameters": {"balancer": lambda: lw.UPGrad(level="parameters")},
}


def network():
    x = keras.Input((FEATURES,))
    hidden = x
    for _ in range(4):
        hidden = layers.Dense(UNITS, activation="relu")(hidden)
    return keras.Model(
        x, {name: layers.Dense(4, name=name)(hidden) for name in BRANCHES}
    )


def models():
    """By name: native Keras, and a training model of each method."""
    native = network()
    native.compile("sgd", dict.fromkeys(BRANCHES, "mse"))
    found = {"native Keras": native}
    for name, options in METHODS.items():
        missing = options.get("missing")
        losses = {branch: lw.BranchLoss("mse", missing=missing) for branch in BRANCHES}
        weighter = options.get("weighter", lw.FixedWeights)()
        balancer = options["balancer"]() if "balancer" in options else None
        training = lw.build_training_model(network(), losses, weighter, balancer)
        training.compile("sgd")
        found[name] = training
    return found


def main(arguments=None):
    """Prints the table; returns the ratios by name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--short", action="store_true", help="does it run?")
    options = parser.parse_args(arguments)
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    random = np.random.default_rng(0)
    steps = 2 if options.short else 20
    x = random.normal(size=(steps * ROWS, FEATURES)).astype("float32")
    y = {name: random.normal(size=(len(x), 4)).astype("float32") for name in BRANCHES}
    with strategy.scope():
        built = models()
    seconds = {name: [] for name in built}
    for number in range(2 if options.short else options.rounds + 1):
        for name, model in built.items():
            began = time.perf_counter()
            model.fit(x, y, batch_size=ROWS, verbose=0)
            if number:  # the first one compiles
                seconds[name].append((time.perf_counter() - began) / steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: value / medians["native Keras"] for name, value in medians.items()}
    for name, values in seconds.items():
        spread = (max(values) - min(values)) / medians[name]
        print(
            f"{name:24} {1e3 * medians[name]:7.2f} ms  {ratios[name]:5.2f}"
            f"  spread {spread:.0%}"
        )
    return ratios


if __name__ == "__main__":
    main()
