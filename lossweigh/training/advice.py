"""Warnings after the first epoch of `fit`, from what was measured anyway."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from lossweigh.branches import BranchLoss, is_of_differences
from lossweigh.training.names import target_name
from lossweigh.training.relative_loss import RELATIVE_LOSS
from lossweigh.weighting.fixed_weights import FixedWeights

KINDS = ("gradient", "loss", "monitor")  # of advice
LARGE = 1000.0  # times another branch's part of the weighted loss
SMALL = 0.02  # of an equal share of the gradients at the shared layers
# A target whose spread and mean are at most this makes no loss large by itself.
LARGE_TARGET = 10.0
_ROWS = 10_000  # of a target that are looked at


class AdviceWarning(UserWarning):
    """Says after the first epoch of `fit` what will probably go wrong.

    A branch is far larger than another one, or hardly heard by the shared layers, or a
    callback watches a weighted loss whose weights move. `compile(advise=False)` turns
    these warnings off.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("ignore", AdviceWarning)

    """


class Advice(keras.callbacks.Callback):
    """Gives each kind of advice once for each `compile`, after a `fit`'s first epoch.

    Args:
        callbacks: Those that the user gave to `fit`.
        data: What `fit` was given: named arrays, or a data set.
        moved: Whether one of the callbacks moves fixed weights.
    """

    def __init__(self, callbacks: Iterable[Any], data: Any, *, moved: bool) -> None:
        super().__init__()
        self.given, self.moved, self.is_first = list(callbacks), moved, True
        self.data = data if isinstance(data, Mapping) else {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        model: Any = self.model
        wanted = model._logs.advice if self.is_first else set()
        self.is_first = False
        for kind in sorted(wanted):
            advice = {
                "loss": lambda: _of_large_loss(model, self.data),
                "gradient": lambda: _of_unheard_branch(model),
                "monitor": lambda: _of_monitors(model, self.given, moved=self.moved),
            }[kind]()
            if advice is not None:
                wanted.remove(kind)
                warnings.warn(advice, AdviceWarning, stacklevel=2)


def _of_large_loss(model: Any, data: Mapping[str, Any]) -> str | None:
    """Of a branch whose part of the weighted loss is far larger than another's.

    With a balancer the gradients count, not the losses.
    """
    if model.balancer is not None:
        return None
    means = model.epoch_means
    parts = {
        branch: abs(means[f"{branch}_loss"])
        * abs(means.get(f"{branch}_weight", weight))
        for branch, weight in model.loss_weights.items()
    }
    parts = {b: part for b, part in parts.items() if math.isfinite(part) and part > 0}
    if len(parts) < 2:
        return None
    large, small = max(parts, key=parts.__getitem__), min(parts, key=parts.__getitem__)
    ratio = parts[large] / parts[small]
    layer = model.branch_losses[large]
    if ratio < LARGE or not is_of_differences(layer.loss):
        return None
    spread = ""
    has_target = isinstance(layer, BranchLoss)
    target = data.get(target_name(layer.target)) if has_target else None
    if isinstance(target, np.ndarray):
        mean, std = _mean_and_std(target, layer.missing)
        if max(std, abs(mean)) <= LARGE_TARGET:
            return None
        spread = f" Its target has the mean {mean:.4g} and the spread {std:.4g}."
    elif abs(means[f"{large}_loss"]) <= LARGE_TARGET:
        return None  # a large target would have given a larger loss
    return (
        f"The weighted loss of the branch {large!r} is {ratio:.3g} times as large as "
        f"that of {small!r}, which will hardly be trained.{spread} Standardise the "
        "target of a regression before you weigh its loss: `lossweigh.suggest(training,"
        " x, y)` shows the lines that do it."
    )


def _mean_and_std(target: np.ndarray, missing: Any) -> tuple[float, float]:
    step = max(len(target) // _ROWS, 1)
    numbers = target[::step].astype("float64")
    numbers = numbers[np.isfinite(numbers) & (numbers != missing)]
    return (float(numbers.mean()), float(numbers.std())) if numbers.size else (0.0, 1.0)


def _of_unheard_branch(model: Any) -> str | None:
    """Of a branch that gets a very small part of the shared gradient."""
    names = {f"{branch}_share": branch for branch in model.branches}
    shares = {names[k]: v for k, v in model.epoch_means.items() if k in names}
    if not shares:
        return None
    least = min(shares, key=shares.__getitem__)
    if not 0 < shares[least] * len(shares) < SMALL:
        return None
    balancer = type(model.balancer).__name__
    others = [f"`{name}()`" for name in ("IMTLG", "NormBalancer") if name != balancer]
    return (
        f"The branch {least!r} has {shares[least]:.2g} of the gradients at the "
        f"shared layers, which {balancer} combines: they will hardly learn it. Give "
        "its loss a larger weight, or choose a balancer that makes the gradients "
        f"alike, such as {' or '.join(others)}."
    )


def _of_monitors(model: Any, callbacks: Iterable[Any], *, moved: bool) -> str | None:
    """Of callbacks that watch the weighted loss while its weights move."""
    moves = moved or not isinstance(model.weighter, FixedWeights)
    watching = [
        callback
        for callback in callbacks
        if getattr(callback, "monitor", None) in ("loss", "val_loss")
        and getattr(callback, "save_best_only", True)
    ]
    if not moves or not watching:
        return None
    names = sorted({type(callback).__name__ for callback in watching})
    monitor = watching[0].monitor
    prefix = monitor.removesuffix("loss")
    one = f"{prefix}{model.branches[0]}_loss"
    better = f"a metric, or the loss of one branch, such as {one!r}"
    if RELATIVE_LOSS in model._logs.words:
        better = f"'{prefix}{RELATIVE_LOSS}', {better}"
    return (
        f"{', '.join(names)} watches {monitor!r}, the weighted loss, whose weights "
        f"move: it can fall while every branch gets worse. Monitor {better}."
    )
