"""Optimizers: which variables they decay, and which they overwrite."""

from __future__ import annotations

from typing import Any


def exclude_from_weight_decay(optimizer: Any, variables: list[Any]) -> None:
    """Keeps an optimizer's weight decay off some variables, for good.

    `Optimizer.exclude_from_weight_decay` is public but *replaces* what the user
    excluded before, and refuses an optimizer that is built already. This adds
    to what is there. `_exclude_from_weight_decay` holds the keys of excluded
    variables, `_exclude_from_weight_decay_cache` the answers given so far.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not variables or getattr(optimizer, "weight_decay", None) is None:
        return
    excluded = set(getattr(optimizer, "_exclude_from_weight_decay", ()))
    excluded.update(optimizer._var_key(variable) for variable in variables)
    optimizer._exclude_from_weight_decay = excluded
    optimizer._exclude_from_weight_decay_cache = {}


def overwrite_in_each_step(optimizer: Any, variables: list[Any]) -> None:
    """Has an optimizer that accumulates gradients overwrite these in each step.

    Of a variable that is overwritten with its "gradient" Keras takes the largest that
    it sees in the accumulated steps, and 0, element by element, which suits the scales
    of its 8-bit layers. What isn't a maximum gets lost: negative elements, sums.
    `_overwrite_variables_directly_with_gradients` is where `apply` does that.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not variables or not optimizer.gradient_accumulation_steps:
        return
    mine = {id(variable) for variable in variables}
    keras_way = type(optimizer)._overwrite_variables_directly_with_gradients

    def overwrite(gradients: Any, variables: Any) -> Any:
        others = []
        for gradient, variable in zip(gradients, variables, strict=True):
            if id(variable) in mine:
                variable.assign(gradient)
            else:
                others.append((gradient, variable))
        return keras_way(optimizer, [g for g, _ in others], [v for _, v in others])

    optimizer._overwrite_variables_directly_with_gradients = overwrite
