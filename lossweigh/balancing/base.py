"""The base of every gradient balancing: K branch gradients in, one gradient out."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.balancing import levels
from lossweigh.balancing.levels import Level
from lossweigh.balancing.site import Site


@dataclasses.dataclass(frozen=True)
class StepStatistics:
    """What a balancer sees of one step, float32, with the loss scale taken out.

    Attributes:
        gramian: `(K, K)`, the inner products of the branch gradients; the row of
            a branch that isn't present is 0. Without `needs_angles`, all elements off
            the diagonal are 0 too.
        present: `(K,)` bool. A branch whose gradient is exactly 0 (no label was
            there) or isn't finite isn't present.
        losses: `(K,)`, the means of the branch losses.
        mean_abs: `(K,)`, the mean absolute element of each gradient, if the
            method asks for it with `needs_mean_abs`, or `None`.
        draws: `(K, K)` uniform random numbers, if the method asks for them with
            `needs_draws`, or `None`.
    """

    gramian: Tensor
    present: Mask
    losses: Tensor
    mean_abs: Tensor = None
    draws: Tensor = None


class Balancer(abc.ABC):
    """Combines the branch gradients `g_1 .. g_K` where the branches share layers.

    Abstract: a method is a subclass with one method to write, `solve`, from the
    gradients' Gramian to their weights `w`. The shared layers then get
    `sum_k w_k g_k`; the heads get the gradients that they have in plain training.
    A method with state, or one that needs more than the Gramian, overrides
    `initial_state` and `advance` too; one that doesn't weigh whole gradients
    overrides `combine`.

    A balancer describes a method and holds no tensors: the training model keeps what
    it finds.

    Args:
        level: Where the gradients are taken: a `Representation`, `Parameters` or
            `Calibrated`, or `"representation"`, `"parameters"` or `"calibrated"` for
            one without arguments. Default: `"representation"`, except for methods
            whose docstring says otherwise.
        seed: Optional int, for a method that draws random numbers.
        branches: The branches' names; `build_training_model` fills them in.

    Attributes:
        needs_angles: Whether `advance` uses more of the Gramian than its diagonal.
        needs_mean_abs: Whether `advance` uses `StepStatistics.mean_abs`.
        needs_draws: Whether `advance` uses `StepStatistics.draws`.
        needs_noise: Whether `combine` uses random numbers, one an element. Such a
            method has no level but the representation.
        per_branch: Names of the arguments, and attributes, that hold one number a
            branch, in a list or in a dict by branch name.
        default_level: The `level` where none is given.

    Raises:
        ValueError: If no level has this name, the method doesn't have the level, or
            `seed` is negative.
        TypeError: If `level` is no level, or `seed` no whole number.
    """

    needs_angles = True
    needs_mean_abs = False
    needs_draws = False
    needs_noise = False
    per_branch: tuple[str, ...] = ()
    default_level: Level | str = "representation"

    def __init__(
        self,
        *,
        level: str | Level | None = None,
        seed: int | None = None,
        branches: Sequence[str] | None = None,
    ) -> None:
        self.level = levels.get(self.default_level if level is None else level)
        if self.needs_noise and not isinstance(self.level, levels.Representation):
            raise ValueError(
                f'`level` must be "representation" for {type(self).__name__}, which '
                "draws a random number for each element of a shared tensor. "
                f"Received: level={level!r}."
            )
        self.seed = None if seed is None else _check.whole("seed", seed, at_least=0)
        self.branches = None if branches is None else list(branches)

    @abc.abstractmethod
    def solve(self, gramian: Tensor, present: Mask = None) -> Tensor:
        """The weights of the branch gradients, a pure function in `keras.ops`.

        Args:
            gramian: `(K, K)` float32, the inner products of the gradients.
            present: `(K,)` bool, the branches to balance; `None` for all. The
                others get the weight 0, and the rest are balanced as if there
                were no others.

        Returns:
            `(K,)` float32.
        """

    def initial_state(self, num_branches: int) -> dict[str, Tensor]:
        """What the method keeps from step to step: arrays by name; none by default."""
        return {}

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weights and the next state.

        Called in the backward pass, so it may not assign variables.

        Args:
            statistics: The measured gradients and losses of this step.
            state: float32 tensors, as `initial_state` or the last step left them.

        Returns:
            `(K,)` and the next state, of the same names and shapes. The training model
            ignores the weight of a branch that isn't present; the method itself keeps
            that branch's part of the state.
        """
        return self.solve(statistics.gramian, statistics.present), state

    def combine(self, site: Site, weights: Tensor, noise: Tensor = None) -> Tensor:
        """Combines the branches' gradients at one shared tensor.

        Args:
            site: The gradients of the m branches that have one there.
            weights: `(m,)`, the weights of these branches.
            noise: Uniform random numbers of the tensor's shape, with `needs_noise`.

        Returns:
            A tensor of the shared tensor's shape.
        """
        return site.weighted_sum(weights)

    def set_branches(self, branches: Sequence[str]) -> None:
        """Tells the balancer which branch is which.

        Args:
            branches: The branches' names in the order of the losses.

        Raises:
            ValueError: If the balancer belongs to other branches already, or has an
                argument that is for other ones.
        """
        if self.branches is not None and self.branches != list(branches):
            raise ValueError(
                f"`balancer` already balances the branches {self.branches} and can't "
                f"balance {list(branches)}. Make a new {type(self).__name__}."
            )
        for name in self.per_branch:
            values = _check.in_order(name, getattr(self, name), list(branches))
            if values is not None:
                _check.weights(name, values, len(branches))
        self.branches = list(branches)

    def in_order(self, name: str) -> list[float] | None:
        """One of the arguments `per_branch`, as a list in the order of the branches.

        `None` if it wasn't given.
        """
        values: list[float] | None = _check.in_order(
            name, getattr(self, name), self.branches
        )
        return values

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses the call: a balancer isn't a layer."""
        raise TypeError(
            "A balancer isn't called. Give it to `build_training_model(pred_model, "
            f"losses, balancer={type(self).__name__}())`."
        )

    def __repr__(self) -> str:
        given = {**self.get_config(), "level": self.level, "branches": None}
        shown = [f"{k}={value!r}" for k, value in given.items() if value is not None]
        return f"{type(self).__name__}({', '.join(shown)})"

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, for a file."""
        return {
            "level": keras.saving.serialize_keras_object(self.level),
            "seed": self.seed,
            "branches": self.branches,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A balancer of these arguments."""
        level = config.get("level")
        if isinstance(level, dict):
            config = {**config, "level": keras.saving.deserialize_keras_object(level)}
        return cls(**config)
