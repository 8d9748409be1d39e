"""The layer that gave the library its name: a trained trade-off between losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _check
from lossweigh._types import Mask, Tensor
from lossweigh.constraints import Between, Simplex
from lossweigh.weighting._combining import batch_means
from lossweigh.weighting.base import Weighter

_LEAST = 1e-3  # below this weight the barrier is a straight line, to stay finite


@keras.saving.register_keras_serializable(package="lossweigh")
class LossWeighter(Weighter):
    """`a L_1 + (1 - a) L_2` with a trained `a` in [0, 1]; K losses: a simplex.

    The model's optimizer trains the variable `loss_weight` like any other. For two
    losses it is a scalar under `Between(0, 1)`, for more a vector of K weights that
    sum to 1 under `Simplex()`.

    **Taken literally, this rule collapses.** The gradient of `a` is `L_1 - L_2`,
    which doesn't depend on `a`. So `a` walks to the bound that favours the smaller
    loss, and the other branch is no longer trained at all. By default a barrier
    prevents that. It pushes back harder as a weight gets smaller:

        total = sum_k w_k L_k - barrier * mean_k|L_k| * sum_k log(w_k)

    where `mean_k|L_k|` is held constant in the gradient. It makes the barrier free of
    scale: if all losses are multiplied by one number, the same weights minimise the
    total. At that minimum `w_k = barrier mean(L) / (L_k - l)`, with `l` such that they
    sum to 1. The smaller loss weighs more. With `barrier=0.5` and two losses each
    weight stays between about 0.19 and 0.81, whatever the losses. `total` includes the
    barrier, in evaluation too. The branches' losses in the logs don't.

    The weights sum to 1. Where a branch is absent from the batch, `loss_weight`
    gets no gradient.

    Args:
        initial_weights: Optional list of K numbers, or dict by branch name, scaled to
            sum to 1. Default: all the same, which is `a = 0.5` for two.
        barrier: Float of at least 0. `0` is the literal rule, which collapses; then
            the training model warns once.
        min_weight: Float, the lower bound of each weight.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range, or `min_weight` leaves no
            room for K weights that sum to 1.

    Examples:
        >>> from keras import ops
        >>> weighter = LossWeighter(barrier=0)
        >>> total = weighter([ops.array([1.0, 2.0]), ops.array([3.0, 6.0])])
        >>> print(ops.convert_to_numpy(total))
        [2. 4.]
        >>> print(ops.convert_to_numpy(weighter.loss_weights))
        [0.5 0.5]
    """

    per_branch = ("initial_weights",)

    def __init__(
        self,
        *,
        initial_weights: Sequence[float] | Mapping[str, float] | None = None,
        barrier: float = 0.5,
        min_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.initial_weights = _check.per_branch(
            "initial_weights", initial_weights, _check.weights
        )
        self.barrier = _check.not_negative("barrier", barrier)
        self.min_weight = _check.between("min_weight", min_weight, 0.0, 1.0)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        size = self.num_branches
        if size > 1 and self.min_weight * size >= 1:
            raise ValueError(
                f"`min_weight` must be less than 1/{size} for {size} losses, whose "
                f"weights sum to 1. Received: min_weight={self.min_weight}."
            )
        initial = _check.in_order(
            "initial_weights", self.initial_weights, self.branches
        )
        initial = _check.weights("initial_weights", initial or [1.0] * size, size)
        initial = [weight / sum(initial) for weight in initial]
        if size == 1:
            return  # one loss has the weight 1, and there is nothing to train
        self.loss_weight = self.add_weight(
            name="loss_weight",
            shape=() if size == 2 else (size,),
            initializer=lambda shape, dtype=None: ops.array(
                initial[0] if size == 2 else initial, dtype=dtype
            ),
            constraint=(
                Between(self.min_weight, 1.0 - self.min_weight)
                if size == 2
                else Simplex(self.min_weight)
            ),
            trainable=True,
        )
        # The weights while the layer is frozen: an optimizer with momentum moves a
        # variable even if its gradient is 0.
        self.held = self.add_state("held", tuple(self.loss_weight.shape))

    @property
    def loss_weights(self) -> Tensor:
        if self.num_branches == 1:
            return ops.ones((1,), "float32")
        return self._weights(self._in_force(self.loss_weight * 1.0))

    def freeze(self) -> None:
        if self.num_branches > 1:
            # A copy, or JAX would share the buffer and couldn't donate it twice.
            self.held.assign(self.loss_weight * 1.0)
        super().freeze()

    def unfreeze(self) -> None:
        if self.num_branches > 1:
            self.loss_weight.assign(self._in_force(self.loss_weight * 1.0))
        super().unfreeze()

    def _in_force(self, value: Tensor) -> Tensor:
        return ops.where(ops.equal(self.frozen, 0.0), value, self.held * 1.0)

    def _weights(self, value: Tensor) -> Tensor:
        return _backend.stack([value, 1.0 - value]) if self.num_branches == 2 else value

    def combine(self, losses: Tensor, labelled: Mask, training: bool) -> Tensor:
        if self.num_branches == 1:
            return losses[0]

        def function(value: Tensor, losses: Tensor) -> Any:
            return self._weighted_loss(labelled, value, losses, training)

        value = self.loss_weight * 1.0
        return _backend.custom_gradient(function, [value, losses])[0]

    def _weighted_loss(
        self, labelled: Mask, value: Tensor, losses: Tensor, training: bool
    ) -> Any:
        """`sum_k w_k L_k` and the barrier, and their gradient, written out.

        `0.0 * value` ties the gradient to the value that was read. A TensorFlow graph
        may read a weight *after* the optimizer has updated it: without a data path from
        the read to the gradient only a control edge orders the two, and TensorFlow's
        graph optimizer drops it.
        """
        weights = self._weights(self._in_force(value))
        total = ops.sum(ops.expand_dims(weights, 1) * losses, axis=0)
        # As `present_branches`, but from the means, which the barrier and the logs need
        # anyway: on JAX each further reduction of the losses is a kernel to compile.
        sizes = ops.abs(batch_means(losses, training))
        size = ops.mean(sizes)
        all_labelled = ops.min(sizes) > 0 if labelled is None else ops.all(labelled)
        all_present = ops.logical_and(all_labelled, size < float("inf"))
        moving = ops.logical_and(all_present, ops.equal(self.frozen, 0.0))
        if self.barrier > 0:
            scale = ops.where(all_present, self.barrier * size, 0.0)
            least = ops.maximum(weights, _LEAST)
            logarithms = ops.log(least) + (weights - least) / _LEAST
            total = total - scale * ops.sum(logarithms)

        def gradient(upstream: Tensor) -> Tensor:
            weights_gradient = ops.sum(losses * upstream, axis=-1)
            if self.barrier > 0:
                weights_gradient = weights_gradient - scale * ops.sum(upstream) / least
            value_gradient = weights_gradient
            if self.num_branches == 2:
                value_gradient = weights_gradient[0] - weights_gradient[1]
            value_gradient = ops.where(moving, value_gradient, 0.0) + 0.0 * value
            return value_gradient, ops.expand_dims(weights, 1) * upstream

        return (total,), gradient

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "initial_weights": self.initial_weights,
            "barrier": self.barrier,
            "min_weight": self.min_weight,
        }
