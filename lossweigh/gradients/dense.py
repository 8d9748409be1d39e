"""Branches that leave a shared tensor by a `Dense` layer each.

With `x` the tensor, `W_k` the kernels and `d_k` the gradients of `x W_k`, the branch
gradients are `g_k = d_k W_k'`, and nobody has to write them out:

    <g_i, g_k> = sum (d_i' d_k) * (W_i' W_k)        sum_k w_k g_k = [w_k d_k] [W_k]'

with the `d_k`, and the kernels, side by side. (For norms this is known from
Goodfellow, Efficient per-example gradient computations, arXiv:1510.01799, 2015.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from lossweigh._backend import float32_product, thin_product

_BLOCK = 4096  # rows


def worthwhile(units: Sequence[int], features: int) -> bool:
    """Whether that costs less than the gradients written out.

    Two products of `C = sum(units)` columns against K copies of the tensor.
    """
    return sum(units) ** 2 <= 4 * len(units) * features


def kernels_of(layers: Sequence[Any]) -> Any:
    """`(features, C)`: the layers' kernels side by side, in their compute dtype.

    Raises:
        ValueError: If a layer was quantized after the model was cut behind it.
    """
    quantized = [layer.name for layer in layers if layer.quantization_mode is not None]
    if quantized:
        raise ValueError(
            "`quantize` must be called before `build_training_model` where there is a "
            "balancer: it changes how the layers compute. Received a model whose "
            f"layers {quantized} were quantized after it. Build the training model "
            "again."
        )
    kernels = [ops.cast(layer.kernel, layer.compute_dtype) for layer in layers]
    return ops.concatenate(kernels, axis=-1)


def outputs_of(layers: Sequence[Any], product: Any) -> list[Any]:
    """What the layers give before their activations.

    Args:
        layers: `Dense` layers.
        product: `(..., C)`, their product.
    """
    parts = [product]  # not every backend splits into one
    if len(layers) > 1:
        ends = np.cumsum([layer.units for layer in layers])
        parts = ops.split(product, [int(end) for end in ends[:-1]], axis=-1)
    # Not the parts themselves: torch's are views, with less that one may do to them.
    return [
        ops.copy(part)
        if layer.bias is None
        else part + ops.cast(layer.bias, layer.compute_dtype)
        for layer, part in zip(layers, parts, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Products:
    """The gradients of some branches at one place, as products.

    They are as exact as those written out, but for a branch whose columns cancel out:
    a softmax with kernels that are nearly the same for all classes.

    Attributes:
        who: The branches, as indices.
        units: How many columns each has.
        left: `(..., C)`: the gradients of the layers' products, side by side.
        kernel: `(features, C)`: the kernels, side by side.
    """

    who: tuple[int, ...]
    units: tuple[int, ...]
    left: Any
    kernel: Any

    @property
    def _whose(self) -> np.ndarray:
        """`(C,)`: which of the m branches a column is of."""
        return np.repeat(np.arange(len(self.who)), self.units)

    def _columns(self) -> Any:
        """`(m, C)`: 1 where a column is the branch's, 0 elsewhere."""
        columns = np.eye(len(self.who), dtype="float32")[:, self._whose]
        return ops.convert_to_tensor(columns)

    def inner_products(self) -> Any:
        """`(m, m)` float32, of the m branches' gradients."""
        wide = self._wide()
        left, kernel = wide.left, wide.kernel
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
        if width == len(self.who):  # a column is a branch
            return ops.where(finite, products, float("nan"))
        columns = self._columns()

        def by_branch(matrix: Any) -> Any:
            wide = float32_product(matrix, ops.transpose(columns))
            return float32_product(columns, wide)

        # 0 times nan would be nan for every branch.
        total = by_branch(ops.where(finite, products, 0.0))
        spoilt = by_branch(ops.cast(ops.logical_not(finite), "float32"))
        return ops.where(spoilt > 0, float("nan"), total)

    def of_branch(self, branch: int) -> Any:
        """`(..., features)`: the gradient of one of `who`, written out."""
        index = self.who.index(branch)
        begin = sum(self.units[:index])
        columns = slice(begin, begin + self.units[index])
        kernel = ops.transpose(self.kernel[:, columns])
        return ops.matmul(self.left[..., columns], kernel)

    def finite(self) -> Any:
        """`(m,)` bool: whose gradients are."""
        rows = ops.reshape(self.left, (-1, sum(self.units)))
        spoilt = [
            ops.logical_not(ops.isfinite(ops.sum(ops.cast(of, "float32"), axis=0)))
            for of in (rows, self.kernel)
        ]
        spoilt = ops.expand_dims(ops.cast(ops.logical_or(*spoilt), "float32"), -1)
        return float32_product(self._columns(), spoilt)[:, 0] < 0.5

    def weighted_sum(self, weights: Any) -> Any:
        """`(..., features)` float32: the gradients times the `(m,)` weights, added."""
        wide = self._wide()
        if sum(self.units) > len(self.who):
            weights = float32_product(ops.expand_dims(weights, 0), self._columns())
        left = wide.left * ops.reshape(weights, (-1,))
        return ops.matmul(left, ops.transpose(wide.kernel))

    # The next two are for layers of one unit, with which `|d w'| = |d| |w|'`.

    def sums(self) -> tuple[Any, Any]:
        """`(..., features)` float32, two: of the gradients, and of absolute values."""
        wide = self._wide()
        left, kernel = wide.left, ops.transpose(wide.kernel)
        absolute = float32_product(ops.abs(left), ops.abs(kernel))
        return float32_product(left, kernel), absolute

    def mean_abs(self) -> Any:
        """`(m,)` float32: the mean absolute element of each gradient."""
        wide = self._wide()
        rows = ops.reshape(ops.abs(wide.left), (-1, len(self.who)))
        return ops.mean(rows, axis=0) * ops.mean(ops.abs(wide.kernel), axis=0)

    @property
    def size(self) -> Any:
        """How many elements a gradient has, float32."""
        rows = ops.size(self.left[..., :1])
        return ops.cast(rows, "float32") * self.kernel.shape[0]

    def _wide(self) -> Products:
        return dataclasses.replace(
            self,
            left=ops.cast(self.left, "float32"),
            kernel=ops.cast(self.kernel, "float32"),
        )

    def only(self, which: Any) -> Products:
        """The same with the other branches' gradients 0.

        Args:
            which: `(m,)` bool.
        """
        columns = ops.take(which, self._whose)
        return dataclasses.replace(
            self,
            left=ops.where(columns, self.left, ops.zeros_like(self.left)),
            kernel=ops.where(columns, self.kernel, ops.zeros_like(self.kernel)),
        )

    def of_the_kernel(self, tensor: Any) -> Any:
        """`(features, C)`: the kernel's gradient.

        Args:
            tensor: `(..., features)`, what the layers took.
        """
        rows = ops.reshape(tensor, (-1, self.kernel.shape[0]))
        rows = ops.cast(rows, self.kernel.dtype)
        left = ops.reshape(self.left, (-1, sum(self.units)))
        return thin_product(rows, left)
