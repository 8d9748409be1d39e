"""Layers: those at any depth, their masks and their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from lossweigh import _backend


def takes_mask_argument(model: keras.Model) -> bool:
    """Whether a layer of a functional model, or of one in it, was called with a mask.

    `_nodes_by_depth` are a model's calls, `arguments.kwargs` what these were given.
    """
    models = [model, *layers_at_any_depth(model)]
    return any(
        node.arguments.kwargs.get("mask") is not None
        for each in models
        for nodes in getattr(each, "_nodes_by_depth", {}).values()
        for node in nodes
    )


def calls_of(model: keras.Model) -> list[Any]:
    """What a functional model calls, with arguments that aren't tensors.

    But for `training`. Operations are told by their classes: each call has its own.
    """
    calls = []
    for depth in sorted(model._nodes_by_depth):
        for node in model._nodes_by_depth[depth]:
            step = node.operation
            if isinstance(step, keras.layers.InputLayer):
                continue
            named = {k: v for k, v in node.arguments.kwargs.items() if k != "training"}
            given = keras.tree.flatten((node.arguments.args, named))
            plain = [repr(g) for g in given if not isinstance(g, keras.KerasTensor)]
            is_layer = isinstance(step, keras.layers.Layer)
            calls.append((id(step) if is_layer else type(step), plain))
    return calls


def layers_at_any_depth(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, of the models in it, and of its layers.

    `model.layers` doesn't show a layer that another layer holds. `_flatten_layers` is
    what Keras itself walks through them with.
    """
    return list(model._flatten_layers(include_self=False))


@contextlib.contextmanager
def in_inference(layer: keras.layers.Layer) -> Iterator[None]:
    """Layers that are called in here, inside of another one's `call`, don't train.

    A layer that isn't told asks the call that it is part of, whose `CallContext` has
    the attribute `training`. Keras calls loss functions outside of any.
    """
    context = layer._get_call_context()
    # Outside of any call, that begins one, which nobody would end.
    is_new = context.entry_layer is layer and not hasattr(context, "training")
    before = context.get_value("training")
    context.training = False
    try:
        yield
    finally:
        context.training = before
        if is_new:
            layer._maybe_reset_call_context()


@contextlib.contextmanager
def as_frozen(layers: Sequence[keras.layers.Layer]) -> Iterator[None]:
    """Layers that are called in here compute as with `trainable = False`.

    `BatchNormalization` then normalises as in inference. `_trainable` is what a layer
    asks; the setter would also change the variables, and with them the state that a
    step of JAX is given.
    """
    before = [layer._trainable for layer in layers]
    for layer in layers:
        layer._trainable = False
    try:
        yield
    finally:
        for layer, trainable in zip(layers, before, strict=True):
            layer._trainable = trainable


_REWORDED = ("Could not automatically infer", "Exception encountered when calling")


def unworded(error: BaseException) -> BaseException:
    """An error as it was raised: Keras rewords what goes wrong inside of `call`."""
    while error.__context__ and str(error).startswith(_REWORDED):
        error = error.__context__
    return error


class _MaskReader(keras.layers.Layer):
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
    if _backend.TENSORS_TAKE_ATTRIBUTES:
        return getattr(tensor, "_keras_mask", None)
    reader = _MaskReader()
    reader(tensor)
    return reader._found[0]


def keras_masks(tensors: Iterable[Any]) -> list[Any]:
    """`keras_mask` of each of several tensors."""
    return [keras_mask(tensor) for tensor in tensors]
