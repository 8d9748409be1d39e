"""What rests in a training model because its branches have stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from lossweigh import _compat
from lossweigh._structure import output_positions
from lossweigh.gradients.sharing import layers_of
from lossweigh.gradients.tracing import functional
from lossweigh.training.wiring import Wiring
from lossweigh.weighting.fixed_weights import FixedWeights


class Stopped:
    """The branches that have stopped, and the layers that only these use.

    `layer.trainable = False` would not do: JAX hands each step as many variables as the
    optimizer is built for, and a file would hold another number of them than the
    model that reads it builds. So the variables stay in the state of the training, and
    the optimizer leaves them out.

    Args:
        branches: The names of the branches.
        layers: The layers that rest, at any depth.
    """

    def __init__(
        self,
        branches: tuple[str, ...] = (),
        layers: tuple[keras.layers.Layer, ...] = (),
    ) -> None:
        self.branches, self.layers = branches, layers

    @classmethod
    def of(cls, wiring: Wiring) -> Stopped:
        """What has stopped in a training model by now."""
        branches = names_of_stopped(wiring)
        if not branches:
            return cls()
        heads = [*_heads(wiring, branches), *(wiring.losses[b] for b in branches)]
        heads += [wiring.points[b] for b in branches if b in wiring.points]
        inside = [
            part
            for head in heads
            if isinstance(head, keras.layers.Layer)
            for part in (head, *_compat.layers_at_any_depth(head))
        ]
        return cls(branches, tuple(inside))

    def leave_alone(self, optimizer: Any) -> None:
        """Has an optimizer leave out the variables of these layers."""
        variables = [v for layer in self.layers for v in layer.variables]
        _compat.leave_out(optimizer, variables)

    def at_rest_in(self, train_function: Callable[..., Any]) -> Callable[..., Any]:
        """A `train_function` in which these layers compute as frozen ones do.

        Around the step, not in it: torch's compiler refuses one `with` in another.
        """
        if not self.layers:
            return train_function

        def call(*args: Any) -> Any:
            with _compat.as_frozen(self.layers):
                return train_function(*args)

        return call


def names_of_stopped(wiring: Wiring) -> tuple[str, ...]:
    """The branches that have stopped in a training model by now."""
    weighter = wiring.weighter
    return tuple(weighter.stopped) if isinstance(weighter, FixedWeights) else ()


def _heads(wiring: Wiring, branches: tuple[str, ...]) -> list[keras.layers.Layer]:
    """The layers of the prediction model that only these branches use."""
    model = wiring.prediction_model
    try:
        graph = functional(model)
    except ValueError:
        warnings.warn(
            f"The branches {list(branches)} have stopped and have the weight 0. But "
            f"the model {model.name!r} (a {type(model).__name__}) doesn't show which "
            "layers only they use, so these aren't frozen: an optimizer's momentum "
            "and weight decay still move them. Build the prediction model as a "
            "functional one, `keras.Model(inputs, outputs)`.",
            stacklevel=2,
        )
        return []
    order = output_positions(model)
    outputs = [
        [order[name] for name in layer.source_names if name in order]
        for layer in wiring.losses.values()
    ]
    indices = [list(wiring.losses).index(branch) for branch in branches]
    return layers_of(graph, outputs, indices)
