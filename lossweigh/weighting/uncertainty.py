"""Kendall, Gal & Cipolla: weights from each branch's learned noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import BranchName, Tensor
from lossweigh.weighting.learned import LearnedWeighter

TASK_TYPES = ("regression", "classification")


@keras.saving.register_keras_serializable(package="lossweigh")
class Uncertainty(LearnedWeighter):
    """Weighs each branch by its learned homoscedastic uncertainty.

        regression:      0.5 exp(-s_k) L_k + 0.5 s_k
        classification:      exp(-s_k) L_k + 0.5 s_k

    with `s_k = log sigma_k^2`, the log-variance of branch k, learned from
    `s_k = 0`. At its optimum a regression branch has `exp(s_k) = L_k`, so each
    branch contributes the same to the total, whatever its scale. For a mean
    squared error `sigma_k = exp(s_k / 2)` is then the root mean square of the
    residuals, and `weighter.sigma` holds it. (The authors' notebook prints
    `exp(s_k ** 0.5)` instead.)

    The total may become negative, so watch the branches' losses or `unweighted_loss`.
    The weights sum to no fixed number. A branch loss must be positive, because below 0
    there is no optimum; an exact 0 counts as absent.

    Differs from the paper: the log-variances have their own learning rate (see
    `LearnedWeighter`). With the model's they would lag behind the losses.

    Args:
        task_types: What a branch is, `"regression"` or `"classification"`, which says
            its term: a list in the order of the losses, or a dict by branch name for
            some.
            Default: classification for cross-entropies, otherwise regression. In a
            model that was wired by hand all are regression.
        learning_rate: Float, the log-variances' learning rate.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If a type is neither of the two or isn't given for each, or a dict
            names an unknown branch.

    Examples:
        >>> from keras import ops
        >>> weighter = Uncertainty()
        >>> total = weighter([ops.array([1.0]), ops.array([2.0]), ops.array([4.0])])
        >>> print(ops.convert_to_numpy(total))
        [3.5]

    Reference:
        A. Kendall, Y. Gal, R. Cipolla. Multi-task learning using uncertainty to
        weigh losses for scene geometry and semantics. CVPR 2018.
    """

    needs_positive_losses = True
    per_branch = ("task_types",)

    def __init__(
        self,
        task_types: Sequence[str] | Mapping[str, str] | None = None,
        *,
        learning_rate: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.task_types = check_task_types(task_types)

    def build(self, input_shape: Any) -> None:
        number = self.count(input_shape)
        chosen = choose_task_types(
            self.task_types, self.branches, self.inferred_task_types, number
        )
        self.scale = [0.5 if task_type == "regression" else 1.0 for task_type in chosen]
        super().build(input_shape)

    @property
    def sigma(self) -> Tensor:
        """`(K,)` float32, the learned standard deviation of each branch's noise."""
        return ops.exp(0.5 * self.parameters)

    def weights_of(self, parameters: Tensor) -> Tensor:
        return ops.convert_to_tensor(self.scale) * ops.exp(-parameters)

    def regularizers(self, parameters: Tensor, means: Tensor) -> Tensor:
        return 0.5 * parameters

    def gradient(self, parameters: Tensor, means: Tensor) -> Tensor:
        return 0.5 - self.weights_of(parameters) * means

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "task_types": self.task_types}


def check_task_types(task_types: Any) -> Any:
    """The argument of a weighter, each entry one of `TASK_TYPES`."""
    if task_types is None:
        return None
    if isinstance(task_types, Mapping):
        task_types = _check.by_name(task_types)
        entries = list(task_types.values())
    else:
        task_types = entries = list(task_types)
    for entry in entries:
        _check.one_of("task_types", entry, TASK_TYPES)
    return task_types


def choose_task_types(
    task_types: Any,
    branches: list[BranchName] | None,
    inferred: list[str] | None,
    num_branches: int,
) -> list[str]:
    """The type of each branch, from the argument and from what its loss is.

    Args:
        task_types: As `check_task_types` gives them.
        branches: The branches' names, or `None`.
        inferred: What the branches' losses are, or `None`.
        num_branches: K.
    """
    chosen = list(inferred) if inferred else ["regression"] * num_branches
    if isinstance(task_types, dict):
        names = _check.with_names("task_types", task_types, branches)
        _check.known_names("task_types", task_types, names)
        pairs = zip(branches or [], chosen, strict=True)
        return [task_types.get(name, task_type) for name, task_type in pairs]
    if task_types is not None and len(task_types) != num_branches:
        raise ValueError(
            "`task_types` must hold one type for each of the "
            f"{num_branches} branches. Received {len(task_types)}: "
            f"task_types={task_types}."
        )
    return chosen if task_types is None else task_types
