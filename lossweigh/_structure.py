"""Names for the inputs and outputs of any `keras.Model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from lossweigh import _compat


def is_functional(model: keras.Model) -> bool:
    """Whether the model has symbolic inputs and outputs of its own."""
    try:
        return bool(model.inputs) and bool(model.outputs)
    except (AttributeError, ValueError):
        return False


def symbolic_inputs(model: keras.Model) -> Any:
    """Fresh KerasTensors to call the model on, in the structure it takes.

    They are made like the model's own inputs and have the names of its input
    layers. For a subclassed model they are made from the shapes that it was
    built with.

    Raises:
        ValueError: If the model isn't built.
    """
    if not is_functional(model):
        return _map_shapes(
            _built_shapes(model),
            lambda name, shape: keras.Input(shape=shape[1:], name=name),
            f"{model.name}_input",
        )
    layers = _input_layers(model)

    def like(tensor: Any) -> Any:
        layer = layers.get(id(tensor))
        return keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            name=_input_name(model, layers, tensor),
            optional=layer is not None and layer.optional,
        )

    return keras.tree.map_structure(like, _own_inputs(model))


def named_structure(model: keras.Model, names: list[str]) -> Any:
    """The structure that the model takes, with names at its leaves.

    Args:
        model: The prediction model.
        names: The names of its inputs, in the order of `symbolic_inputs`
            flattened. (A reloaded model may not have kept its own.)
    """
    if is_functional(model):
        structure = keras.tree.map_structure(lambda tensor: 0, _own_inputs(model))
    else:
        structure = _map_shapes(_built_shapes(model), lambda name, shape: 0, "")
    return keras.tree.pack_sequence_as(structure, names)


def _input_layers(model: keras.Model) -> dict[int, Any]:
    """The input layers by the identity of the tensor that they give.

    An input without a name has one as a layer only, and it is the layer's that
    a saved model keeps.
    """
    return {
        id(layer.output): layer
        for layer in model.layers
        if isinstance(layer, keras.layers.InputLayer)
    }


def _own_inputs(model: keras.Model) -> Any:
    # A Sequential model's `input` is that of its first call, not its own.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _input_name(model: keras.Model, layers: dict[int, Any], tensor: Any) -> str:
    if isinstance(model, keras.Sequential):
        return f"{model.name}_input"  # its input layer is hidden
    return layers[id(tensor)].name if id(tensor) in layers else tensor.name


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """The outputs by name, in the model's order.

    A dict's keys are its names, with a `/` between those of a dict in a dict.
    Otherwise a functional model's outputs are named by the layers that made them and a
    subclassed one's `output_0`, `output_1`, ... A layer that made several has its index
    added.

    Args:
        model: The prediction model.
        outputs: What calling it gave.

    Raises:
        ValueError: If something else than a tensor or a dict is in a list or dict.
    """
    if isinstance(outputs, Mapping):
        # Keras may sort a dict's keys on the way; the model's own order counts.
        ordered = model.output if is_functional(model) else outputs
        named = dict(_named_leaves(ordered, outputs))
    else:
        flat = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        names = _layer_names(model, len(flat))
        named = dict(zip(names, flat, strict=True))
    for name, tensor in named.items():
        if not hasattr(tensor, "shape"):
            raise ValueError(
                "`pred_model` must return a tensor, a list or tuple of tensors, or a "
                "dict of tensors or of such dicts. Received a "
                f"{type(tensor).__name__} for the output {name!r}."
            )
    return named


def output_positions(model: keras.Model) -> dict[str, int]:
    """Where the flat list of a model's outputs holds each of them, by its name."""
    structure = model.compute_output_spec(symbolic_inputs(model))
    flat = [id(tensor) for tensor in keras.tree.flatten(structure)]
    return {
        name: flat.index(id(tensor))
        for name, tensor in named_outputs(model, structure).items()
    }


def _named_leaves(order: Any, outputs: Any, path: str = "") -> Iterator[Any]:
    """The names and values of a dict, and of the dicts in it, as `_check.by_name`."""
    for key in order:
        if isinstance(outputs[key], Mapping):
            yield from _named_leaves(order[key], outputs[key], f"{path}{key}/")
        else:
            yield f"{path}{key}", outputs[key]


def returns_dict(model: keras.Model, inputs: Any) -> bool:
    """Whether a subclassed model returns a dict, the order of whose keys may be lost.

    Args:
        model: The prediction model.
        inputs: KerasTensors in the structure that it takes.
    """
    return isinstance(model.compute_output_spec(inputs), Mapping)


def may_mask(model: keras.Model) -> bool:
    """Whether a layer of the model may start a mask: in it, or inside another layer.

    Or whether one was called with `mask=`.

    A nested model's symbolic outputs don't show their masks, and a layer of the user's
    may compute one by itself.
    """
    return any(
        isinstance(layer, keras.layers.Masking)
        or getattr(layer, "mask_zero", False)
        or _computes_masks(layer)
        for layer in _compat.layers_at_any_depth(model)
    ) or _compat.takes_mask_argument(model)


def _computes_masks(layer: keras.layers.Layer) -> bool:
    """Whether `compute_mask` is a user's own."""
    defined = next(c for c in type(layer).__mro__ if "compute_mask" in vars(c))
    return defined.__module__.split(".")[0] not in ("keras", "lossweigh")


def every_layer(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model, and those of the models among them, at any depth."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)


def _layer_names(model: keras.Model, number: int) -> list[str]:
    names = getattr(model, "output_names", None)
    if isinstance(model, keras.Sequential):
        names = [model.layers[-1].name]
    if not is_functional(model) or names is None or len(names) != number:
        if number == 1:
            return ["output"]
        return [f"output_{index}" for index in range(number)]
    names = list(names)
    return [
        name if names.count(name) == 1 else f"{name}_{names[:index].count(name)}"
        for index, name in enumerate(names)
    ]


def _built_shapes(model: keras.Model) -> Any:
    config = model.get_build_config() if model.built else None
    if config and "input_shape" in config:
        return config["input_shape"]
    if config and config.get("shapes_dict"):
        shapes = {
            key.removesuffix("_shape"): shape
            for key, shape in config["shapes_dict"].items()
        }
        return next(iter(shapes.values())) if len(shapes) == 1 else shapes
    raise ValueError(
        f"`pred_model` must have known inputs and outputs. Received the model "
        f"{model.name!r} (a {type(model).__name__}), which isn't built. Call it once "
        "on a batch of data first, as in `model(x[:1])`, or give a Sequential model "
        "an `Input`."
    )


def _map_shapes(shapes: Any, function: Any, name: str) -> Any:
    if isinstance(shapes, Mapping):
        return {key: _map_shapes(s, function, str(key)) for key, s in shapes.items()}
    if shapes and all(size is None or isinstance(size, int) for size in shapes):
        return function(name, tuple(shapes))
    return [
        _map_shapes(s, function, f"{name}_{index}") for index, s in enumerate(shapes)
    ]
