"""What `keras.ops` has no word for: three functions, in one small file a backend.

custom_gradient(function, tensors) -> tuple of tensors
    `function(*tensors)` gives a tuple of outputs and a function from their
    gradients to a tuple of the tensors' gradients. (`keras.ops.custom_gradient`
    takes one output on torch.)

vector_jacobian(function, tensors) -> outputs, extras, pull_back
    `function(*tensors)` gives a tuple of outputs and anything else, which
    isn't differentiated. `pull_back(gradients)` takes one gradient an output,
    to one gradient a tensor, and may be called more than once.

not_compiled(function) -> function
    The same, which torch's compiler leaves as it is: it fails on a `vector_jacobian`
    inside of a `custom_gradient`. JAX and TensorFlow compile it as everything.
"""

import importlib

import keras

_backend = importlib.import_module(f"{__name__}.{keras.backend.backend()}")

custom_gradient = _backend.custom_gradient
vector_jacobian = _backend.vector_jacobian
not_compiled = _backend.not_compiled

__all__ = ["custom_gradient", "not_compiled", "vector_jacobian"]
