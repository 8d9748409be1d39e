"""What a training model says of its parts."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _compat
from lossweigh.balancing.base import Balancer
from lossweigh.branches import Branch
from lossweigh.points import PointWeights
from lossweigh.training.wiring import Wiring
from lossweigh.weighting.base import Weighter


class WiredModel(keras.Model):
    """The parts of a `TrainingModel`, whose constructor sets `_wiring`.

    What has state is brought up to date when a callback asks for it.
    """

    _wiring: Wiring

    @property
    def prediction_model(self) -> keras.Model:
        return self._wiring.prediction_model

    @property
    def weighter(self) -> Weighter:
        _compat.bring_state(self)
        return self._wiring.weighter

    @property
    def balancer(self) -> Balancer | None:
        balanced = self._wiring.balanced
        return None if balanced is None else balanced.balancer

    @property
    def boundary(self) -> dict[str, list[str]]:
        """Where a balancer works: layers' names, and the branches that leave there.

        Empty without a balancer, and while all that the branches share is frozen.
        """
        balanced = self._wiring.balanced
        if balanced is None or balanced.rests:
            return {}
        return {
            layer: [self.branches[index] for index in branches]
            for layer, branches in balanced.cut.branches_by_layer().items()
        }

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weighter's weights now in force, by branch."""
        return self._by_branch(self.weighter.loss_weights)

    @loss_weights.setter
    def loss_weights(self, value: Any) -> None:
        raise TypeError(
            "`loss_weights` can be read only. Set the weights of a `FixedWeights` by "
            "`training.weighter.assign([...])`. Other weighters find theirs. "
            f"Received: {value!r}."
        )

    @property
    def balance(self) -> dict[str, float]:
        """The balancer's weights in the last step of training, by branch.

        Each is 1 before the first step, and while the balancer rests because all that
        the branches share is frozen. Empty without a balancer.
        """
        _compat.bring_state(self)
        balanced = self._wiring.balanced
        return {} if balanced is None else self._by_branch(balanced.loss_weights)

    @property
    def branches(self) -> list[str]:
        return list(self._wiring.losses)

    @property
    def branch_losses(self) -> dict[str, Branch]:
        return self._wiring.losses

    @property
    def point_weights(self) -> dict[str, PointWeights]:
        """What weighs the points of a branch, by branch, where something does."""
        _compat.bring_state(self)
        return dict(self._wiring.points)

    def _by_branch(self, weights: Any) -> dict[str, float]:
        values = ops.convert_to_numpy(weights).tolist()
        return dict(zip(self.branches, values, strict=True))
