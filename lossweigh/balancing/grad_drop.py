"""Chen et al.: gradient sign dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class GradDrop(Balancer):
    """Where branches disagree about the sign of a gradient element, one sign wins.

        P = (1 + sum_k g_k / sum_k |g_k|) / 2                        by element
        d = sum_k g_k [g_k > 0]  where U < P,   sum_k g_k [g_k < 0]  elsewhere

    with `g_k` the gradient of branch k at the shared representation and `U` a
    uniform random number for each element, drawn anew in each step. The purer the
    sign of an element (`P` near 0 or 1), the surer it passes whole.

    It has no weights, so `loss_weights` are 1 and `solve` gives ones; elements that
    all branches agree on are summed as in plain training. It can't work from a
    Gramian and has no other level than the representation, at which the paper has
    it too. One branch: plain training. A branch without a gradient, or with one
    that isn't finite, has no vote.

    The paper may also multiply by the sign of the activations and sum over the
    batch before it compares signs (one sign for a feature); this is its form
    without, one sign for each element of each sample, and its leak is 0.

    Args:
        seed: Optional int, makes the draws reproducible (within a backend).
        level: `"representation"`, the only one that this method has.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If `level` isn't `"representation"`.

    Examples:
        >>> from keras import ops
        >>> print(ops.convert_to_numpy(GradDrop().solve(ops.eye(2))))
        [1. 1.]

    Reference:
        Z. Chen, J. Ngiam, Y. Huang, T. Luong, H. Kretzschmar, Y. Chai, D. Anguelov.
        Just pick a sign: optimizing deep multitask models with gradient sign
        dropout. NeurIPS 2020, arXiv:2010.06808.
    """

    needs_angles = False
    needs_draws = True

    def __init__(
        self,
        *,
        seed: int | None = None,
        level: str = "representation",
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, level=level, **kwargs)
        if level != "representation":
            raise ValueError(
                '`level` must be "representation" for GradDrop, which compares '
                f"gradients element by element. Received: level={level!r}."
            )

    def solve(self, gramian: Any, present: Any = None) -> Any:
        return ops.ones((gramian.shape[0],), dtype="float32")

    def draw(self, tensors: Sequence[Any]) -> Any:
        return [_backend.uniform(ops.shape(t), self.generator) for t in tensors]

    def mix(
        self, gradients: list[Any], weights: list[Any], place: int, draws: Any
    ) -> Any:
        return _backend.elementwise(_one_sign, [*gradients, draws[place]])

    def _mix_products(
        self, products: Any, weights: list[Any], place: int, draws: Any
    ) -> Any:
        return _backend.elementwise(_kept, [*products.sums(), draws[place]])


def _one_sign(*tensors: Any) -> Any:
    *gradients, uniform = tensors
    first, *others = [ops.cast(gradient, "float32") for gradient in gradients]
    total, length = first, ops.abs(first)
    for gradient in others:
        total = total + gradient
        length = length + ops.abs(gradient)
    return ops.cast(_kept(total, length, uniform), gradients[0].dtype)


def _kept(total: Any, length: Any, uniform: Any) -> Any:
    """What passes of a sum, given the sum of sizes and the random numbers."""
    positive, negative = 0.5 * (total + length), 0.5 * (total - length)
    # Uniform < positive / length, without a division by 0.
    return ops.where(uniform * length < positive, positive, negative)
