"""What `keras.ops` has no word for: thirteen functions, in one small file a backend.

custom_gradient(function, tensors) -> tuple of tensors
    `function(*tensors)` gives a tuple of outputs and a function from their
    gradients to a tuple of the tensors' gradients. (`keras.ops.custom_gradient`
    takes one output on torch.)

vector_jacobian(function, tensors) -> outputs, extras, pull_back
    `function(*tensors)` gives a tuple of outputs and anything else, which
    isn't differentiated. `pull_back(several)` takes, several times, one gradient an
    output to one gradient a tensor, and may be called more than once.

not_compiled(function) -> function
    The same, which torch's compiler leaves as it is: it fails on a `vector_jacobian`
    inside of a `custom_gradient`. JAX and TensorFlow compile it as everything.

elementwise(function, tensors) -> tensor
    `function(*tensors)`, from tensors of one shape to another of it, where each element
    depends on the tensors' elements at its place only. Large ones are taken in pieces,
    for what is between them needs room; XLA keeps that in registers anyway. The last
    tensor is given up: on torch the result is written in its place. It isn't
    differentiated.

ensure_shape(tensor, shape) -> tensor
    The same. TensorFlow may trace a function for tensors some of whose sizes aren't
    known, and there compares them with the shape as it runs. Elsewhere they are known.

float32_product(a, b) -> tensor
    `a @ b` of float32, with all its digits: accelerators may multiply float32 in
    TF32, which has three, and TensorFlow and JAX let them unless told otherwise.

thin_product(a, b) -> tensor
    `a' b`, of few columns. It isn't differentiated. XLA and torch take a dozen times
    longer, at worst, for `a' b` on processors than for `b' a`, and XLA turns the one
    into the other unless it is kept from it.

raise_unless(condition, message)
    A `ValueError` with the message unless the condition, a scalar, is true. Inside of
    what is compiled it comes as the backend's own kind of error, when it runs.

replicas() -> int
    How many copies of a model are trained side by side on parts of a batch without
    knowing of each other. JAX's arrays are whole ones: 1.

squared_norm(tensor) -> scalar
    The sum of the squares, in float32, by what reads a tensor once and writes nothing.

stack(tensors, axis=0) -> tensor
    As `ops.stack`, of tensors of one dtype. On torch that one takes twenty times as
    long, and holds on to its tensors until Python's garbage collector next runs: its
    walk through the list leaves a circle of functions.

uniform(shape, generator) -> tensor
    float32 numbers between 0 and 1, drawn with a `keras.random.SeedGenerator`. As
    `keras.random.uniform`, which on JAX works on four arrays of that size at once on
    processors.

stateless -> bool
    Whether a compiled step is a function of all variables to their next values.

fuses_elementwise -> bool
    Whether operations on single elements cost nothing beside what they are fused with.

weighted_sum(tensors, weights) -> tensor
    `sum_k w_k t_k` in float32, from scalars and tensors of one shape. It isn't
    differentiated, so that torch, which doesn't fuse, may add in place.
"""

import importlib

import keras

_functions = importlib.import_module(f"{__name__}.{keras.backend.backend()}")

custom_gradient = _functions.custom_gradient
vector_jacobian = _functions.vector_jacobian
not_compiled = _functions.not_compiled
ensure_shape = _functions.ensure_shape
elementwise = _functions.elementwise
float32_product = _functions.float32_product
thin_product = _functions.thin_product
raise_unless = _functions.raise_unless
replicas = _functions.replicas
squared_norm = _functions.squared_norm
stack = _functions.stack
uniform = _functions.uniform
weighted_sum = _functions.weighted_sum
stateless = _functions.stateless
fuses_elementwise = _functions.fuses_elementwise

__all__ = [
    "custom_gradient",
    "elementwise",
    "ensure_shape",
    "float32_product",
    "fuses_elementwise",
    "not_compiled",
    "raise_unless",
    "replicas",
    "squared_norm",
    "stack",
    "stateless",
    "thin_product",
    "uniform",
    "vector_jacobian",
    "weighted_sum",
]
