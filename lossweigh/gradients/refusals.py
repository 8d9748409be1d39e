"""What a balancer can't do with a model or an optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _compat
from lossweigh._structure import is_functional
from lossweigh.balancing.base import Balancer
from lossweigh.gradients.boundary import Cut


def warn_of_rest(branches: Sequence[str], model: keras.Model) -> None:
    """Warns that the balancer rests, because all shared layers are frozen."""
    warnings.warn(
        f"All that the branches {list(branches)} share in the model {model.name!r} is "
        "frozen, so the balancer rests. To use it, set `trainable = True` of a shared "
        "layer and compile the training model again.",
        stacklevel=3,
    )


def warn_of_right_angles(parts: Cut, model: keras.Model) -> None:
    """Warns that gradients can't conflict where no two branches take one tensor."""
    exits = parts.exits.exits
    taking = [branch for exit in exits for branch in exit.branches]
    if not (1 < len(taking) == len(exits) and len(set(taking)) > 1):
        return
    layers = {layer.name: layer for layer in model.layers}
    whole = [layers.get(name) for name in set(parts.layers)]
    if isinstance(whole[0], keras.Model) and not is_functional(whole[0]):
        name = whole[0].name
        why = (
            f"The model {name!r} (a {type(whole[0]).__name__}) makes one for each, "
            "heads included, as a single layer."
        )
        cure = (
            f"Give `build_training_model` the model {name!r} itself, or "
            f"`keras.Model(x, {name}.call(x))`, which shows its layers."
        )
    else:
        why = f"{sorted(set(parts.layers))} makes one for each."
        cure = 'Give it level="parameters", or let one layer make one tensor.'
    warnings.warn(
        f"No two branches take the same shared tensor. {why} So the balancer sees how "
        "long their gradients at the representation are, but never a conflict. "
        f"{cure}",
        stacklevel=2,
    )


def check_optimizer(optimizer: Any) -> None:
    """Refuses what Keras can't do with the variables of a balancer.

    Raises:
        ValueError: If the optimizer keeps moving averages.
    """
    if getattr(optimizer, "inner_optimizer", optimizer).use_ema:
        raise ValueError(
            "`optimizer` must not have `use_ema=True` with a balancer: Keras fails to "
            "average the variables that carry the balancer's weights. Leave `use_ema` "
            f"out, or the balancer. Received: optimizer={optimizer!r}."
        )


def check_variables(optimizer: Any, variables: list[Any]) -> None:
    """Refuses an optimizer that is built for another model.

    Raises:
        ValueError: If it doesn't know one of the variables, or knows others on JAX.
    """
    lacking, surplus = _compat.lacking_and_surplus(optimizer, variables)
    if lacking:
        why = (
            "other variables, such as the prediction model's: the training model has "
            "more weights"
        )
    elif surplus and _backend.STATELESS:
        why = f"{surplus} more variables than are trained: on JAX Keras needs the same"
    else:
        return
    raise ValueError(
        f"`optimizer` must not be built for {why}. Give a new one of the same "
        "settings: `type(optimizer).from_config(optimizer.get_config())`. "
        f"Received: optimizer={optimizer!r}."
    )


def check_parameters(balancer: Balancer, trunk: keras.Model) -> None:
    """Refuses shared layers whose parameters have no gradients to be balanced.

    Raises:
        ValueError: If one holds a torch module, or variables that are overwritten
            instead of descended on.
    """
    for layer in _compat.layers_at_any_depth(trunk):
        if isinstance(layer, keras.layers.TorchModuleWrapper):
            why = "holds a torch module, whose parameters that level can't see"
        elif any(v.overwrite_with_gradient for v in layer.trainable_variables):
            why = "computes in 8 bits, with scales that each step overwrites"
        else:
            continue
        raise ValueError(
            '`level` of the balancer must be "representation": the shared layer '
            f"{layer.name!r} {why}. Received: level={balancer.level}."
        )


def check_canary(balancer: Balancer, canary: Any) -> None:
    """Refuses a state that an optimizer descended on instead of overwriting it.

    Args:
        balancer: For the message.
        canary: The variable that each step of the training model overwrites with 1.
    """
    canary = ops.convert_to_tensor(canary)
    _backend.raise_unless(
        ops.all(ops.equal(canary, 1.0)),
        f"The state of the balancer {type(balancer).__name__} was changed by another "
        "optimizer than Keras's. A training loop of your own takes its steps by "
        "`training.optimizer.apply(gradients, training.trainable_variables)`, which "
        "writes that state as the backward pass gives it. Make a new balancer: this "
        "one's state is lost.",
    )
