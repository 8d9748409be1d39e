"""Two `MirroredStrategy` objects in one process mix up their sums.

TensorFlow numbers the sums of each strategy from 1, and remembers the
shape of each number for the whole process. So the second strategy's first
sum must have the shape of the first one's. A notebook whose cell makes a
strategy fails when the cell runs again with a model of another size. Make
one strategy in a process.

    export KERAS_BACKEND=tensorflow
    python docs/upstream/two_strategies.py
"""

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)


def fit(units):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(units)]
        )
        model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, units)), verbose=0)


fit(1)
try:
    fit(3)
except Exception as error:
    print("fails:", type(error).__name__, str(error).splitlines()[0])
else:
    print("works")
