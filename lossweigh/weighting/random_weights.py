"""Lin et al.: weights drawn anew in each step (RLW)."""

from __future__ import annotations

import keras
from keras import ops

from lossweigh import _replicas
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import RandomizedWeighter, softmax


@keras.saving.register_keras_serializable(package="lossweigh")
class RandomWeights(RandomizedWeighter):
    """Random loss weighting: a baseline that any other weighting should beat.

        w = softmax(z),  z_k ~ N(0, 1),    total = sum_k w_k L_k

    with `L_k` the loss of branch k and `z` drawn anew in each step of training.

    The weights sum to 1. In evaluation they are all `1 / K`.

    Args:
        seed: Optional int, makes the draws reproducible (within a backend).
            A resumed training draws what an uninterrupted one would have drawn.
        **kwargs: Passed to `keras.layers.Layer`.

    Examples:
        >>> from keras import ops
        >>> weighter = RandomWeights(seed=1)
        >>> total = weighter([ops.array([1.0]), ops.array([3.0])])
        >>> print(ops.convert_to_numpy(total))
        [2.]

    Reference:
        B. Lin, F. Ye, Y. Zhang, I. W. Tsang. Reasonable effectiveness of random
        weighting: a litmus test for multi-task learning. TMLR 2022.
    """

    learns = False

    def first_weights(self) -> Tensor:
        return 1.0 / self.num_branches

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        if not training:
            return ops.full_like(means, 1.0 / self.num_branches), 0.0
        drawn = keras.random.normal(
            (self.num_branches,), dtype="float32", seed=self.generator
        )
        return softmax(_replicas.of_the_first(drawn)), 0.0
