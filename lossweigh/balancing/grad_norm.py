"""Chen et al.: gradient normalization."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer, StepStatistics

_LARGEST = 1e6  # ratio of a loss to its first


@keras.saving.register_keras_serializable(package="lossweigh")
class GradNorm(Balancer):
    """Learns weights under which slow branches get longer gradients.

        n_k = w_k ||g_k||,    r_k = (L_k / L_k(0)) / mean_j (L_j / L_j(0))
        w_k <- w_k - eta sign(n_k - mean(n) r_k^alpha) ||g_k|| / mean_j ||g_j||

    then `w` is cut off at 0 and divided by its mean. `||g_k||` is the length of the
    gradient of branch k, `L_k` its loss and `L_k(0)` its first loss, `r_k` the
    inverse of its rate of training, and `eta` the weights' own learning rate: a
    step along the gradient of `sum_k |n_k - mean(n) r_k^alpha|`, whose targets are
    constants. A step of training uses the weights from before it.

    The weights sum to K. A zero gradient changes its weight only through the
    normalization. Identical branches have equal weights. For K = 1 the weight is 1. A
    branch that is absent keeps its weight and its first loss, and the others share what
    they had. Losses should be positive: the ratio of one that isn't counts as 0.

    `solve` gives the weights of the first step, 1 each.

    Differs from the paper: the weights' step is relative to the mean length, so
    the scale of the losses doesn't change how fast they move; and the weights take
    plain steps with `learning_rate`, not the model's optimizer's.

    Args:
        alpha: Float of at least 0, the strength of the pull towards equal rates of
            training. With 0, equal lengths.
        learning_rate: Float greater than 0.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> from lossweigh.balancing.base import StepStatistics
        >>> statistics = StepStatistics(
        ...     gramian=ops.array([[18.0, -22.0], [-22.0, 38.0]]),
        ...     present=ops.array([True, True]),
        ...     losses=ops.array([1.0, 2.0]),
        ... )
        >>> balancer = GradNorm(learning_rate=0.1)
        >>> state = balancer.initial_state(2)
        >>> state = {name: ops.array(values) for name, values in state.items()}
        >>> weights, state = balancer.advance(statistics, state)
        >>> weights, state = balancer.advance(statistics, state)
        >>> print(ops.convert_to_numpy(weights).round(3))
        [1.102 0.898]

    Reference:
        Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich. GradNorm: gradient
        normalization for adaptive loss balancing in deep multitask networks. ICML
        2018.
    """

    needs_angles = False

    def __init__(
        self, *, alpha: float = 1.5, learning_rate: float = 0.025, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.alpha = _check.not_negative("alpha", alpha)
        self.learning_rate = _check.positive("learning_rate", learning_rate)

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        # A first loss of 0 is none yet.
        return {
            "loss_weights": [1.0] * num_branches,
            "first_losses": [0.0] * num_branches,
        }

    def solve(self, gramian: Any, present: Any = None) -> Any:
        return _cosines.presence(present, gramian.shape[0])

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        present, num = statistics.present, statistics.gramian.shape[0]
        before, first = state["loss_weights"], state["first_losses"]
        known = _cosines.presence(present, num)
        number = ops.maximum(ops.sum(known), 1.0)

        def mean(values: Any) -> Any:
            average = ops.sum(values * known) / number
            return ops.where(average > 0.0, average, 1.0)

        losses = ops.where(present, ops.maximum(statistics.losses, 0.0), 0.0)
        first = ops.where(first > 0.0, first, losses)
        ratios = ops.minimum(losses / ops.maximum(first, 1e-30), _LARGEST)
        rates = (ratios / mean(ratios)) ** self.alpha
        lengths, _, nonzero = _cosines.norms_and_cosines(statistics.gramian, present)
        lengths = ops.where(nonzero, lengths, 0.0)
        relative = lengths / mean(lengths)
        norms = before * relative
        gradient = ops.sign(norms - mean(norms) * rates) * relative
        after = ops.maximum(before - self.learning_rate * gradient, 0.0)
        # The sum of all weights stays K, as the present ones keep theirs.
        share, total = ops.sum(before * known), ops.sum(after * known)
        after = after * (share / ops.where(total > 0.0, total, 1.0))
        moved = ops.logical_and(present, total > 0.0)
        after = ops.where(moved, after, before)
        return before * known, {"loss_weights": after, "first_losses": first}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "learning_rate": self.learning_rate,
        }
