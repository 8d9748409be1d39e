"""`LossTap`: what the forward pass tells a balancer's backward pass."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _replicas


@keras.saving.register_keras_serializable(package="lossweigh")
class LossTap(keras.layers.Layer):
    """Tells the balancer, in the backward pass, the branch losses and the loss scale.

    Call arguments:
        inputs: A list of the weighted loss `(batch,)`, the tap `(K + 1,)` that a
            `BalancedModel` gave, and the K branch losses `(batch,)`.

    Returns:
        The weighted loss, unchanged. The tap's gradient holds the means of the branch
        losses and the sum of the weighted loss's gradient, which is 1 except under loss
        scaling and distribution.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs: Any) -> Any:
        weighted, tap, *losses = inputs
        means = ops.stop_gradient(ops.mean(_backend.stack(losses), axis=-1))
        means = ops.cast(means, "float32")

        def function(weighted: Any, tap: Any, means: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                scale = ops.reshape(ops.cast(ops.sum(upstream), "float32"), (1,))
                told = ops.concatenate([means, scale])
                return upstream, told, ops.zeros_like(means)

            return (weighted,), gradient

        (weighted,) = _backend.custom_gradient(function, [weighted, tap, means])
        return weighted

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


def open_tap(num_branches: int) -> Any:
    """`(K + 1,)` zeros, whose gradient tells what `LossTap` says."""
    return ops.zeros((num_branches + 1,), "float32")


def read_tap(gradient: Any) -> tuple[Any, Any]:
    """The branch losses `(K,)` and the loss scale, 1 where no `LossTap` told one.

    The losses are those of the whole batch, if replicas have a part of it each.
    """
    losses, scale = _replicas.mean(gradient[:-1]), gradient[-1]
    return losses, ops.where(scale > 0, scale, ops.ones_like(scale))
