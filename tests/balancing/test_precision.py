"""Gramians and weights are found in whole float32 products, not in TF32 or bfloat16."""

import keras
import numpy as np
from gramians import METHODS, array, make, sizes_of
from keras import ops

from lossweigh import _backend
from lossweigh.gradients import statistics
from lossweigh.gradients.written_out import WrittenOut

RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(12, 64, 512)).astype("float32")


def gramian(gradients):
    """Of all, and of some that others don't share."""
    one, two, three = gradients[9:]
    partly = [WrittenOut((0, 1), [one, two]), WrittenOut((1, 2), [one, three])]
    return (
        statistics.gramian([WrittenOut(tuple(range(9)), gradients[:9])], 9),
        statistics.gramian(partly, 3),
    )


def functions():
    """Everything that a step multiplies matrices in, with its arguments."""
    square = np.cov(RNG.normal(size=(5, 9))).astype("float32")
    yield gramian, list(GRADIENTS)
    for name in METHODS:
        num = max(sizes_of(name, (2, 5)))
        yield make(name).solve, square[:num, :num]


def jax_is_told(monkeypatch):
    import jax

    told = 0
    for function, given in functions():
        program = str(jax.make_jaxpr(function)(given))
        products = [line for line in program.splitlines() if "dot_general" in line]
        assert program.count("dot_general") == program.count("HIGHEST,"), products
        told += len(products)
    assert told > 9


def tensorflow_with_a_gpu_multiplies_in_float64(monkeypatch):
    """A GPU that isn't there: what counts is which products would run on it."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    found = 0
    for function, given in functions():
        given = keras.tree.map_structure(tf.constant, given)
        graph = tf.function(function).get_concrete_function(given).graph
        bodies = [graph, *(f.graph for f in graph._functions.values())]
        for operation in (op for body in bodies for op in body.get_operations()):
            if "MatMul" in operation.type:
                assert operation.get_attr("T") == tf.float64, operation.name
                found += 1
    assert found > 9


def torch_is_kept_from_fewer_digits(monkeypatch):
    import torch

    a, b = torch.as_tensor(GRADIENTS[0]), torch.as_tensor(GRADIENTS[1].T)
    expected = (a.double() @ b.double()).float()
    torch.set_float32_matmul_precision("medium")
    try:
        product = _backend.float32_product(a, b)
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(product, expected, rtol=0, atol=0)


def test_the_backend_is_kept_from_fewer_digits(monkeypatch):
    {
        "jax": jax_is_told,
        "tensorflow": tensorflow_with_a_gpu_multiplies_in_float64,
        "torch": torch_is_kept_from_fewer_digits,
    }[keras.backend.backend()](monkeypatch)


def test_the_product():
    a, b = GRADIENTS[:3], GRADIENTS[3:6].transpose(0, 2, 1)
    found = array(
        _backend.float32_product(ops.convert_to_tensor(a), ops.convert_to_tensor(b))
    )
    np.testing.assert_allclose(found, a.astype(float) @ b, rtol=1e-4, atol=1e-4)
