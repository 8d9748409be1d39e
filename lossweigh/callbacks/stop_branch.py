"""Stops each branch by itself, when its validation loss has ceased to improve."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossweigh import _check
from lossweigh._files import save_whole
from lossweigh.callbacks.from_validation import Array, Monitor, WeightsFromValidation
from lossweigh.weighting.fixed_weights import FixedWeights

_MODES = ("auto", "min", "max")


class StopBranch(WeightsFromValidation):
    """Early stopping of each branch, which `EarlyStopping` does for the whole model.

    When a branch's validation loss hasn't improved for `patience` validations, the
    branch gets the weight 0, and the layers that only stopped branches use are frozen:
    no optimizer moves their variables, whatever its momentum or weight decay, and
    `BatchNormalization` keeps its statistics. (So do the variables of the branch's
    loss, if it has some. `layer.trainable` doesn't change.) The shared layers go on to
    learn from the other branches; a balancer balances these alone. When all branches
    have stopped, training stops.

    Whenever a branch is at its best the whole prediction model is written to
    `best_<branch>.keras`, whole or not at all. It is the whole model, because a head
    alone would be wrong behind shared layers that have moved on. (In a file's name a
    `/` in a branch's name is a `_`.)

    State, resumption and warnings are described in `WeightsFromValidation`; here
    numbers of stopped branches don't matter. A branch stays stopped in all later
    training of the model. To start again, build another training model.

    Args:
        patience: A whole number of at least 0: a branch stops when that many
            validations in a row haven't improved it. (0 means the same as 1.)
        min_delta: A number of at least 0; what improves by no more than this hasn't.
        monitor: The name of each branch's log: a string in which `{branch}` stands
            for the branch's name, or a dict by branch name.
        mode: `"min"` if less is better, `"max"` if more is, or a dict by branch name.
            `"auto"` knows the losses and Keras's metrics.
        folder: Where the files are written; `None` to write none. It is made when
            the first file is written.

    Raises:
        ValueError: If an argument is out of its bounds, `folder` is a file, and as
            `WeightsFromValidation`. When `fit` begins: if `mode` must be given.
        TypeError: As `WeightsFromValidation`.

    Examples:
        >>> stop = StopBranch(patience=5, folder="best")
        >>> # training.fit(x, y, validation_data=..., epochs=100, callbacks=[stop])
        >>> # keras.models.load_model("best/best_label.keras")
    """

    def __init__(
        self,
        patience: int,
        *,
        min_delta: float = 0.0,
        monitor: Monitor = "val_{branch}_loss",
        mode: str | Mapping[str, str] = "auto",
        folder: str | os.PathLike[str] | None = ".",
    ) -> None:
        super().__init__(monitor)
        self.patience = _check.whole("patience", patience, at_least=0)
        self.min_delta = _check.not_negative("min_delta", min_delta)
        self.mode = mode
        for each in mode.values() if isinstance(mode, Mapping) else [mode]:
            _check.one_of("mode", each, _MODES)
        self.folder = None if folder is None else pathlib.Path(folder)
        if (
            self.folder is not None
            and self.folder.exists()
            and not self.folder.is_dir()
        ):
            raise ValueError(
                f"`folder` must be a folder, or not exist yet. Received: "
                f"folder={str(folder)!r}, which is a file."
            )
        self.signs = np.ones(0)  # by branch: -1 where more is better

    def used_branches(self, weighter: FixedWeights) -> list[str]:
        branches, stopped = super().used_branches(weighter), weighter.stopped
        return [branch for branch in branches if branch not in stopped]

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        modes = self.mode
        if isinstance(modes, Mapping):
            modes = _check.by_name(modes)
            _check.names("mode", modes, self.logs_by_branch)
        else:
            modes = dict.fromkeys(self.logs_by_branch, modes)
        signs = []
        for branch, log in self.logs_by_branch.items():
            mode = modes[branch]
            if mode == "auto":
                mode = self.directions.get(log.removeprefix("val_"))
            if mode not in ("min", "max"):
                raise ValueError(
                    f"`mode` must say whether less or more of {log!r} is better: Keras "
                    "doesn't know. Give 'min' or 'max', or a dict by branch name. "
                    f"Received: mode={self.mode!r}."
                )
            signs.append(1.0 if mode == "min" else -1.0)
        self.signs = np.array(signs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self.model.freeze_stopped()
        self._stop_training_after_the_last()

    def advance(self, values: Array, weighter: FixedWeights) -> None:
        memory, branches = weighter.memory, list(weighter.branches or [])
        values = self.signs * values
        best = memory.get("stop_branch_best", np.full(len(values), np.inf)).copy()
        waits = memory.get("stop_branch_waits", np.zeros(len(values))).copy()
        for branch in self.used_branches(weighter):
            index = branches.index(branch)
            if values[index] < best[index] - self.min_delta:
                best[index], waits[index] = values[index], 0
                self._write(branch)
            else:
                waits[index] += 1
                if waits[index] >= self.patience:
                    weighter.stop(branch)
        memory["stop_branch_best"], memory["stop_branch_waits"] = best, waits
        self._stop_training_after_the_last()

    def _stop_training_after_the_last(self) -> None:
        if not self.used_branches(self.model.weighter):
            self.model.stop_training = True

    def _write(self, branch: str) -> None:
        """Writes the prediction model; training goes on if that fails."""
        if self.folder is None:
            return
        path = self.folder / f"best_{branch.replace('/', '_')}.keras"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_whole(self.model.prediction_model.save, path, overwrite=True)
        except OSError as error:
            self.warn_once(
                ("file",),
                f"The best model of the branch {branch!r} could not be written: "
                f"{error}. Training goes on. {path} is as it was before.",
            )
