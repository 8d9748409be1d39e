"""The gradients of each branch's loss by the backend's own differentiation."""

import keras
import numpy as np
from keras import ops


def gradients(model, x, losses, training=True):
    """For each loss a dict from a variable's path to its gradient, in NumPy.

    Args:
        model: A prediction model.
        x: What it takes, one batch.
        losses: For each branch a function from the model's outputs to a scalar.
        training: As for the model's call.
    """
    backend = keras.backend.backend()
    variables = model.trainable_variables
    found = []
    for loss in losses:
        if backend == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                value = loss(model(x, training=training))
            grads = tape.gradient(value, [v.value for v in variables])
        elif backend == "jax":
            import jax

            others = [v.value for v in model.non_trainable_variables]

            def of_values(values, loss=loss, others=others):
                outputs, _ = model.stateless_call(values, others, x, training=training)
                return loss(outputs)

            grads = jax.grad(of_values)([v.value for v in variables])
        else:
            import torch

            value = loss(model(ops.convert_to_tensor(x), training=training))
            grads = torch.autograd.grad(
                value, [v.value for v in variables], allow_unused=True
            )
        found.append(
            {
                variable.path: np.zeros(variable.shape)
                if grad is None
                else np.array(ops.convert_to_numpy(grad), "float64")
                for variable, grad in zip(variables, grads, strict=True)
            }
        )
    return found


def norms_and_cosines(found):
    """Of what several branches have a gradient of: `(K,)` and `(K, K)`."""
    paths = [path for path in found[0] if sum(np.any(each[path]) for each in found) > 1]
    rows = np.array([np.concatenate([e[p].ravel() for p in paths]) for e in found])
    norms = np.linalg.norm(rows, axis=1)
    return norms, rows @ rows.T / np.outer(norms, norms), paths
