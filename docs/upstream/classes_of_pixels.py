"""Class indices of pixels can't be learned from probabilities on torch.

The loss is computed, and its gradient fails: "grad_input must be
contiguous". `from_logits=True` works. A training model gives Keras's loss
all pixels of an image in one axis.

    export KERAS_BACKEND=torch
    python docs/upstream/classes_of_pixels.py
"""

import keras
import numpy as np

image = keras.Input((4, 4, 1))
classes = keras.layers.Dense(3, activation="softmax")(image)
model = keras.Model(image, classes)
model.compile("sgd", loss="sparse_categorical_crossentropy")
try:
    model.train_on_batch(np.ones((2, 4, 4, 1)), np.ones((2, 4, 4)))
    print("works")
except RuntimeError as error:
    print(error)
