"""`<output>_loss` isn't the mean over the rows on TensorFlow.

Of two batches with 4 rows and 1 row, `loss` is the mean over the 5 rows.
The loss of an output is the mean of the two batches' means on TensorFlow:
the single row counts four times as much as another. The branch losses of
a training model are means over the elements that count, on each backend.

    export KERAS_BACKEND=tensorflow
    python docs/upstream/output_loss_of_partial_batches.py
"""

import keras
import numpy as np

x = keras.Input((1,))
model = keras.Model(
    x, {name: keras.layers.Identity(name=name)(x) for name in "ab"}
)
model.compile(loss={"a": "mse", "b": "mse"})
rows = np.array([[0.0], [0.0], [0.0], [0.0], [1.0]])
zeros = np.zeros((5, 1))
logs = model.evaluate(
    rows,
    {"a": zeros, "b": zeros},
    batch_size=4,
    return_dict=True,
    verbose=0,
)
print(f"a_loss {logs['a_loss']:.3f}, of the rows {1 / 5:.3f}")
print("works" if abs(logs["a_loss"] - 0.2) < 1e-6 else "wrong")
