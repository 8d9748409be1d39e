"""Optimizers: which variables they decay, and which they overwrite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keras import ops


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
    """Has an optimizer give these variables, in each step, their "gradient" as it is.

    Keras overwrites a variable that asks for it (`overwrite_with_gradient`), but a
    subclass's `apply` that halves or clips gradients has had its way by then. And of
    the gradients that it accumulates Keras takes the largest, or 0, in each element,
    which suits the scales of its 8-bit layers: negative elements and sums get lost. So
    these never reach `apply`. `_trainable_variables` are those that it is built for.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not variables:
        return
    mine = {id(variable) for variable in variables}

    def overwrite_ours(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Overwrites these variables, and gives the other pairs back."""
        others = []
        for gradient, variable in pairs:
            if id(variable) not in mine:
                others.append((gradient, variable))
            elif gradient is not None:
                variable.assign(gradient)
        return others

    def apply(gradients: Any, trainable_variables: Any = None) -> Any:
        if trainable_variables is None:
            trainable_variables = optimizer._trainable_variables
        trainable_variables = list(trainable_variables)
        if not optimizer.built:
            optimizer.build(trainable_variables)
        others = overwrite_ours(zip(gradients, trainable_variables, strict=True))
        return type(optimizer).apply(
            optimizer, [g for g, _ in others], [v for _, v in others]
        )

    def apply_gradients(grads_and_vars: Any) -> Any:
        """What TensorFlow's `train_step` calls."""
        others = overwrite_ours(grads_and_vars)
        return type(optimizer).apply_gradients(optimizer, others)

    def stateless_apply(state: Any, grads: Any, trainable_variables: Any) -> Any:
        """What JAX's `train_step` calls."""
        values, state = type(optimizer).stateless_apply(
            optimizer, state, grads, trainable_variables
        )
        known = optimizer._trainable_variables
        values = [
            gradient if id(variable) in mine else value
            for variable, value, gradient in zip(known, values, grads, strict=True)
        ]
        return values, state

    optimizer.apply = apply
    if _has_its_own(optimizer, "apply_gradients"):
        optimizer.apply_gradients = apply_gradients
    if _has_its_own(optimizer, "stateless_apply"):
        optimizer.stateless_apply = stateless_apply


def leave_out(optimizer: Any, variables: list[Any]) -> None:
    """Has an optimizer leave these variables as they are, in each step from now on.

    It does not clip, decay or accumulate their gradients either. The step must be
    traced anew. An optimizer that leaves some out already is told of the new ones.
    `_trainable_variables` are those that it is built for.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    left_out = getattr(optimizer.apply, "left_out", None)
    if left_out is not None:
        left_out.clear()
        left_out.update(id(variable) for variable in variables)
        return
    if not variables:
        return
    left_out = {id(variable) for variable in variables}
    apply_all = optimizer.apply

    def apply(gradients: Any, trainable_variables: Any = None) -> Any:
        if trainable_variables is None:
            trainable_variables = optimizer._trainable_variables
        trainable_variables = list(trainable_variables)
        if not optimizer.built:
            optimizer.build(trainable_variables)
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(gradients, trainable_variables, strict=True)
            if id(variable) not in left_out
        ]
        return apply_all([g for g, _ in pairs], [v for _, v in pairs])

    apply.left_out = left_out  # type: ignore[attr-defined]
    optimizer.apply = apply


def _has_its_own(optimizer: Any, name: str) -> bool:
    """Whether a user's class defines a method of an optimizer."""
    defined = next(c for c in type(optimizer).__mro__ if name in vars(c))
    return defined.__module__.split(".")[0] != "keras"


def lacking_and_surplus(optimizer: Any, variables: list[Any]) -> tuple[int, int]:
    """Of how many of these variables an optimizer doesn't know, and of how many others.

    One that isn't built yet lacks none.
    `_trainable_variables_indices` has the keys of those that it is built for.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.built:
        return 0, 0
    built_for = optimizer._trainable_variables_indices.keys()
    keys = {optimizer._var_key(variable) for variable in variables}
    return len(keys - built_for), len(built_for - keys)


def batches_given(optimizer: Any) -> int:
    """How many batches an optimizer was given.

    `iterations` counts its updates, of which one may have several batches' gradients;
    `_iterations` counts the batches.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return int(ops.convert_to_numpy(optimizer._iterations))
