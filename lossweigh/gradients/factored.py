"""Branch gradients at one shared tensor, each a product of two small matrices.

With `x` the tensor, `W_k` the kernels of layers that take it and `d_k` the gradients of
`x W_k`, the branch gradients are `g_k = d_k W_k'`, and no step has to write them out:

    <g_i, g_k> = sum (d_i' d_k) * (W_i' W_k)        sum_k w_k g_k = [w_k d_k] [W_k]'

with the `d_k`, and the kernels, side by side. (For norms this is known from
Goodfellow, Efficient per-example gradient computations, arXiv:1510.01799, 2015.)
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from keras import ops

from lossweigh._backend import float32_product, stack, thin_product
from lossweigh.balancing.site import Site

_BLOCK = 4096  # rows


@dataclasses.dataclass(frozen=True)
class Factored(Site):
    """The gradients of m branches as products.

    They are as exact as gradients written out, except for a branch whose columns cancel
    out: a softmax with kernels that are nearly the same for all classes.

    Attributes:
        branches: The branches, as indices.
        units: How many columns each has.
        left: `(..., C)`: the gradients of the layers' products, side by side.
        kernel: `(features, C)`: the kernels, side by side.
    """

    branches: tuple[int, ...]
    units: tuple[int, ...]
    left: Any
    kernel: Any

    @property
    def _column_owners(self) -> np.ndarray:
        """`(C,)`: which of the m branches a column is of."""
        return np.repeat(np.arange(len(self.branches)), self.units)

    def _columns(self) -> Any:
        """`(m, C)`: 1 where a column is the branch's, 0 elsewhere."""
        columns = np.eye(len(self.branches), dtype="float32")[:, self._column_owners]
        return ops.convert_to_tensor(columns)

    def _wide(self) -> tuple[Any, Any]:
        return ops.cast(self.left, "float32"), ops.cast(self.kernel, "float32")

    def gramian(self) -> Any:
        left, kernel = self._wide()
        width, between = sum(self.units), left.shape[1:-1]
        rows = ops.reshape(left, (-1, width))
        if None not in between and math.prod(between) > width:
            # A sum over very many rows at once has fewer digits.
            block = math.gcd(math.prod(between), _BLOCK)
            block = block if block > width else math.prod(between)
            rows = ops.reshape(left, (-1, block, width))
        lefts = float32_product(ops.swapaxes(rows, -1, -2), rows)
        if len(lefts.shape) > 2:
            lefts = ops.sum(lefts, axis=0)
        products = lefts * float32_product(ops.transpose(kernel), kernel)
        finite = ops.isfinite(products)
        if width == len(self.branches):  # a column is a branch
            return ops.where(finite, products, float("nan"))
        columns = self._columns()

        def by_branch(matrix: Any) -> Any:
            wide = float32_product(matrix, ops.transpose(columns))
            return float32_product(columns, wide)

        # 0 times nan would be nan for every branch.
        total = by_branch(ops.where(finite, products, 0.0))
        spoilt = by_branch(ops.cast(ops.logical_not(finite), "float32"))
        return ops.where(spoilt > 0, float("nan"), total)

    def squared_norms(self) -> Any:
        return ops.diagonal(self.gramian())

    def absolute_sums(self) -> Any:
        left, kernel = self._wide()
        if max(self.units) > 1:
            return stack([ops.sum(absolute) for absolute in self._absolute()])
        rows = ops.reshape(ops.abs(left), (-1, len(self.branches)))
        return ops.sum(rows, axis=0) * ops.sum(ops.abs(kernel), axis=0)

    def size(self) -> Any:
        rows = ops.size(self.left[..., :1])
        return ops.cast(rows, "float32") * self.kernel.shape[0]

    def finite(self) -> Any:
        rows = ops.reshape(self.left, (-1, sum(self.units)))
        spoilt = [
            ops.logical_not(ops.isfinite(ops.sum(ops.cast(side, "float32"), axis=0)))
            for side in (rows, self.kernel)
        ]
        spoilt = ops.expand_dims(ops.cast(ops.logical_or(*spoilt), "float32"), -1)
        return float32_product(self._columns(), spoilt)[:, 0] < 0.5

    def weighted_sum(self, weights: Any) -> Any:
        left, kernel = self._wide()
        if sum(self.units) > len(self.branches):
            weights = float32_product(ops.expand_dims(weights, 0), self._columns())
        left = left * ops.reshape(weights, (-1,))
        return ops.matmul(left, ops.transpose(kernel))

    def sums(self) -> tuple[Any, Any]:
        left, kernel = self._wide()
        total = float32_product(left, ops.transpose(kernel))
        if max(self.units) > 1:
            return total, functools.reduce(ops.add, self._absolute())
        absolute = float32_product(ops.abs(left), ops.abs(ops.transpose(kernel)))
        return total, absolute  # `|d w'| = |d| |w|'` where a layer has one unit

    def gradient(self, branch: int) -> Any:
        index = self.branches.index(branch)
        begin = sum(self.units[:index])
        columns = slice(begin, begin + self.units[index])
        kernel = ops.transpose(self.kernel[:, columns])
        return ops.matmul(self.left[..., columns], kernel)

    def _absolute(self) -> list[Any]:
        """The absolute elements of each gradient, written out, float32."""
        several = [self.gradient(branch) for branch in self.branches]
        return [ops.abs(ops.cast(gradient, "float32")) for gradient in several]

    def only(self, which: Any) -> Factored:
        owners = ops.convert_to_tensor(self._column_owners, "int32")
        columns = ops.take(which, owners)
        return dataclasses.replace(
            self,
            left=ops.where(columns, self.left, ops.zeros_like(self.left)),
            kernel=ops.where(columns, self.kernel, ops.zeros_like(self.kernel)),
        )

    def kernel_gradient(self, tensor: Any) -> Any:
        """`(features, C)`: the gradient of the kernels, side by side.

        Args:
            tensor: `(..., features)`, what the layers took.
        """
        rows = ops.reshape(tensor, (-1, self.kernel.shape[0]))
        # Keras's product of two float64 tensors is float32 on torch.
        rows = ops.cast(rows, self.left.dtype)
        left = ops.reshape(self.left, (-1, sum(self.units)))
        return ops.cast(thin_product(rows, left), self.kernel.dtype)
