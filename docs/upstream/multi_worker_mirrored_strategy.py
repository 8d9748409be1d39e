"""`fit` under `MultiWorkerMirroredStrategy` fails in Keras 3.

Two workers on one machine show it. With a single worker it works.
lossweigh can't mend it: for several machines use `keras.distribution` on
JAX, or `DistributedDataParallel` on torch.

    export KERAS_BACKEND=tensorflow
    python docs/upstream/multi_worker_mirrored_strategy.py
"""

import json
import os
import socket
import sys

sockets = [socket.socket(), socket.socket()]
for one in sockets:
    one.bind(("localhost", 0))
workers = [f"localhost:{one.getsockname()[1]}" for one in sockets]
for one in sockets:
    one.close()
rank = 0 if os.fork() else 1
os.environ["TF_CONFIG"] = json.dumps(
    {
        "cluster": {"worker": workers},
        "task": {"type": "worker", "index": rank},
    }
)

import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
try:
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = np.ones((8, 4)), np.ones((8, 1))
    model.fit(x, y, batch_size=4, verbose=0)
except Exception as error:
    result = f"fails: {type(error).__name__} {str(error).splitlines()[0]}"
else:
    result = "works"
if rank == 0:
    print(result)
    sys.stdout.flush()
os._exit(0)
