"""Weights that the user sets, or a schedule moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting._combining import weighted_sum
from lossweigh.weighting.base import Weighter

_MEMORY = "memory_"  # begins the names of the remembered arrays in a file


@keras.saving.register_keras_serializable(package="lossweigh")
class FixedWeights(Weighter):
    """`sum_k w_k L_k` with weights `w` that nothing trains.

    It gives the same numbers as `compile(loss_weights=...)` of Keras. But the weights
    are a variable: they are saved, and `lossweigh.callbacks.LossWeightScheduler` moves
    them from step to step or epoch to epoch without a recompilation. The weights
    needn't sum to 1; doubling all of them doubles the gradient.

    Args:
        weights: One number of at least 0 for each branch: a list in the order of
            the losses, in a training model that of the outputs, or a dict by branch
            name. Default: all 1.
        **kwargs: Passed to `keras.layers.Layer`.

    Attributes:
        memory: Arrays by name, what a callback that moves the weights remembers of
            the epochs so far. They are saved and loaded with the layer.

    Raises:
        ValueError: If a weight is negative or not finite, all are 0, there isn't one
            for each branch, or a dict names an unknown branch or misses one.

    Examples:
        >>> from keras import ops
        >>> weighter = FixedWeights([1.0, 30.0])
        >>> total = weighter([ops.array([1.0, 2.0]), ops.array([0.1, 0.2])])
        >>> print(ops.convert_to_numpy(total))
        [4. 8.]
    """

    learns = False
    per_branch = ("weights_given",)

    def __init__(
        self,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weights_given = _check.per_branch("weights", weights, _check.weights)
        self.memory: dict[str, np.ndarray] = {}

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        initial = _check.in_order("weights", self.weights_given, self.branches)
        initial = [1.0] * self.num_branches if initial is None else initial
        initial = _check.weights("weights", initial, self.num_branches)
        self.variable = self.add_weight(
            name="loss_weights",
            shape=(self.num_branches,),
            initializer=lambda shape, dtype=None: ops.array(initial, dtype=dtype),
            trainable=False,
        )

    @property
    def loss_weights(self) -> Tensor:
        weights = self.variable * 1.0
        stopped = self._is_stopped()
        if stopped.any():  # whatever weights were loaded since
            weights = weights * ops.convert_to_tensor(~stopped, weights.dtype)
        return weights

    def assign(self, weights: Sequence[float] | Mapping[str, float]) -> None:
        """Sets the weights, from the next step on.

        A branch that `stop` has stopped keeps the weight 0.

        Args:
            weights: A list in the order of the outputs, or a dict by branch name;
                branches that a dict leaves out keep their weight.
        """
        if isinstance(weights, Mapping):
            weights = _check.by_name(weights)
            _check.known_names("weights", weights, self.branches or [])
            now = [float(w) for w in ops.convert_to_numpy(self.loss_weights)]
            named = dict(zip(self.branches or [], now, strict=True))
            weights = list({**named, **weights}.values())
        checked = _check.weights("weights", weights, self.num_branches)
        self.variable.assign(np.where(self._is_stopped(), 0.0, checked))

    def stop(self, branch: str) -> None:
        """Gives a branch the weight 0 for good; the others keep theirs.

        A training model then freezes the layers that only stopped branches use, when
        its next `fit` begins; `lossweigh.callbacks.StopBranch` has it do so at once.

        Args:
            branch: The branch's name.

        Raises:
            ValueError: If there is no such branch.
        """
        _check.known_names("branch", [branch], self.branches or [])
        stopped = self._is_stopped()
        stopped[(self.branches or []).index(branch)] = True
        self.memory["stopped"] = stopped
        now = ops.convert_to_numpy(self.variable.value)
        self.variable.assign(np.where(stopped, 0.0, now))

    @property
    def stopped(self) -> list[str]:
        """The names of the branches that `stop` has stopped."""
        flags = zip(self.branches or [], self._is_stopped(), strict=False)
        return [branch for branch, is_stopped in flags if is_stopped]

    def _is_stopped(self) -> np.ndarray:
        flags = self.memory.get("stopped", np.zeros(self.num_branches))
        return np.array(flags, dtype=bool)

    def combine(self, losses: Tensor, labelled: Mask, training: bool) -> Tensor:
        return weighted_sum(self.loss_weights, losses)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.weights_given}

    # Beside the variables, so that numbers keep their precision and arrays may grow.

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for name, values in self.memory.items():
            store[f"{_MEMORY}{name}"] = np.asarray(values)

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        self.memory = {
            name.removeprefix(_MEMORY): np.array(store[name])
            for name in names
            if name.startswith(_MEMORY)
        }
        super().load_own_variables(
            {name: store[name] for name in names if not name.startswith(_MEMORY)}
        )
