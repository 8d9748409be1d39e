"""A data set can't give a list of targets on TensorFlow.

`fit` stops with "`output_signature` must contain objects that are subclass
of `tf.TypeSpec`" where a generator or a `PyDataset` gives `x, [a, b]`. A
tuple works, and a dict by name, which a training model takes too.

    export KERAS_BACKEND=tensorflow
    python docs/upstream/lists_of_targets.py
"""

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.ones((4, 1)), [np.ones((4, 1)), np.ones((4, 1))]


x = keras.Input((1,))
model = keras.Model(x, [keras.layers.Dense(1)(x) for _ in range(2)])
model.compile("sgd", loss="mse")
try:
    model.fit(Batches(), verbose=0)
    print("works")
except TypeError as error:
    print(str(error)[:90])
