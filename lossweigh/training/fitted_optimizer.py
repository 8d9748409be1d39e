"""The optimizer of a training model."""

from __future__ import annotations

from typing import Any

import keras

from lossweigh import _compat
from lossweigh._structure import every_layer
from lossweigh.gradients.refusals import check_optimizer, check_variables
from lossweigh.training.wiring import Wiring


def fitted_optimizer(
    optimizer: Any, wiring: Wiring, variables: list[Any], *, auto_scale_loss: bool
) -> Any:
    """A Keras optimizer that treats the variables of weighter and balancer as it must.

    It overwrites a balancer's state, and doesn't decay a weighter's variables.

    Args:
        optimizer: A Keras optimizer or its name.
        wiring: The training model's parts.
        variables: The training model's trainable variables.
        auto_scale_loss: Whether to scale the loss where a layer computes in float16.

    Raises:
        ValueError: If there is a balancer and the optimizer keeps moving averages, or
            the optimizer is built for other variables.
    """
    optimizer = keras.optimizers.get(optimizer)
    if auto_scale_loss:
        optimizer = _scaled_in_float16(optimizer, wiring.prediction_model)
    balanced = wiring.balanced
    state = [] if balanced is None or balanced.rests else balanced.state_variables
    if state:
        check_optimizer(optimizer)
        _compat.overwrite_in_each_step(optimizer, state)
    check_variables(optimizer, variables)
    _compat.exclude_from_weight_decay(
        optimizer, [*state, *wiring.weighter.trainable_variables]
    )
    return optimizer


def _scaled_in_float16(optimizer: Any, model: keras.Model) -> Any:
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
