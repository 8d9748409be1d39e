"""Loss scaling where a model computes in float16."""

from __future__ import annotations

from typing import Any

import keras

from lossweigh._structure import every_layer


def scaled_in_float16(optimizer: Any, model: keras.Model) -> Any:
    """The optimizer, which scales the loss if the model computes in float16.

    `keras.Model.compile` looks at the model's policy alone. A training model's policy
    is float32, and a loaded model has the policy of the program that loads it. So this
    looks at the layers too.

    Args:
        optimizer: A Keras optimizer.
        model: The prediction model.
    """
    if optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    layers = (model, *every_layer(model))
    if all(layer.dtype_policy.name != "mixed_float16" for layer in layers):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
