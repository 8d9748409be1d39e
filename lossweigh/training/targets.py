"""The training model's inputs for targets."""

from __future__ import annotations

from typing import Any

import keras

from lossweigh.branches import Branch, BranchLoss
from lossweigh.branches.masking import fits
from lossweigh.training.names import target_name


def target_inputs(
    layers: dict[str, Branch], tensors: dict[str, list[Any]]
) -> dict[str, Any]:
    """An Input for each target, which all its branches can take."""
    specs: dict[str, tuple[str, tuple[int | None, ...], str]] = {}
    for branch, layer in layers.items():
        if not isinstance(layer, BranchLoss):
            continue
        some = tensors[branch]
        shape, dtype = layer.target_spec(some if len(some) > 1 else some[0])
        other, before, dtype_before = specs.get(layer.target, (branch, shape, dtype))
        if not fits(before, shape):
            raise ValueError(
                f"The branches {other!r} and {branch!r} share the target "
                f"{layer.target!r} and must take it in one shape. Received {before} "
                f"and {shape}. Give it to `fit` once in each shape: "
                f'`BranchLoss(..., target="{branch}")` for the branch {branch!r}, and '
                f"{{{layer.target!r}: ..., {branch!r}: ...}} as `y`."
            )
        shape = tuple(a if b is None else b for a, b in zip(before, shape, strict=True))
        # Class indices are exact as float32, but nan isn't one as int32.
        dtype = dtype if dtype == dtype_before else "float32"
        specs[layer.target] = (other, shape, dtype)
    return {
        target: keras.Input(batch_shape=shape, dtype=dtype, name=target_name(target))
        for target, (_, shape, dtype) in specs.items()
    }
