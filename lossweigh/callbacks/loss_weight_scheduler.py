"""Moves fixed loss weights by a schedule, without a recompilation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras

from lossweigh import _check
from lossweigh.callbacks.weighter_of import fixed_weights_of

Weights = Sequence[float] | Mapping[str, float]


class LossWeightScheduler(keras.callbacks.Callback):
    """Sets the weights of a `FixedWeights` weighter by epoch or by step.

    The weights are a variable, so the new ones are in force from the next step
    on, on every backend, in a traced or jitted step too.

    Args:
        schedule: Function from the number of the epoch (or step), from 0, to
            the weights: a list in the order of the losses, or a dict by branch
            name whose missing branches keep their weight.
        by: `"epoch"` or `"step"`. Steps are counted over all epochs of one
            `fit`, from `initial_step` on. With `steps_per_execution=N` Keras
            calls back every N steps, so the weights move every N. On JAX a
            schedule by step brings the state back to the model at each step,
            which slows small models down.
        initial_step: The number of the first step, to go on with a schedule
            after a resume.

    Raises:
        TypeError: If `schedule` isn't a function.
        ValueError: If `by` is neither of the two, or the model has no
            `FixedWeights` layer.

    Examples:
        >>> ramp = LossWeightScheduler(lambda epoch: [1.0, min(1.0, epoch / 10)])
        >>> # training.fit(x, y, epochs=20, callbacks=[ramp])

    """

    def __init__(
        self,
        schedule: Callable[[int], Weights],
        *,
        by: str = "epoch",
        initial_step: int = 0,
    ) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                "`schedule` must be a function from the number of the epoch or step to "
                f"the weights. Received: schedule={schedule!r}."
            )
        self.schedule = schedule
        self.by = _check.one_of("by", by, ("epoch", "step"))
        self.initial_step = int(_check.not_negative("initial_step", initial_step))
        self.step = self.initial_step

    def on_train_begin(self, logs: object = None) -> None:
        self.step = self.initial_step

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        if self.by == "epoch":
            self._assign(epoch)

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        if self.by == "step":
            self._assign(self.step)
            self.step += self._steps_at_once()

    def _steps_at_once(self) -> int:
        return int(getattr(self.model, "steps_per_execution", 1))

    def _assign(self, number: int) -> None:
        fixed_weights_of(self).assign(self.schedule(number))
