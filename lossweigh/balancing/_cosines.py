"""Lengths and cosines of gradients, and their spectrum, in `keras.ops` and float32.

`g_k . g_j = d_k d_j c_kj`: cosines are of the order of 1 whatever the gradients' scale,
and a product of two elements of the Gramian, which float32 may not hold, never arises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from lossweigh import _check

# Added to the diagonal of the cosines where a matrix must be invertible. Float32
# Gramians are exact to about 1e-6, and weights in the null space of identical or
# opposite gradients stay below 1 / sqrt(1e-5) times those of a single branch.
RIDGE = 1e-5
# Eigenvalues below this part of the largest count as 0.
RANK = 3e-6


def as_matrix(gramian: Any) -> Any:
    """The Gramian as a float32 tensor."""
    return ops.convert_to_tensor(gramian, dtype="float32")


def presence(present: Any, num_branches: int) -> Any:
    """`(K,)` float32: 1 for a branch that is present, 0 for the others."""
    if present is None:
        return ops.ones((num_branches,), dtype="float32")
    return ops.cast(present, "float32")


def masked(gramian: Any, present: Any) -> Any:
    """The Gramian with 0 in the rows and columns of absent branches."""
    gramian = as_matrix(gramian)
    if present is None:
        return gramian
    present = ops.convert_to_tensor(present, dtype="bool")
    return ops.where(present[:, None] & present[None, :], gramian, 0.0)


def norms_and_cosines(gramian: Any, present: Any = None) -> tuple[Any, Any, Any]:
    """Lengths and cosines of the branch gradients.

    Args:
        gramian: `(K, K)`.
        present: `(K,)` bool, or `None` for all.

    Returns:
        The lengths `(K,)`, 1 for a gradient that is absent or 0; the cosines
        `(K, K)`, 0 for these; and which gradients are present and not 0, `(K,)`
        bool.
    """
    gramian = masked(gramian, present)
    squares = ops.diagonal(gramian)
    nonzero = squares > 0.0
    lengths = ops.sqrt(ops.where(nonzero, squares, 1.0))
    # Two divisions: the product of two lengths may be out of range.
    cosines = gramian / lengths[:, None] / lengths[None, :]
    return (
        lengths,
        ops.where(nonzero[:, None] & nonzero[None, :], cosines, 0.0),
        nonzero,
    )


def add_ridge(cosines: Any, nonzero: Any, ridge: float = RIDGE) -> Any:
    """Cosines that can be inverted; a branch without a gradient stands alone."""
    unit = ops.eye(cosines.shape[0], dtype="float32")
    return cosines + ops.where(nonzero[None, :], ridge * unit, unit)


def smallest(values: Any, nonzero: Any) -> Any:
    """The smallest value of a branch with a gradient; 3e38 if there is none."""
    return ops.min(ops.where(nonzero, values, 3e38))


def largest(values: Any, nonzero: Any) -> Any:
    """The largest (positive) value of a branch with a gradient; 1 if there is none."""
    maximum = ops.max(ops.where(nonzero, values, 0.0))
    return ops.where(maximum > 0.0, maximum, 1.0)


def share_preferences(
    preferences: Sequence[float] | None, num_branches: int, present: Any
) -> Any:
    """The preferences, `(K,)`: 1 / K each by default.

    Those of the branches that are present are scaled to the sum of all.
    """
    if preferences is None:
        shares = ops.ones((num_branches,), dtype="float32") / num_branches
    else:
        _check.weights("preferences", preferences, num_branches)
        shares = ops.convert_to_tensor(list(preferences), dtype="float32")
    if present is None:
        return shares
    kept = shares * presence(present, num_branches)
    total = ops.sum(kept)
    return kept * (ops.sum(shares) / ops.where(total > 0.0, total, 1.0))


def spectrum(matrix: Any) -> tuple[Any, Any, Any]:
    """Eigenvalues `(..., K)`, eigenvectors in columns, and which aren't 0."""
    values, vectors = ops.eigh(matrix)
    limit = RANK * ops.max(values, axis=-1, keepdims=True)
    kept = values > ops.maximum(limit, 0.0)
    return ops.where(kept, values, 0.0), vectors, kept


def apply_spectral(vectors: Any, factors: Any, vector: Any) -> Any:
    """`V diag(f) V' x`, `(..., K)`."""
    inner = ops.sum(vectors * vector[..., :, None], axis=-2)
    return ops.sum(vectors * (factors * inner)[..., None, :], axis=-1)


def inverted(values: Any, kept: Any) -> Any:
    """`1 / values` where kept, 0 elsewhere."""
    return ops.where(kept, 1.0 / ops.where(kept, values, 1.0), 0.0)


def visiting_order(order: Any, unit: Any) -> list[Any]:
    """For each turn, which branch each branch meets: `(K, K)`, 1 for that one.

    A row is 0 where a branch would meet itself.

    Args:
        order: `(K, K)` int, row i the order of branch i; `None` for 0 .. K - 1.
        unit: The `(K, K)` unit matrix.
    """
    num = unit.shape[0]
    others = 1.0 - unit
    if order is None:
        return [unit[turn : turn + 1] * others for turn in range(num)]
    chosen = ops.one_hot(ops.transpose(order), num, dtype="float32") * others[None]
    return list(ops.unstack(chosen, num=num, axis=0))
