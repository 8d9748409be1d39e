"""`fit`'s callbacks: a training model adds some, and tells others what is better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from lossweigh import _compat
from lossweigh.callbacks.end_of_epoch import AdvanceWeighters, CollapseMonitor
from lossweigh.callbacks.from_validation import WeightsFromValidation
from lossweigh.callbacks.gradient_report import GradientReport
from lossweigh.callbacks.loss_weight_scheduler import LossWeightScheduler
from lossweigh.callbacks.resume import Resume
from lossweigh.training.advice import Advice
from lossweigh.training.relative_loss import RELATIVE_LOSS

_MOVERS = (LossWeightScheduler, WeightsFromValidation)  # of fixed weights


class _EpochMeans(keras.callbacks.Callback):
    """Adds to the logs of an epoch what only `fit` logs, such as the weights.

    The means are known when it ends or its validation begins, which resets them.
    """

    in_epoch = False  # of training: its validation hasn't begun
    in_fit = False  # or in its validation

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.in_epoch = self.in_fit = True

    def on_test_begin(self, logs: Any = None) -> None:
        # A `CallbackList` may be given to `evaluate` too, between two epochs.
        if self.in_epoch:
            self.in_epoch = False
            self.model._logs.end_epoch()

    def on_test_end(self, logs: Any = None) -> None:
        if self.in_fit:
            self.model._logs.end_validation()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.on_test_begin()
        self.in_fit = False
        logs.update(self.model._logs.of_epoch())


class _Suspects(keras.callbacks.Callback):
    """Warns after each epoch of numbers that don't fit."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.warn_of_suspects()


def with_ours(
    callbacks: Any, model: Any, metrics: Iterable[tuple[str, str, Any]], data: Any
) -> Any:
    """`fit`'s `callbacks`, with the training model's added.

    Callbacks such as `EarlyStopping` guess whether less or more of a log is better.
    This tells them, for the logs of a training model.

    Args:
        callbacks: A callback, a list of some, a `CallbackList` or `None`.
        model: The training model, compiled.
        metrics: Its metrics, each with the name of its log and of its output.
        data: What `fit` was given: named arrays, or a data set.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        given = list(callbacks.callbacks)
    else:
        given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        given = [callback for callback in given if callback is not None]
    moved = any(isinstance(callback, _MOVERS) for callback in given)
    ours: list[Any] = [
        _EpochMeans(),
        AdvanceWeighters(),
        CollapseMonitor(),
        _Suspects(),
        Advice(given, data, moved=moved),
    ]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Before those that keep the logs. It may be the list of a `fit` before.
        _compat.put_first(callbacks, ours, model)
    else:
        # A report comes before what keeps its logs, wherever the user put it, and the
        # state is written when all others have moved it.
        reports = [one for one in given if isinstance(one, GradientReport)]
        last = [one for one in given if isinstance(one, Resume)]
        others = [one for one in given if one not in (*reports, *last)]
        callbacks = [*ours, *reports, *others, *last]
    directions = {log: _compat.direction(metric) for log, _, metric in metrics}
    losses = [
        "loss",
        "unweighted_loss",
        RELATIVE_LOSS,
        *(f"{b}_loss" for b in model.branches),
    ]
    directions.update(dict.fromkeys(losses, "min"))
    monitored = {_monitored(callback) for callback in given}
    changed = model._logs.expect(monitored & {"unweighted_loss", RELATIVE_LOSS})
    changed |= moved and model._logs.expect_moving_weights()
    if changed:
        model.train_function = model.test_function = None  # these log too few
    for callback in given:
        if isinstance(callback, WeightsFromValidation):
            callback.directions = directions
            continue  # `mode` isn't Keras's there
        if getattr(callback, "mode", None) == "auto":
            callback.mode = directions.get(_monitored(callback)) or "auto"
    return callbacks


def _monitored(callback: Any) -> str:
    """The log that a callback looks at, of training or of validation."""
    return str(getattr(callback, "monitor", "")).removeprefix("val_")
