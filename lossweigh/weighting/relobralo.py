"""Bischof & Kraus: relative loss balancing with random lookback."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check, _replicas
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import RandomizedWeighter, ratio, softmax_where


@keras.saving.register_keras_serializable(package="lossweigh")
class ReLoBRaLo(RandomizedWeighter):
    """Relative loss balancing: more weight for the loss that has fallen less.

        b(t') = K softmax(L(t) / (T L(t')))
        w(t)  = m (rho w(t-1) + (1 - rho) b(0)) + (1 - m) b(t-1)

    with `L_k(t)` the loss of branch k in step t, `T` the temperature and `m` the
    momentum. `rho` is 1 with the probability `keep_probability`, and otherwise 0:
    a random look back to the first losses. `w(0) = 1`.

    The weights sum to K. A branch loss must be positive; an exact 0 counts as absent.
    An absent branch keeps its weight, its first and its last loss; the sum of the
    other weights doesn't change. The first losses and the generator's state are saved,
    so resumed training looks back as if there had been no break.

    Args:
        momentum: Float between 0 and 1, the weight of the past: the paper's `alpha`.
        keep_probability: Float between 0 and 1, the expectation of `rho`: the paper's
            `beta`. At 1 no step looks back.
        temperature: Float greater than 0. Larger: more equal weights.
        seed: Optional int, makes the draws reproducible (within a backend).
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> weighter = ReLoBRaLo(momentum=0.0)
        >>> for first, second in [(2.0, 2.0), (1.0, 2.0)]:
        ...     losses = [ops.array([first]), ops.array([second])]
        ...     total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [0.7551 1.2449]

    Reference:
        R. Bischof, M. A. Kraus. Multi-objective loss balancing for
        physics-informed deep learning. arXiv:2110.09813, 2021.
    """

    needs_positive_losses = True

    def __init__(
        self,
        *,
        momentum: float = 0.95,
        keep_probability: float = 0.99,
        temperature: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.momentum = _check.between("momentum", momentum, 0.0, 1.0)
        self.keep_probability = _check.between(
            "keep_probability", keep_probability, 0.0, 1.0
        )
        self.temperature = _check.positive("temperature", temperature)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        # Each branch's first and last loss, 0 for none.
        self.first = self.add_state("first", (self.num_branches,))
        self.last = self.add_state("last", (self.num_branches,))

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        before = self.loss_weights
        if not training:
            return before, 0.0
        first, last = self.first * 1.0, self.last * 1.0
        known = ops.logical_and(present, last > 0)
        share = ops.sum(ops.where(known, before, 0.0))  # K, if all are known

        def balance(losses: Tensor) -> Tensor:
            exponents = ratio(means, losses) / self.temperature
            return share * softmax_where(known, exponents)

        drawn = keras.random.uniform((), dtype="float32", seed=self.generator)
        drawn = _replicas.of_the_first(drawn)
        past = ops.where(drawn < self.keep_probability, before, balance(first))
        weights = self.momentum * past + (1.0 - self.momentum) * balance(last)
        self.update(self.first, first, means, ops.logical_and(present, first <= 0))
        self.update(self.last, last, means, present)
        return ops.where(known, weights, before), 0.0

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "keep_probability": self.keep_probability,
            "temperature": self.temperature,
        }
