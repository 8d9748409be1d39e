"""`Messenger`: what the forward pass tells a balancer's backward pass."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _backend


@keras.saving.register_keras_serializable(package="lossweigh")
class Messenger(keras.layers.Layer):
    """Tells the balancer, in the backward pass, the branch losses and the loss scale.

    Call arguments:
        inputs: A list of the weighted loss `(batch,)`, the balancer's messenger
            `(K + 1,)` and the K branch losses `(batch,)`.

    Returns:
        The weighted loss as it is. The messenger's gradient is the means of the
        branch losses, followed by the sum of the weighted loss's gradient, which
        is 1 but for loss scaling and distribution.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs: Any) -> Any:
        weighted, message, *losses = inputs
        means = ops.stop_gradient(ops.mean(_backend.stack(losses), axis=-1))

        def function(weighted: Any, message: Any, means: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                scale = ops.reshape(ops.sum(upstream), (1,))
                told = ops.concatenate([means, scale])
                return upstream, told, ops.zeros_like(means)

            return (weighted,), gradient

        (weighted,) = _backend.custom_gradient(function, [weighted, message, means])
        return weighted

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]
