"""Liu, Johns & Davison: weights from how fast each loss falls (DWA)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, ratio, softmax


@keras.saving.register_keras_serializable(package="lossweigh")
class DWA(AdaptiveWeighter):
    """Dynamic weight average: more weight for the loss that falls more slowly.

        r_k = L_k(t - 1) / L_k(t - 2),    w = K softmax(r / T)

    with `L_k(t)` the mean loss of branch k over the batches of epoch t, and `T`
    the temperature. In the first two epochs, which have no such ratio yet, all
    weights are 1.

    The weights sum to K. A branch loss must be positive; an exact 0 counts as
    absent. A branch that is absent from a whole epoch keeps its means. Until a branch
    has had two epochs its ratio is 1.

    The training model moves the means on at the end of each epoch of `fit`. They are
    of the training batches only, and they are saved with the model. In a model that
    was wired by hand, give `fit` the callback
    `lossweigh.callbacks.AdvanceWeighters()`. A loop over `train_on_batch` must call
    `end_epoch()` itself.

    Args:
        temperature: Float greater than 0. Larger: more equal weights.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If `temperature` isn't greater than 0.

    Examples:
        >>> from keras import ops
        >>> weighter = DWA()
        >>> for first, second in [(1.0, 3.0), (0.9, 1.8), (0.8, 1.7)]:
        ...     losses = [ops.array([first]), ops.array([second])]
        ...     total = weighter(losses, training=True)
        ...     weighter.end_epoch()
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [1.0749 0.9251]

    Reference:
        S. Liu, E. Johns, A. J. Davison. End-to-end multi-task learning with
        attention. CVPR 2019.
    """

    needs_positive_losses = True

    def __init__(self, *, temperature: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = _check.positive("temperature", temperature)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = (self.num_branches,)
        # Means of the last two epochs, 0 for none; sum and count of this one.
        self.last = self.add_state("last", shape)
        self.before_last = self.add_state("before_last", shape)
        self.total = self.add_state("total", shape)
        self.batches = self.add_state("batches", shape)

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        last, before_last = self.last * 1.0, self.before_last * 1.0
        rates = ops.where(before_last > 0, ratio(last, before_last), 1.0)
        if training:
            total, count = self.total * 1.0, self.batches * 1.0
            self.update(self.total, total, total + means, present)
            self.update(self.batches, count, count + 1.0, present)
        return self.num_branches * softmax(rates / self.temperature), 0.0

    def end_epoch(self) -> None:
        total, count = self.total * 1.0, self.batches * 1.0
        last, before_last = self.last * 1.0, self.before_last * 1.0
        seen = count > 0
        mean = total / ops.maximum(count, 1.0)
        self.update(self.before_last, before_last, last, seen)
        self.update(self.last, last, mean, seen)
        self.update(self.total, total, ops.zeros_like(total), seen)
        self.update(self.batches, count, ops.zeros_like(count), seen)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
