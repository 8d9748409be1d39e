"""The callbacks of `fit`: those that a training model adds, and what theirs watch."""

from __future__ import annotations

from typing import Any

import keras

from lossweigh import _compat
from lossweigh.callbacks.end_of_epoch import CollapseWarning, EndOfEpoch


class _Suspects(keras.callbacks.Callback):
    """Warns after each epoch of numbers that don't fit."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.warn_of_suspects()


def with_ours(callbacks: Any, model: Any) -> Any:
    """What `fit` was given as `callbacks`, with those of ours.

    Callbacks that find out by themselves whether less or more of what they watch is
    better, such as `EarlyStopping`, are told so for the logs of a training model.

    Args:
        callbacks: A callback, a list of some, a `CallbackList` or `None`.
        model: The training model, compiled.
    """
    ours: list[Any] = [EndOfEpoch(), CollapseWarning(), _Suspects()]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # It may be that of a `fit` before.
        there = {type(callback) for callback in callbacks.callbacks}
        for callback in ours:
            if type(callback) not in there:
                callback.set_model(model)
                callbacks.callbacks.append(callback)
        given = callbacks.callbacks
    else:
        if callbacks is None:
            callbacks = []
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        callbacks = [*ours, *given]
    for callback in given:
        if getattr(callback, "mode", None) == "auto":
            callback.mode = _direction(str(callback.monitor), model) or "auto"
    return callbacks


def _direction(monitor: str, model: Any) -> str | None:
    """`"min"` or `"max"` for a log of the training model, `None` for another one."""
    log = monitor.removeprefix("val_")
    if log in ("loss", "unweighted_loss"):
        return "min"
    if log in (f"{branch}_loss" for branch in model.branches):
        return "min"
    for name, _, metric in model.compiled_metrics_by_log():
        if name == log:
            return _compat.direction(metric)
    return None
