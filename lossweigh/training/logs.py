"""What a training model reports: branch losses and weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _backend
from lossweigh.callbacks.loss_weight_scheduler import LossWeightScheduler
from lossweigh.training.wiring import Wiring
from lossweigh.weighting.fixed_weights import FixedWeights

SUSPECTS = "suspects"
WORDS = ("losses", "weights", "balance", "unweighted_loss")
# What `fit` adds to an epoch's logs, by the word that stands for it.
OF_THE_EPOCH = {"weights": "weight", "balance": "balance"}


def checked_words(log: Any, *, balanced: bool) -> list[str] | None:
    """`compile`'s `log` as a list, or `None` for the default.

    Args:
        log: What was given: `None`, a word, or several.
        balanced: Whether there is a balancer.

    Raises:
        TypeError: If it isn't a list of words.
        ValueError: If it has an unknown word, or one of a balancer without one.
    """
    if log is None:
        return None
    if not isinstance(log, (str, list, tuple, set, frozenset)):
        raise TypeError(
            f"`log` must be a list of words, such as ['losses', 'weights'], or None. "
            f"Received: log={log!r} (of type {type(log).__name__})."
        )
    words = [log] if isinstance(log, str) else list(log)
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(
            f"`log` may only have the words {', '.join(map(repr, WORDS))}. "
            f"Received: log={log!r} (unknown: {', '.join(map(repr, unknown))})."
        )
    if "balance" in words and not balanced:
        raise ValueError(
            "`log` must not have 'balance' for a model that has no balancer. Received: "
            f"log={log!r}. Leave the word out, or give one: "
            "`build_training_model(..., balancer=UPGrad())`."
        )
    return sorted(words)


class VectorMean(keras.metrics.Metric):
    """The running mean of a vector: one update for all branches, not one each.

    Args:
        size: Length of the vector.
        name: Name of the metric.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(name=name)
        self.total = self.add_variable((size,), "zeros", name="total")
        self.count = self.add_variable((size,), "zeros", name="count")

    def update_state(self, values: Any, counts: Any) -> None:
        """Adds `values`, `(size,)`, the means of `counts`, `(size,)`, samples."""
        counts = ops.cast(counts, self.total.dtype)
        self.total.assign(self.total + ops.cast(values, self.total.dtype) * counts)
        self.count.assign(self.count + counts)

    def result(self) -> Any:
        return ops.divide_no_nan(self.total, self.count)


class Suspects(keras.metrics.Metric):
    """Counts the numbers of data sets that don't fit, until somebody is told.

    Keras resets metrics before each epoch and each validation; these go on.

    Args:
        size: Length of the vector of counts.
    """

    def __init__(self, size: int) -> None:
        super().__init__(name=SUSPECTS)
        self.counts = self.add_variable((size,), "zeros", name="counts")

    def update_state(self, counts: Any) -> None:
        """Adds `counts`, `(size,)`."""
        self.counts.assign(self.counts + ops.cast(counts, self.counts.dtype))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.counts)

    def reset_state(self) -> None:
        pass


class BranchLogs:
    """Holds a training model's tracker of losses and weights, and names its results.

    Not a Keras object itself, so that a model that is compiled again drops the
    tracker of the first time.

    Args:
        wiring: The training model's.
        given: Words from `checked_words`; `None` for the default: the losses,
            the balance, and the weights and `unweighted_loss` where the weights move.

    Attributes:
        words: The words of what the model logs.
        names: All names that the logs of losses and weights may have.
        epoch_means: The means of the last epoch of training, by name.
        by_element: The ids of metrics that count each label by itself.
        output_of: The metrics' logs, and the output of each.
    """

    def __init__(self, wiring: Wiring, given: list[str] | None) -> None:
        self.branches = list(wiring.losses)
        self.weighter, self.balanced = wiring.weighter, wiring.balanced
        self.given = given
        self.words = {"losses", "balance"} if given is None else set(given)
        if given is None and not isinstance(self.weighter, FixedWeights):
            self.words |= {"weights", "unweighted_loss"}

        # A schedule may come, and the model warns of a vanished weight.
        weighs = given is None or "weights" in given or self.weighter.learns
        balances = self.balanced is not None and "balance" in self.words
        parts = {"loss": True, "weight": weighs, "balance": balances}
        self.parts = [part for part, tracked in parts.items() if tracked]
        size = len(self.parts) * len(self.branches)
        self.tracker = VectorMean(size, name="branch_losses_and_weights")
        self.names = {f"{b}_{part}" for b in self.branches for part in parts}
        self.names.add("unweighted_loss")
        self.epoch_means: dict[str, float] = {}

        self.suspects = Suspects(2 * len(self.branches))
        self.by_element: set[int] = set()
        self.output_of: dict[str, str] = {}

    def expect_schedule(self, callbacks: Iterable[Any]) -> bool:
        """Logs the weights from now on if a schedule will move them.

        Args:
            callbacks: Those of a `fit`.

        Returns:
            Whether what a step gives has changed.
        """
        before = set(self.words)
        if self.given is None and any(
            isinstance(callback, LossWeightScheduler) for callback in callbacks
        ):
            self.words |= {"weights", "unweighted_loss"}
        return self.words != before

    @property
    def metrics(self) -> list[Any]:
        """Keras metrics, for the model to reset and to carry on JAX."""
        return [self.tracker, self.suspects]

    def warn_of_suspects(self, num_classes: Mapping[str, int]) -> None:
        """Tells which numbers don't fit, and begins to count anew.

        Args:
            num_classes: By branch, where targets are class indices.
        """
        counts = ops.convert_to_numpy(self.suspects.counts.value)
        if not counts.any():
            return
        self.suspects.counts.assign(np.zeros_like(counts))
        size = len(self.branches)
        for branch, in_target, in_weights in zip(
            self.branches, counts[:size], counts[size:], strict=True
        ):
            if in_target:
                warnings.warn(
                    f"The target of the branch {branch!r} must hold class indices, "
                    f"whole numbers from 0 to {num_classes[branch] - 1}. The data set "
                    f"gave {in_target:.0f} others, and the losses, metrics and "
                    "gradients of these batches are wrong.",
                    stacklevel=2,
                )
            if in_weights:
                warnings.warn(
                    f"`sample_weight` of {branch!r} must hold finite numbers of at "
                    f"least 0. The data set gave {in_weights:.0f} others, and the "
                    "losses, metrics and gradients of these batches are wrong.",
                    stacklevel=2,
                )

    def update_losses(self, losses: Sequence[Any], counts: Sequence[Any]) -> None:
        """Adds a batch, with the weights that are in force.

        Args:
            losses: One tensor `(batch,)` a branch.
            counts: For each branch how many elements its loss is the mean of; `None`
                for the number of rows.
        """
        stacked = _backend.stack(losses)
        means = ops.mean(stacked, axis=-1)
        parts = [means]
        if "weight" in self.parts:
            parts.append(self.weighter.loss_weights)
        if "balance" in self.parts and self.balanced is not None:
            parts.append(self.balanced.loss_weights)
        parts = [ops.cast(part, means.dtype) for part in parts]
        rows = ops.cast(ops.shape(stacked)[1], means.dtype)
        size = len(self.parts) * len(self.branches)
        if all(count is None for count in counts):
            every = ops.broadcast_to(rows, (size,))
        else:
            every = [rows if count is None else count for count in counts]
            every = _backend.stack([*every, *[rows] * (size - len(every))])
        self.tracker.update_state(ops.concatenate(parts), every)

    def result(self) -> dict[str, Any]:
        """What a step logs of the losses: means since the last reset, by name."""
        logs: dict[str, Any] = {}
        if not self.words & {"losses", "unweighted_loss"}:
            return logs
        size = len(self.branches)
        means = _backend.unstack(self.tracker.result()[:size], size)
        if "losses" in self.words:
            logs = {f"{b}_loss": means[i] for i, b in enumerate(self.branches)}
        if "unweighted_loss" in self.words:
            logs["unweighted_loss"] = sum(means[1:], means[0])
        return logs

    def end_epoch(self) -> None:
        """Keeps the means of an epoch of training, which a validation resets."""
        means = ops.convert_to_numpy(self.tracker.result()).tolist()
        names = [f"{branch}_{part}" for part in self.parts for branch in self.branches]
        self.epoch_means = dict(zip(names, means, strict=True))

    def of_epoch(self) -> dict[str, float]:
        """The weights that `fit` logs at an epoch's end."""
        endings = tuple(
            f"_{part}" for word, part in OF_THE_EPOCH.items() if word in self.words
        )
        means = self.epoch_means.items()
        return {name: mean for name, mean in means if name.endswith(endings)}
