"""Which branches count in a batch, and the weighted sum of their losses."""

from __future__ import annotations

from typing import Any

from keras import ops

from lossweigh import _backend, _replicas
from lossweigh._types import Mask, Tensor


def present_branches(
    losses: Tensor, labelled: Mask = None, training: bool = False
) -> Mask:
    """`(K,)` bool: which branches have a label, and finite losses, in the batch.

    Args:
        losses: `(K, batch)` branch losses.
        labelled: `(K,)` bool, or `None`: then a loss of exactly 0 has no label.
        training: Whether the batch is that of all replicas.
    """
    total = ops.sum(ops.abs(losses), axis=-1)
    total = _replicas.total(total) if training else total
    return ops.isfinite(total) & (total > 0 if labelled is None else labelled)


def batch_means(losses: Tensor, training: bool) -> Tensor:
    """`(K,)`, without a gradient: each branch's mean loss.

    Args:
        losses: `(K, batch)` branch losses.
        training: Whether the mean is over the rows of all replicas.
    """
    means = ops.mean(ops.stop_gradient(losses), axis=-1)
    return _replicas.mean(means) if training else means


def labelled_branches(valid: Mask) -> Mask:
    """`(K,)` bool, from each branch's valid elements; `None` if these aren't known.

    Args:
        valid: A list with one tensor a branch, 0 where an element doesn't count, or
            `None` if each counts. `None` for the list if that isn't known.
    """
    if valid is None:
        return None
    every = ops.convert_to_tensor(True)
    return _backend.stack([every if one is None else ops.any(one > 0) for one in valid])


def weighted_sum(weights: Tensor, losses: Tensor) -> Tensor:
    """`sum_k w_k L_k`, `(batch,)`, from `(K,)` and `(K, batch)`.

    Its gradient is written out, because TensorFlow's computes shapes at run time,
    which takes as long as the sum.
    """

    def function(weights: Tensor, losses: Tensor) -> Any:
        def gradient(upstream: Tensor) -> Tensor:
            upstream = ops.expand_dims(upstream, 0)
            weights_gradient = ops.sum(losses * upstream, axis=1)
            return weights_gradient, ops.expand_dims(weights, 1) * upstream

        return (ops.sum(ops.expand_dims(weights, 1) * losses, axis=0),), gradient

    return _backend.custom_gradient(function, [weights, losses])[0]
