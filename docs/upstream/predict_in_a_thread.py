"""`predict` in another thread ends `fit` on JAX.

While `fit` runs, Keras keeps the values outside of the variables, and its
steps give the old arrays away. A thread that predicts, such as one that
serves the model, reads a deleted array; or it writes the values back, and
`fit` fails at its next step. Serve a copy of the prediction model, whose
weights a callback sets at the end of each epoch.

    export KERAS_BACKEND=jax
    python docs/upstream/predict_in_a_thread.py
"""

import threading

import keras
import numpy as np

model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dense(64), keras.layers.Dense(1)]
)
model.compile("adam", "mse")
x, y = np.ones((4096, 4), "float32"), np.ones((4096, 1), "float32")
model.fit(x[:32], y[:32], verbose=0)
faults, done = [], threading.Event()


def serve():
    while not done.is_set():
        try:
            model.predict(x[:8], verbose=0)
        except Exception as error:
            faults.append(f"predict: {type(error).__name__}")
            return


thread = threading.Thread(target=serve)
thread.start()
try:
    model.fit(x, y, epochs=20, batch_size=8, verbose=0)
except Exception as error:
    faults.append(f"fit: {type(error).__name__}")
done.set()
thread.join()
print("fails:" if faults else "works", *faults)
