"""The forward pass of a model whose backward pass is balanced."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _compat, _replicas
from lossweigh.balancing.base import Balancer
from lossweigh.balancing.levels import Representation
from lossweigh.gradients.boundary import Cut
from lossweigh.gradients.parameters import TrunkCall, balance_parameters
from lossweigh.gradients.representation import balance_tensors
from lossweigh.gradients.state import BalancerState


def forward(
    cut: Cut,
    balancer: Balancer,
    state: BalancerState,
    inputs: Any,
    generator: keras.random.SeedGenerator | None,
    exact: bool | None,
) -> tuple[list[Any], TrunkCall]:
    """Calls the shared layers, and then the heads on what leaves these.

    Args:
        cut: The prediction model in two.
        balancer: What combines the branches' gradients on their way back.
        state: The balancer's variables.
        inputs: What the prediction model takes.
        generator: For a balancer that draws random numbers.
        exact: As for `balance_parameters`.

    Returns:
        The outputs of `Cut.heads`, and what the shared layers gave.
    """
    state = state.filled(ops.convert_to_tensor(variable) for variable in state.flat())
    draws = None
    if balancer.needs_draws:
        number = state.weights.shape[0]
        draws = keras.random.uniform((number, number), dtype="float32", seed=generator)
        draws = _replicas.of_the_first(draws)
    if isinstance(balancer.level, Representation):
        trunk = _call_trunk(cut, balancer, state, inputs, generator, draws)
    else:
        trunk = balance_parameters(
            balancer, state, cut.trunk, inputs, cut.exits, draws, exact
        )
    flat = keras.tree.flatten(inputs)
    direct = [flat[index] for index in cut.direct]
    exits = cut.exits.exits
    masks = [
        mask
        for mask, exit in zip(trunk.masks, exits, strict=False)
        for _ in exit.inputs
    ]
    outputs = _outputs_of(
        cut.heads,
        [*trunk.tensors, *trunk.plain, *direct],
        [*masks, *trunk.masks[len(exits) :], *_compat.keras_masks(direct)],
    )
    return outputs, trunk


def _call_trunk(
    cut: Cut,
    balancer: Balancer,
    state: BalancerState,
    inputs: Any,
    generator: keras.random.SeedGenerator | None,
    draws: Any,
) -> TrunkCall:
    """The shared layers as Keras calls them, with a balancer behind them."""
    tensors = _outputs_of(cut.trunk, inputs, None)
    masks = _compat.keras_masks(tensors)
    number = len(cut.exits.exits)
    shared, plain = tensors[:number], tensors[number:]
    noise = None
    if balancer.needs_noise and generator is not None:
        noise = [_backend.uniform(ops.shape(tensor), generator) for tensor in shared]
    leaving, tap = balance_tensors(balancer, state, shared, cut.exits, draws, noise)
    return TrunkCall(leaving, tap, plain, masks, losses=[])


def _outputs_of(model: keras.Model, inputs: Any, masks: Any) -> list[Any]:
    """What a part of the model gives in training."""
    # Not by `model(...)`: that warns of masks which its layers do take.
    outputs = model.call(inputs, training=True, mask=masks)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
