"""What every loss is tested with: gradients, a reload, a compiled model."""

import inspect
import json

import keras
import numpy as np
from keras import ops


def value_and_gradients(function, *arrays):
    """A loss's values, and the gradient of their sum for each array.

    Args:
        function: Tensors, one for each array, to values of any shape.
        *arrays: NumPy arrays.

    Returns:
        The values and a list of gradients, NumPy arrays.
    """
    return differentiable(function, len(arrays))(*arrays)


def differentiable(function, number):
    """The same as a function of the arrays, which may be called several times."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def differentiate(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                values = function(*tensors)
                total = ops.sum(values)
            zero = tf.UnconnectedGradients.ZERO
            return values, tape.gradient(total, tensors, unconnected_gradients=zero)

    elif backend == "jax":
        import jax

        def total(*tensors):
            values = function(*tensors)
            return ops.sum(values), values

        every = tuple(range(number))
        # Compiled as a whole, which takes less time than operation by operation.
        gradients_of = jax.jit(jax.grad(total, argnums=every, has_aux=True))

        def differentiate(*tensors):
            return gradients_of(*tensors)[::-1]

    else:

        def differentiate(*tensors):
            tensors = [tensor.requires_grad_() for tensor in tensors]
            values = function(*tensors)
            ops.sum(values).backward()
            return values, [tensor.grad for tensor in tensors]

    def of_arrays(*arrays):
        values, gradients = differentiate(*[ops.array(a, "float32") for a in arrays])
        return array_of(values), [array_of(gradient) for gradient in gradients]

    return of_arrays


def numeric_gradient(function, *arrays, step=1e-6):
    """Central differences of the sum of a NumPy function, in float64."""
    gradients = []
    arrays = [np.array(array, "float64") for array in arrays]
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            before = array[index]
            array[index] = before + step
            above = np.sum(function(*arrays))
            array[index] = before - step
            below = np.sum(function(*arrays))
            array[index] = before
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients


def check(function, oracle, *shapes):
    """Values and gradients are those of a NumPy function in float64, when drawn."""
    both = differentiable(function, len(shapes))
    for seed in range(3):
        arrays = drawn(*shapes, seed=seed)
        values, gradients = both(*arrays)
        arrays = [array.astype("float64") for array in arrays]
        np.testing.assert_allclose(values, oracle(*arrays), rtol=1e-5, atol=1e-5)
        numeric = numeric_gradient(oracle, *arrays)
        for got, expected in zip(gradients, numeric, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)


def reloaded(thing):
    """From its config, by way of JSON; every argument must be in the config."""
    serialized = keras.saving.serialize_keras_object(thing)
    arguments = set(inspect.signature(type(thing).__init__).parameters)
    assert arguments - {"self", "args", "kwargs"} <= set(serialized["config"])
    assert serialized["registered_name"] == f"lossweigh>{type(thing).__name__}"
    other = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    assert type(other) is type(thing)
    assert other.get_config() == thing.get_config()
    return other


def compiled(function, shapes, dtypes=None):
    """A function of a list of tensors as a model of unknown batch size, compiled."""
    dtypes = dtypes or ["float32"] * len(shapes)
    inputs = [
        keras.Input(shape[1:], dtype=dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    model = keras.Model(inputs, function(inputs))
    # Where the step is a graph, XLA must take it too.
    jit = True if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(jit_compile=jit)
    return lambda arrays: model.predict_on_batch([np.asarray(a) for a in arrays])


def array_of(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def drawn(*shapes, seed=0):
    """Normal numbers, one array a shape."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]
