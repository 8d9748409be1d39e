"""What a training model reports: branch losses and weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from lossweigh import _backend, _replicas
from lossweigh.inspection.inspection import logs_pairs
from lossweigh.training import gradient_logs
from lossweigh.training.advice import KINDS
from lossweigh.training.log_metrics import Suspects, VectorMean
from lossweigh.training.log_words import OF_MOVING_WEIGHTS, OF_THE_EPOCH
from lossweigh.training.names import index_name
from lossweigh.training.relative_loss import RELATIVE_LOSS, RelativeLoss
from lossweigh.training.suspects import expected_of_target
from lossweigh.training.wiring import Wiring
from lossweigh.weighting.fixed_weights import FixedWeights


class BranchLogs:
    """Holds a training model's tracker of losses and weights, and names its results.

    Not a Keras object itself, so that a model that is compiled again drops the
    tracker of the first time.

    Args:
        wiring: The training model's.
        given: Words from `checked_words`; `None` for the default: the losses,
            the balance, and `OF_MOVING_WEIGHTS` where the weights move.
        advises: Whether the model gives advice.

    Attributes:
        words: The words of what the model logs.
        advice: The kinds of advice that it hasn't given yet.
        tracked: The names of the means that are tracked, in their order, by what they
            are means of.
        names: All names that the logs of losses and weights may have.
        epoch_means: The means of the last epoch of training, by name.
        validation_means: Those of its validation, empty without one.
        by_element: The ids of metrics that count each label by itself.
        output_of: The metrics' logs, and the output of each.
    """

    def __init__(
        self, wiring: Wiring, given: list[str] | None, *, advises: bool
    ) -> None:
        self.branches, self.losses = list(wiring.losses), wiring.losses
        self.weighter, self.balanced = wiring.weighter, wiring.balanced
        self.given, self.advises = given, advises
        self.advice = set(KINDS if advises else ())
        self.words = {"losses", "balance"} if given is None else set(given)
        if given is None and not isinstance(self.weighter, FixedWeights):
            self.words |= OF_MOVING_WEIGHTS
        self.relative_loss = RelativeLoss(self.branches)

        # A schedule may come, and the model warns of a vanished weight.
        weighs = given is None or "weights" in given or self.weighter.learns
        self.level = ""
        self.tracked = {"loss": [f"{b}_loss" for b in self.branches]}
        if weighs:
            self.tracked["weight"] = [f"{b}_weight" for b in self.branches]
        if self.balanced is not None:
            self.tracked["balance"] = [f"{b}_balance" for b in self.branches]
            self.level = gradient_logs.level_of(self.balanced)
            if advises:
                self.tracked["share"] = [f"{b}_share" for b in self.branches]
            if "gradients" in self.words:
                names = gradient_logs.norm_names(self.branches, self.level)
                self.tracked["norm"] = names
                if self.balanced.balancer.needs_angles:
                    names = gradient_logs.cosine_names(self.branches, self.level)
                    self.tracked["cosine"] = names
        self.size = sum(map(len, self.tracked.values()))
        self.tracker = VectorMean(self.size, name="branch_losses_and_weights")
        parts = ("loss", "weight", "balance")
        self.names = {f"{b}_{part}" for b in self.branches for part in parts}
        self.names |= {"unweighted_loss", RELATIVE_LOSS}
        self.epoch_means: dict[str, float] = {}
        self.validation_means: dict[str, float] = {}

        self.suspects = Suspects(3 * len(self.branches))
        self.points = wiring.points
        self.by_element: set[int] = set()
        self.output_of: dict[str, str] = {}

    def get_config(self) -> dict[str, Any]:
        """What is saved of the logs, for `compile`."""
        return {"log": self.given, "advise": bool(self.advice)}

    def expect_moving_weights(self) -> bool:
        """Logs the weights from now on, unless `compile` was told what to log.

        Returns:
            Whether what a step gives has changed.
        """
        return self.given is None and self.expect(OF_MOVING_WEIGHTS)

    def expect(self, words: Iterable[str]) -> bool:
        """Logs these words too from now on; returns as `expect_moving_weights`."""
        before = set(self.words)
        self.words.update(words)
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
        by_kind = np.split(counts, 3)
        for branch, in_target, in_weights, in_index in zip(
            self.branches, *by_kind, strict=True
        ):
            if in_target:
                layer: Any = self.losses[branch]  # a BranchLoss, or there is no target
                expected = expected_of_target(layer, num_classes.get(branch))
                warnings.warn(
                    f"The target of the branch {branch!r} must hold {expected}. The "
                    f"data set gave {in_target:.0f} others, and the losses, metrics "
                    "and gradients of these batches are wrong.",
                    stacklevel=2,
                )
            if in_weights:
                warnings.warn(
                    f"`sample_weight` of {branch!r} must hold finite numbers of at "
                    f"least 0. The data set gave {in_weights:.0f} others, and the "
                    "losses, metrics and gradients of these batches are wrong.",
                    stacklevel=2,
                )
            if in_index:
                warnings.warn(
                    f"`{index_name(branch)}` must hold whole numbers from 0 to "
                    f"{self.points[branch].num_points - 1}. The data set gave "
                    f"{in_index:.0f} others. These rows weighed 0 in the loss of the "
                    f"branch {branch!r}.",
                    stacklevel=2,
                )

    def update_losses(
        self, losses: Sequence[Any], counts: Sequence[Any], training: bool
    ) -> None:
        """Adds a batch, with the weights that are in force.

        Args:
            losses: One tensor `(batch,)` a branch.
            counts: For each branch how many elements its loss is the mean of; `None`
                for the number of rows.
            training: Whether this is a step of training. Then the losses of several
                replicas are shares of what all of them count.
        """
        stacked = _backend.stack(losses)
        means = ops.mean(stacked, axis=-1)
        parts = [means]
        if "weight" in self.tracked:
            parts.append(self.weighter.loss_weights)
        if self.balanced is not None:
            parts.append(self.balanced.loss_weights)
        rows = ops.cast(ops.shape(stacked)[1], means.dtype)
        number = len(parts) * len(self.branches)
        if all(count is None for count in counts):
            every = [ops.broadcast_to(rows, (number,))]
        else:
            known = [rows if count is None else count for count in counts]
            every = [_backend.stack([*known, *[rows] * (number - len(known))])]
            every = [_replicas.mean(every[0])] if training else every
        if self.balanced is not None and self.size > number:
            gramian = ops.convert_to_tensor(self.balanced.state.gramian)
            if "share" in self.tracked:
                weights = self.balanced.loss_weights
                parts.append(gradient_logs.shares(gramian, weights))
            if "norm" in self.tracked:
                parts.append(gradient_logs.norms(gramian))
            if "cosine" in self.tracked:
                parts.append(gradient_logs.cosines(gramian))
            # Nothing has been seen before the first step.
            rows = rows * ops.cast(ops.any(gramian != 0), means.dtype)
            every.append(ops.broadcast_to(rows, (self.size - number,)))
        parts = [ops.cast(part, means.dtype) for part in parts]
        every = ops.concatenate(every)
        self.tracker.update_state(ops.concatenate(parts), every, training)

    def columns(self) -> dict[str, int]:
        """Which of the tracker's numbers a row of a batch has, by name."""
        names = [(of, name) for of, names in self.tracked.items() for name in names]
        # Nobody is shown the shares, nor the cosines of all pairs of many branches.
        hidden = {"share"} | (set() if logs_pairs(self.branches) else {"cosine"})
        return {name: i for i, (of, name) in enumerate(names) if of not in hidden}

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
        self.epoch_means = self._means()
        self.validation_means = {}

    def end_validation(self) -> None:
        """Keeps the means of the validation of an epoch."""
        self.validation_means = self._means()

    def _means(self) -> dict[str, float]:
        means = ops.convert_to_numpy(self.tracker.result()).tolist()
        names = [name for names in self.tracked.values() for name in names]
        return dict(zip(names, means, strict=True))

    def of_epoch(self) -> dict[str, float]:
        """What `fit` adds at an epoch's end."""
        parts = [part for word, part in OF_THE_EPOCH.items() if word in self.words]
        names = [name for part in parts for name in self.tracked.get(part, ())]
        added = {name: self.epoch_means[name] for name in names}
        if "cosine" in self.tracked:
            added |= gradient_logs.few_cosines(
                self.epoch_means, self.branches, self.level
            )
        if RELATIVE_LOSS in self.words:
            added |= self.relative_loss.of(self.epoch_means)
            added |= self.relative_loss.of(self.validation_means, "val_")
        return added
