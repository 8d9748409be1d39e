"""A branch's loss, tried on tensors without numbers when a training model is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from lossweigh import _compat


def try_out(
    layer: Any, spec: Callable[..., Any], inputs: Any, mask: Any, kwargs: Any
) -> Any:
    """A branch's symbolic output, or a worded error if its loss fails.

    The size of the batch has many divisors, so that a loss may regroup its rows. No
    other axis has that size, so that it identifies rows.

    Args:
        layer: The branch.
        spec: Keras's `compute_output_spec` of the layer.
        inputs: KerasTensors, and `None`.
        mask: Likewise.
        kwargs: Likewise.
    """
    symbolic = [t for t in keras.tree.flatten((inputs, kwargs)) if _is_symbolic(t)]
    rows = symbolic[0].shape[0]
    is_clear = rows and not any(rows in tensor.shape[1:] for tensor in symbolic)
    layer.rows = rows if is_clear else tell_tale_size(symbolic)
    try:
        tried = with_sizes((inputs, mask, kwargs), {0: (rows, layer.rows)})
        _shape(layer, spec, *tried)
        layer.loses_time = layer.takes_no_mask and _loses_time(layer, spec, tried)
    except Exception as error:
        raise _compat.unworded(error) from None
    finally:
        layer.rows = None
    return keras.KerasTensor(symbolic[0].shape[:1], "float32")


def _shape(layer: Any, spec: Any, inputs: Any, mask: Any, kwargs: Any) -> Any:
    """The shape of what the loss gives for KerasTensors."""
    layer.shape = ()
    spec(inputs, mask=mask, **kwargs)
    return layer.shape


def _loses_time(layer: Any, spec: Any, tried: Any) -> bool:
    """Whether what the loss gives lacks the prediction's second axis.

    Another size of that axis tells; a loss that doesn't take it isn't asked.
    """
    predictions = [t for t in keras.tree.flatten(tried[0]) if _is_symbolic(t)]
    predictions = [tensor for tensor in predictions if len(tensor.shape) > 2]
    if not predictions:
        return False
    steps = predictions[-1].shape[1]
    size = tell_tale_size([*predictions, keras.KerasTensor((layer.rows,))])
    try:
        shape = _shape(layer, spec, *with_sizes(tried, {1: (steps, size)}))
    except Exception:
        return False
    return bool(shape) and size not in shape


def tell_tale_size(tensors: Iterable[Any]) -> int:
    """A size for a batch that many numbers divide, and that no other axis has.

    Args:
        tensors: KerasTensors.
    """
    sizes = {size for tensor in tensors for size in tensor.shape}
    return next(size for size in range(840, 10**6, 840) if size not in sizes)


def with_sizes(structure: Any, sizes: Mapping[int, tuple[int | None, int]]) -> Any:
    """KerasTensors with other sizes, in a structure of them.

    Args:
        structure: KerasTensors, and anything else.
        sizes: By axis the size that is replaced, and the other one.
    """

    def resized(tensor: Any) -> Any:
        if not _is_symbolic(tensor):
            return tensor
        shape = list(tensor.shape)
        for axis, (before, after) in sizes.items():
            if axis < len(shape) and shape[axis] == before:
                shape[axis] = after
        return keras.KerasTensor(shape, tensor.dtype)

    return keras.tree.map_structure(resized, structure)


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)
