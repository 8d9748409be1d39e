"""The one place that touches private names of Keras, each with its reason."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras


def layers_at_any_depth(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, of the models in it, and of its layers.

    `model.layers` doesn't show a layer that another layer holds. `_flatten_layers` is
    what Keras itself walks through them with.
    """
    return list(model._flatten_layers(include_self=False))


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


def serialize_loss(loss: Any) -> dict[str, Any]:
    """A loss's serialized form, with every argument of its constructor.

    `get_config` of `keras.losses.Huber` and `CosineSimilarity` leaves out
    `delta` and `axis` (Keras 3.15): they reload with the defaults, which changes
    the loss in silence. The values are in `_fn_kwargs`.
    """
    serialized = keras.saving.serialize_keras_object(loss)
    config = serialized.get("config")
    if isinstance(config, dict) and isinstance(loss, keras.losses.Loss):
        accepted = inspect.signature(type(loss).__init__).parameters
        for key, value in getattr(loss, "_fn_kwargs", {}).items():
            if key in accepted:
                config.setdefault(key, keras.saving.serialize_keras_object(value))
    return serialized


class _Reader(keras.layers.Layer):
    """Looks at a tensor's mask, which only a layer may."""

    def __init__(self) -> None:
        super().__init__(autocast=False, name="mask_reader")
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        self._found = (mask,)
        return inputs


def keras_mask(tensor: Any) -> Any:
    """The mask that the layer which made a tensor gave it, or `None`.

    Keras keeps it in an attribute of the tensor, `_keras_mask`, or where a backend's
    tensors take none (JAX) in a table of its own, which a layer is given by public
    API. A layer for each call would be slow in eager torch, and its compiler refuses
    one that is made inside of what it compiles.
    """
    if isinstance(tensor, (list, tuple, dict)) or not keras.ops.is_tensor(tensor):
        return None
    if keras.backend.backend() != "jax":
        return getattr(tensor, "_keras_mask", None)
    reader = _Reader()
    reader(tensor)
    return reader._found[0]


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
    if keras.backend.backend() != "jax":
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
