"""The base of callbacks that set the weights after each validation."""

from __future__ import annotations

import abc
import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from lossweigh import _check
from lossweigh.callbacks.weighter_of import fixed_weights_of
from lossweigh.weighting.fixed_weights import FixedWeights

Array = np.ndarray
Monitor = str | Mapping[str, str]


class WeightsFromValidation(keras.callbacks.Callback, abc.ABC):
    """Moves the weights of a `FixedWeights` weighter after each validation of `fit`.

    Abstract: a rule is a subclass with one method to write, `advance`. A rule computes
    in NumPy. What it remembers of the validations so far is in the weighter's `memory`,
    not in the callback. So it is saved with the training model's file or weights, and
    training that is resumed from these, or by `keras.callbacks.BackupAndRestore`, goes
    on as if there had been no break: give the new `fit` a callback with the same
    arguments.

    Before the first validation the weights are those of the weighter. A validation
    that gives a branch a number that the rule can't use, such as `nan`, is left out:
    the weights stay, nothing is remembered, and a `UserWarning` comes, once a branch.
    If `fit` has no validation, a `UserWarning` says so at the end of its first epoch.

    Args:
        monitor: The name of each branch's log, as `fit` logs it: a string in which
            `{branch}` stands for the branch's name, or a dict by branch name.

    Raises:
        TypeError: If `monitor` isn't of these.
        ValueError: If a log's name doesn't begin with `val_`, or a string has no
            `{branch}`. When `fit` begins: if there is no log of the name, or
            the model isn't a training model with a `FixedWeights` weighter.
    """

    needs = "a finite number"

    def __init__(self, monitor: Monitor = "val_{branch}_loss") -> None:
        super().__init__()
        self.monitor = _checked(monitor)
        self.warned: set[tuple[str, ...]] = set()
        self.epoch = 0
        self.logs_by_branch: dict[str, str] = {}
        # Whether less or more of a log is better; a training model sets them.
        self.directions: Mapping[str, str | None] = {}
        self._in_epoch = False  # of training, before its validation
        self._has_validated = False

    @abc.abstractmethod
    def advance(self, values: Array, weighter: FixedWeights) -> None:
        """Called after each validation: moves the weights and `weighter.memory`.

        Args:
            values: `(K,)` float64, what was monitored, in the branches' order.
            weighter: The model's.
        """

    def is_usable(self, value: float) -> bool:
        """Whether the rule can use a branch's number; `needs` says what it needs."""
        return math.isfinite(value)

    def used_branches(self, weighter: FixedWeights) -> list[str]:
        """The branches whose numbers the rule uses: all, if it says nothing else."""
        return list(weighter.branches or [])

    def on_train_begin(self, logs: Any = None) -> None:
        branches = fixed_weights_of(self).branches
        if branches is None:
            raise ValueError(
                f"{type(self).__name__} must be used with a training model, whose "
                "branches have names in the logs. Received a model that was wired by "
                "hand. Build it with `build_training_model`."
            )
        if isinstance(self.monitor, str):
            by_branch = {b: self.monitor.replace("{branch}", b) for b in branches}
        else:
            _check.names("monitor", self.monitor, branches)
            by_branch = {branch: self.monitor[branch] for branch in branches}
        known = [f"val_{name}" for name in self.model.metrics_names]
        for branch, name in by_branch.items():
            if name not in known:
                raise ValueError(
                    f"`monitor` must name logs of the validation, of {known}. Received "
                    f"{name!r} for the branch {branch!r}. Give `compile` that metric "
                    "(or `log` with 'losses', for a loss), or monitor another log."
                )
        self.logs_by_branch = by_branch
        self._has_validated = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        self._in_epoch = True

    # Not at the epoch's end: by then a callback before this one may have saved the
    # model, without this validation.
    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        if not self._in_epoch:
            return  # of an `evaluate` that was given this callback
        self._in_epoch, self._has_validated = False, True
        weighter = fixed_weights_of(self)
        values = {
            branch: float((logs or {})[name.removeprefix("val_")])
            for branch, name in self.logs_by_branch.items()
        }
        used = self.used_branches(weighter)
        unusable = [branch for branch in used if not self.is_usable(values[branch])]
        for branch in unusable:
            self._warn_of(branch, values[branch])
        if not unusable:
            self.advance(np.array(list(values.values()), dtype="float64"), weighter)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._in_epoch and not self._has_validated:
            self.warn_once(
                ("validation",),
                f"{type(self).__name__} sets the weights after a validation, and up to "
                f"the end of epoch {epoch + 1} there was none. Until one comes the "
                "weights stay. Give `fit` `validation_data` or `validation_split`.",
            )
        self._in_epoch = False

    def warn_once(self, about: tuple[str, ...], message: str) -> None:
        """Gives a `UserWarning`, unless it was given one about the same."""
        if about not in self.warned:
            self.warned.add(about)
            warnings.warn(message, stacklevel=3)

    def _warn_of(self, branch: str, value: float) -> None:
        self.warn_once(
            ("branch", branch),
            f"{type(self).__name__} needs {self.needs} of each branch. "
            f"{self.logs_by_branch[branch]!r} is {value} in epoch {self.epoch + 1}: "
            "the weights stay as they are until a validation gives usable numbers. "
            "Look for values that aren't finite in the data, lower the learning rate, "
            "or monitor another log.",
        )


def _checked(monitor: Any) -> str | dict[str, str]:
    """The argument `monitor`, with the names of a dict's branches as Keras has them."""
    if not isinstance(monitor, (str, Mapping)):
        raise TypeError(
            '`monitor` must be a string, such as "val_{branch}_loss", or a dict by '
            f"branch name. Received: monitor={monitor!r} (of type "
            f"{type(monitor).__name__})."
        )
    if isinstance(monitor, str):
        names = [monitor]
        if "{branch}" not in monitor:
            raise ValueError(
                "`monitor` must have a log for each branch. Received: "
                f"monitor={monitor!r}. Write it with the branch's name left open, "
                '"val_{branch}_loss", or give a dict by branch name.'
            )
    else:
        monitor = _check.by_name(monitor)
        names = list(monitor.values())
    for name in names:
        if not str(name).startswith("val_"):
            raise ValueError(
                "`monitor` must name logs of the validation, which begin with 'val_'. "
                f"Received: monitor={monitor!r}."
            )
    return monitor


def softmax(exponents: Array) -> Array:
    """Softmax over all elements."""
    powers = np.exp(exponents - np.max(exponents))
    return powers / powers.sum()
