"""Variables that are assigned, and those that JAX takes away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from lossweigh import _backend


class Assignments(keras.StatelessScope):
    """A stateless scope that knows which variables were assigned, of all there are.

    A stateful RNN's state is among no layer's `variables`. `add_update`, which `assign`
    calls in such a scope, isn't documented.

    Attributes:
        assigned: These variables, by their ids.
    """

    losses: list[Any]

    def __init__(self, state_mapping: Any) -> None:
        super().__init__(state_mapping, collect_losses=True)
        self.assigned: dict[int, Any] = {}

    def add_update(self, update: Any) -> None:
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)

    def take_losses(self, model: keras.Model) -> list[Any]:
        """The losses that a model's layers added in this scope, which forget them.

        In a scope a layer knows its losses by their `id` alone (`_loss_ids`). Once
        these are gone, another layer's loss may have the same, and would be counted
        twice; `_clear_losses` is where layers forget.
        """
        losses = list(self.losses)
        model._clear_losses()
        return losses


@contextlib.contextmanager
def keeps_variables(model: keras.Model) -> Iterator[None]:
    """Gives a model its variables' values back if `fit` or `evaluate` fails on JAX.

    There Keras takes the values out of the variables (`_value = None`) before
    the first step and puts them back after the last, so an error inside the first
    step of `fit`, or any step of `evaluate`, loses all weights.
    """
    if not _backend.STATELESS:
        yield
        return
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *model.metrics_variables]
    variables += [] if optimizer is None else optimizer.variables
    before = [(variable, variable.value) for variable in variables]
    try:
        yield
    except BaseException:
        lost = [(v, value) for v, value in before if v._value is None]
        if any(value.is_deleted() for _, value in lost):
            # Donated to a step that went well: the model has its results.
            callback = keras.callbacks.Callback()
            callback.set_model(model)
            _ = callback.model  # on JAX, looking at it brings the state back
        else:
            for variable, value in lost:
                variable.assign(value)
        raise


def bring_state(model: keras.Model) -> None:
    """Brings the state of a `fit` under way to the model's variables.

    On JAX the steps hold it. Keras does this where a callback asks for `self.model`.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
