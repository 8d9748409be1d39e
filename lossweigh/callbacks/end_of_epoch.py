"""What a training model does at the end of each epoch, and what it warns of."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from lossweigh.weighting.base import Weighter

SHARE = 0.01  # of an equal share of the weights

Logs = Mapping[str, float] | None


class AdvanceWeighters(keras.callbacks.Callback):
    """Tells weighters whose state advances by epochs that one has ended.

    It also looks at the branches' losses, where it knows them by name: those of a
    training model, whatever it logs, or those in the logs. A loss
    that isn't finite gives a `UserWarning`, once a branch, and so does a negative
    one with a method that takes a logarithm or a ratio of the losses: such a
    branch keeps the weight that it had. (See `Weighter`.)

    A `TrainingModel` brings it along by itself; give it to `fit` for a model
    that you wired by hand.

    Examples:
        >>> callback = AdvanceWeighters()  # model.fit(..., callbacks=[callback])
    """

    def __init__(self) -> None:
        super().__init__()
        self.warned: set[str] = set()
        self.negative: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        means = _means(self.model, logs)
        for layer in self.model.layers:
            if isinstance(layer, Weighter):
                layer.end_epoch()
                for branch, loss in _by_branch(layer, means, "loss").items():
                    self._look_at(layer, branch, loss, epoch)

    def _look_at(
        self, weighter: Weighter, branch: str, loss: float, epoch: int
    ) -> None:
        if not math.isfinite(loss) and branch not in self.warned:
            self.warned.add(branch)
            warnings.warn(
                f"The loss of the branch {branch!r} is {loss} in epoch {epoch + 1}. "
                "The weights leave such batches out; the gradient does not. Look "
                "for values that aren't finite in the data, mark missing labels "
                "(`BranchLoss(..., missing='nan')`), or lower the learning rate.",
                stacklevel=2,
            )
        if loss < 0 and weighter.needs_positive_losses and branch not in self.negative:
            self.negative.add(branch)
            warnings.warn(
                f"`{type(weighter).__name__}` ({weighter.name!r}) needs losses greater "
                f"than 0. The branch {branch!r} has a mean loss of {loss:.4g} in epoch "
                f"{epoch + 1}, and keeps the weight that it had. Add a constant to "
                "that loss (for a correlation r: 1 - r), or choose a weighter that "
                "takes losses of any sign, such as `LossWeighter()`.",
                stacklevel=2,
            )


class CollapseWarning(UserWarning):
    """Says that a branch has lost its weight. `CollapseMonitor` gives it.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("error", CollapseWarning)  # ends the training
        >>> warnings.simplefilter("ignore", CollapseWarning)  # says nothing

    """


class CollapseMonitor(keras.callbacks.Callback):
    """Warns when, for an epoch, a weight that isn't set by the user has vanished.

    Vanished means that it is on its lower bound, or below 1/100 of an equal share,
    both at the end of the epoch and on average over it, and that the branch's share
    of the weighted loss is so too. (A small weight on a large loss is no
    collapse: most methods aim at that. In a model that was wired by hand, where
    the losses aren't known by branch, the weight alone counts, and methods that
    divide by the losses are left out.) The warning, a `CollapseWarning`, names the
    branch and comes once a branch. A `TrainingModel` brings this callback along
    by itself; give it to `fit` for a model that you wired by hand.

    Examples:
        >>> callback = CollapseMonitor()  # model.fit(..., callbacks=[callback])
    """

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        means = _means(self.model, logs)
        for layer in self.model.layers:
            if isinstance(layer, Weighter) and layer.learns:
                self._look_at(layer, epoch, means)

    def _look_at(
        self, weighter: Weighter, epoch: int, means: Mapping[str, float]
    ) -> None:
        losses = list(_by_branch(weighter, means, "loss").values())
        in_force = list(_by_branch(weighter, means, "weight").values())
        weights = np.abs(ops.convert_to_numpy(weighter.loss_weights))
        if len(weights) == 1 or (not losses and weighter.needs_positive_losses):
            return
        if in_force:
            weights = np.maximum(weights, np.abs(in_force))
        sizes = np.abs(losses) if losses else np.ones_like(weights)
        if not np.all(np.isfinite(sizes)):
            return
        parts = weights * sizes
        on_bound = weights <= weighter.min_weight + 1e-6 * weights.mean()
        vanished = weights <= SHARE * weights.mean()
        vanished = vanished & (parts <= SHARE * parts.mean()) & (sizes > 0)
        if weighter.min_weight > 0:
            vanished = vanished | on_bound
        for index in np.flatnonzero(vanished):
            name = weighter.name_of(int(index))
            if name not in weighter.warned:
                weighter.warned.add(name)
                warnings.warn(
                    f"The loss weight of the branch {name} is {weights[index]:.3g} "
                    f"after epoch {epoch + 1}: this branch is hardly trained any more. "
                    "A trainable weight without a barrier always ends at the bound "
                    "that favours the smaller loss. Use `LossWeighter()` with its "
                    "barrier, raise `min_weight` or a temperature, or choose another "
                    "weighter.",
                    CollapseWarning,
                    stacklevel=2,
                )


def _means(model: keras.Model, logs: Logs) -> dict[str, float]:
    """The epoch's means by name: a training model has them, logged or not."""
    return {**(logs or {}), **getattr(model, "epoch_means", {})}


def _by_branch(
    weighter: Weighter, means: Mapping[str, float], what: str
) -> dict[str, float]:
    """The epoch's mean loss or weight of each branch, if all are known."""
    branches = weighter.branches or []
    if any(f"{branch}_{what}" not in means for branch in branches):
        return {}
    return {branch: float(means[f"{branch}_{what}"]) for branch in branches}
