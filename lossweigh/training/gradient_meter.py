"""What a training model looks at its branches' gradients with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from lossweigh import _backend
from lossweigh.gradients.balanced import BalancedModel
from lossweigh.inspection.branch_gradients import BranchLosses, GradientMeter
from lossweigh.inspection.shared_variables import shared_variables
from lossweigh.points import PointWeights
from lossweigh.training.objective import StepResult
from lossweigh.training.wiring import Wiring


def gradient_meter(
    model: keras.Model, wiring: Wiring, *, compiled: bool, descends: bool = False
) -> GradientMeter:
    """A meter of the gradients that the branches have at what they share.

    Args:
        model: The training model. A balancer of it is left out.
        wiring: Its parts.
        compiled: Whether to compile.
        descends: Whether it gives what a step of training would do to the prediction
            model.

    Raises:
        ValueError: If the model doesn't show its layers, or nothing is shared.
    """
    outputs = {
        branch: [name for name in layer.source_names if name in wiring.data.outputs]
        for branch, layer in wiring.losses.items()
    }

    def losses_of(inputs: Any) -> BranchLosses:
        with _bypassed(wiring):
            results = StepResult.of_outputs(
                model(inputs, training=True), wiring.losses
            ).branches.values()
        means, counts = [], []
        for result in results:
            means.append(ops.mean(result.loss))
            rows = ops.shape(result.loss)[0]
            count = rows if result.count is None else result.count
            counts.append(ops.cast(count, "float32"))
        return BranchLosses(_backend.stack(means), _backend.stack(counts))

    layers = shared_variables(wiring.prediction_model, outputs)
    predictor = wiring.prediction_model
    return GradientMeter(
        model.variables,
        layers,
        losses_of,
        compiled=compiled,
        descent=predictor.trainable_variables if descends else (),
    )


@contextlib.contextmanager
def _bypassed(wiring: Wiring) -> Iterator[None]:
    """Nothing is balanced meanwhile, and no point weighed."""
    parts: list[BalancedModel | PointWeights] = [*wiring.points.values()]
    parts += [] if wiring.balanced is None else [wiring.balanced]
    for part in parts:
        part.bypassed = True
    try:
        yield
    finally:
        for part in parts:
            part.bypassed = False
