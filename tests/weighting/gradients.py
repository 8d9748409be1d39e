"""The gradient of a weighter's total with respect to its losses, per backend."""

import keras
import numpy as np
from keras import ops


def total_and_gradients(weighter, losses, training=True):
    """One call's mean total, and its gradients; state moves as in a real step.

    Args:
        weighter: Any weighter.
        losses: NumPy array `(K, batch)`.

    Returns:
        A float and an array `(K, batch)`.
    """
    rows = [np.asarray(row, "float32") for row in losses]
    if not weighter.built:
        weighter.build([row.shape for row in rows])
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(row) for row in rows]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            total = ops.mean(weighter(tensors, training=training))
        gradients = tape.gradient(total, tensors)
    elif backend == "jax":
        import jax

        def function(tensors):
            outputs, moved = weighter.stateless_call(
                [v.value for v in weighter.trainable_variables],
                [v.value for v in weighter.non_trainable_variables],
                tensors,
                training=training,
            )
            return ops.mean(outputs), moved

        differentiate = jax.value_and_grad(function, has_aux=True)
        (total, moved), gradients = differentiate([ops.array(row) for row in rows])
        for variable, value in zip(
            weighter.non_trainable_variables, moved, strict=True
        ):
            variable.assign(value)
    else:
        tensors = [ops.convert_to_tensor(row).requires_grad_() for row in rows]
        total = ops.mean(weighter(tensors, training=training))
        total.backward()
        gradients = [tensor.grad for tensor in tensors]
    return float(ops.convert_to_numpy(total)), np.stack(
        [ops.convert_to_numpy(gradient) for gradient in gradients]
    )


def numeric_gradient(function, point, step=1e-3):
    """Central differences of a scalar function of a vector, in float64."""
    point = np.asarray(point, "float64")
    result = np.empty_like(point)
    for index in range(point.size):
        move = np.zeros_like(point)
        move[index] = step
        result[index] = (function(point + move) - function(point - move)) / (2 * step)
    return result
