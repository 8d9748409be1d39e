"""The base of weightings that find their weights from the losses."""

from __future__ import annotations

import abc
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting._combining import batch_means, present_branches, weighted_sum
from lossweigh.weighting.base import Weighter

_LARGEST = 1e6  # ratio of two losses
_SMALLEST = 1e-30  # loss that is divided by, or taken the logarithm of


class AdaptiveWeighter(Weighter):
    """`sum_k w_k l_k + c`, with weights and an offset that each step computes anew.

    Abstract: a method is a subclass that writes `weigh`. The weights and the
    offset are constants in the gradient, so branch k's gradient is multiplied by
    `w_k`. A total `T(L)` that isn't linear in the branch means `L` has the same form,
    with `w = dT / dL` and `c = T(L) - sum_k w_k L_k`. Its value and gradient are those
    of `T`, for one pass over the batch.

    `loss_weights` are the weights of the last step of training. A branch that was
    absent from it keeps the weight that it had before.
    """

    @abc.abstractmethod
    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        """Weights `(K,)` and the offset, a scalar, for one batch.

        Moves state with `self.update` if `training`.

        Args:
            means: `(K,)` float32, the branch losses' means over the batch, 0 for a
                branch that is absent. They have no gradient.
            present: `(K,)` bool, false for a branch that is absent, and for one
                whose loss isn't positive if the method needs positive losses.
            training: Whether this is a step of training.
        """

    def first_weights(self) -> Tensor:
        """The `loss_weights` before the first step: `(K,)` or a number."""
        return 1.0

    @property
    def loss_weights(self) -> Tensor:
        return self.current * 1.0

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.current = self.add_state(
            "current", (self.num_branches,), self.first_weights()
        )

    # The backward pass of torch's compiled code computes weights anew, from a state
    # that the forward pass has moved by then: gradients would have other weights.
    @_backend.not_compiled
    def combine(self, losses: Tensor, labelled: Mask, training: bool) -> Tensor:
        present = present_branches(losses, labelled, training)
        means = batch_means(losses, training)
        if self.needs_positive_losses:
            present = ops.logical_and(present, means > 0)
        means = ops.where(present, means, ops.zeros_like(means))
        weights, offset = self.weigh(means, present, training)
        current = self.current * 1.0
        is_free = ops.equal(self.frozen, 0.0)
        moving = ops.logical_and(is_free, present)
        weights = ops.stop_gradient(ops.where(moving, weights, current))
        offset = ops.cast(offset, weights.dtype)  # it may be a number, of no dtype
        offset = ops.stop_gradient(ops.where(is_free, offset, 0.0))
        if training:
            self.update(self.current, current, weights)
        return weighted_sum(weights, losses) + offset


class RandomizedWeighter(AdaptiveWeighter):
    """An `AdaptiveWeighter` that draws random numbers, from `self.generator`.

    Abstract. The generator's state is saved with the weights, so resumed training
    draws what it would have drawn without a break.

    Args:
        seed: Optional int, makes the draws reproducible (within a backend).
        **kwargs: Passed to `Weighter`.
    """

    def __init__(self, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = None if seed is None else _check.whole("seed", seed, at_least=0)
        self.generator = keras.random.SeedGenerator(self.seed)

    # Keras tracks the generator's state and leaves it out of the file.

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store["seed"] = ops.convert_to_numpy(self.generator.state)

    def load_own_variables(self, store: Any) -> None:
        self.generator.state.assign(store["seed"][()])
        super().load_own_variables(
            {key: store[key] for key in store.keys() if key != "seed"}  # noqa: SIM118
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


def ratio(new: Tensor, old: Tensor) -> Tensor:
    """`new / old` of positive losses, at most 1e6, which is finite in an exponent."""
    return ops.minimum(new / ops.maximum(old, _SMALLEST), _LARGEST)


def log_where(present: Mask, values: Tensor) -> Tensor:
    """`log(values)` where `present`, 0 elsewhere."""
    return ops.log(ops.where(present, ops.maximum(values, _SMALLEST), 1.0))


def softmax(exponents: Tensor) -> Tensor:
    """Softmax over the branches; Keras's own warns where there is only one."""
    powers = ops.exp(exponents - ops.max(exponents))
    return powers / ops.sum(powers)


def softmax_where(present: Mask, exponents: Tensor) -> Tensor:
    """Softmax over the branches that are `present`, 0 elsewhere."""
    shares = softmax(ops.where(present, exponents, -3e38))
    return ops.where(present, shares, 0.0)
