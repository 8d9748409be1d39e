"""Networks of tanh layers; their derivatives in NumPy and in each backend's words."""

import keras
import numpy as np
from keras import ops

VARIABLES, OUTPUTS = ["t", "x"], ["u", "v"]
FIRST = {f"{u}_{a}": (k, i) for k, u in enumerate("uv") for i, a in enumerate("tx")}
SECOND = {
    f"{name}{a}": (*d, j) for name, d in FIRST.items() for j, a in enumerate("tx")
}
EVERY = {"u": (0,), "v": (1,), **FIRST, **SECOND}


class Exact(keras.layers.Dense):
    """`Dense`, in float64 too.

    There Keras 3.15 multiplies in float32 on torch, and its tanh is float32 on JAX.
    """

    def call(self, inputs):
        kernel, bias = (ops.convert_to_tensor(v) for v in (self.kernel, self.bias))
        value = inputs @ kernel + bias
        if self.activation is keras.activations.linear:
            return value
        if keras.backend.backend() == "jax":
            import jax

            return jax.numpy.tanh(value)
        return ops.tanh(value)


def network(widths=(7, 5), outputs=2, dtype="float32", name="network"):
    """A `Sequential` model of `(batch, 2)`, with weights drawn, biases too."""
    kind = Exact if dtype == "float64" else keras.layers.Dense
    layers = [
        kind(
            size,
            activation="tanh" if index < len(widths) else None,
            kernel_initializer="glorot_normal",
            bias_initializer=keras.initializers.RandomNormal(stddev=0.5),
            dtype=dtype,
        )
        for index, size in enumerate([*widths, outputs])
    ]
    return keras.Sequential([keras.Input((2,), dtype=dtype), *layers], name=name)


def by_names(inner):
    """The same with an input `(batch, 1)` for each variable, and a dict of outputs."""
    t, x = keras.Input((1,), name="t"), keras.Input((1,), name="x")
    both = inner(ops.concatenate([t, x], axis=-1))
    outputs = {"v": both[:, 1:], "u": both[:, :1]}  # not in the order that Keras sorts
    return keras.Model([t, x], outputs, name="by_names")


def points(rows=11, seed=0, dtype="float64"):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, 2)).astype(dtype)


def weights_of(network):
    return [np.array(ops.convert_to_numpy(v), "float64") for v in network.weights]


def oracle(weights, points):
    """All derivatives by name, `(rows, 1)` float64: the chain rule, layer by layer."""
    value = points
    first = [np.broadcast_to(row, points.shape) for row in np.eye(2)]
    second = [[np.zeros_like(points) for _ in range(2)] for _ in range(2)]
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        value = value @ kernel + bias
        first = [one @ kernel for one in first]
        second = [[one @ kernel for one in row] for row in second]
        if bias is weights[-1]:
            break
        value = np.tanh(value)
        slope = 1 - value**2
        bend = -2 * value * slope
        second = [
            [slope * second[i][j] + bend * first[i] * first[j] for j in range(2)]
            for i in range(2)
        ]
        first = [slope * one for one in first]
    of_order = [lambda: value, lambda i: first[i], lambda i, j: second[i][j]]
    return {
        name: of_order[len(by)](*by)[:, output : output + 1]
        for name, (output, *by) in EVERY.items()
        if output < weights[-1].size
    }


def in_numpy(results):
    return {
        name: np.array(ops.convert_to_numpy(value)) for name, value in results.items()
    }


def gradients(function, variables):
    """The value of a scalar function of no argument, and its gradients, in NumPy."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function()
        found = tape.gradient(value, [v.value for v in variables])
    elif backend == "jax":
        import jax

        def of_values(values):
            mapping = zip(variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return function()

        value, found = jax.jit(jax.value_and_grad(of_values))(
            [v.value for v in variables]
        )
    else:
        import torch

        value = function()
        found = torch.autograd.grad(value, [v.value for v in variables])
    return in_numpy({"": value})[""], [in_numpy({"": g})[""] for g in found]


def natively(network, array):
    """`u`, `u_t`, `u_x`, `u_xx` of a network, written for the backend by hand."""
    backend = keras.backend.backend()
    array = ops.convert_to_tensor(array)
    if backend == "tensorflow":
        import tensorflow as tf

        t, x = array[:, :1], array[:, 1:]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch([t, x])
                u = network(tf.concat([t, x], axis=1))
            u_t, u_x = inner.gradient(u, [t, x])
        return u, u_t, u_x, outer.gradient(u_x, x)
    if backend == "jax":
        import jax
        import jax.numpy as jnp

        def of(t, x):
            return network(jnp.concatenate([t, x], axis=1))

        t, x = array[:, :1], array[:, 1:]
        one = jnp.ones_like(x)
        u, u_t = jax.jvp(lambda t: of(t, x), (t,), (one,))
        (_, u_x), (_, u_xx) = jax.jvp(
            lambda x: jax.jvp(lambda x: of(t, x), (x,), (one,)), (x,), (one,)
        )
        return u, u_t, u_x, u_xx
    import torch

    t, x = (column.clone().requires_grad_() for column in array.split(1, dim=1))
    u = network(torch.cat([t, x], dim=1))
    one = torch.ones_like(u)
    u_t, u_x = torch.autograd.grad(u, [t, x], one, create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x, [x], one, create_graph=True)
    return u, u_t, u_x, u_xx
