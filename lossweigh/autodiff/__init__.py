"""What `keras.ops` has no word for: five functions, in one small file a backend.

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

stack(tensors, axis=0) -> tensor
    As `ops.stack`, which on torch holds on to its tensors until Python's garbage
    collector next runs: the walk through a list leaves a circle of functions. For
    large tensors.

weighted_sum(tensors, weights) -> tensor
    `sum_k w_k t_k` in float32, from scalars and tensors of one shape. It isn't
    differentiated, so that torch, which doesn't fuse, may add in place.
"""

import importlib

import keras

_backend = importlib.import_module(f"{__name__}.{keras.backend.backend()}")

custom_gradient = _backend.custom_gradient
vector_jacobian = _backend.vector_jacobian
not_compiled = _backend.not_compiled
stack = _backend.stack
weighted_sum = _backend.weighted_sum

__all__ = [
    "custom_gradient",
    "not_compiled",
    "stack",
    "vector_jacobian",
    "weighted_sum",
]
