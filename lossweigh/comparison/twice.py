"""What `build` returns: a new model in each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

from lossweigh.comparison.sameness import described, described_model, hashed
from lossweigh.training import TrainingModel, build_training_model
from lossweigh.weighting.fixed_weights import FixedWeights


def build_twice(build: Callable[[], Any]) -> TrainingModel:
    """Calls `build` twice, to see that it makes a new model in each call.

    Args:
        build: What `compare` was given.

    Returns:
        A training model of the first one.

    Raises:
        TypeError: If it isn't a function, or doesn't return a model and losses.
        ValueError: If the two models share variables or loss layers.
    """
    if not callable(build):
        raise TypeError(
            "`build` must be a function without arguments that returns a new model and "
            f"its losses. Received: {type(build).__name__}."
        )
    model, losses = _called(build)
    again, losses_again = _called(build)
    kept = {id(variable) for variable in model.variables}
    kept |= {id(layer) for layer in _layers(losses)}
    shared = [variable for variable in again.variables if id(variable) in kept]
    shared += [layer for layer in _layers(losses_again) if id(layer) in kept]
    if again is model or shared:
        what = "the same model" if again is model else f"{shared[0].name!r} again"
        raise ValueError(
            "`build` must return a new model and new loss layers in each call, since "
            "each run trains a model of its own. It returned "
            f"{what} when it was called a second time. Make all layers inside of "
            "the function."
        )
    return build_training_model(model, losses, FixedWeights())


def outline(training: TrainingModel) -> dict[str, Any]:
    """What tells one's model and losses from another's, without names Keras counts on.

    Args:
        training: The model's training model.
    """
    model = training.prediction_model
    losses = training.branch_losses.values()
    return {
        "weights": [list(weight.shape) for weight in model.weights],
        "layers": [type(layer).__name__ for layer in model.layers],
        "losses": {b: _loss(one) for b, one in training.branch_losses.items()},
        "details": hashed([described_model(model), *map(_details, losses)]),
    }


def _called(build: Callable[[], Any]) -> tuple[keras.Model, Any]:
    result = build()
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            "`build` must return a pair, a prediction model and its losses. "
            f"It returned: {type(result).__name__}."
        )
    if not isinstance(result[0], keras.Model):
        raise TypeError(
            "`build` must return a keras.Model and its losses. It returned a "
            f"{type(result[0]).__name__} first."
        )
    return result


def _layers(losses: Any) -> Iterator[Any]:
    """The losses that are layers."""
    for loss in keras.tree.flatten(losses):
        if isinstance(loss, keras.layers.Layer):
            yield loss


def _details(layer: Any) -> Any:
    return described([layer, layer.loss])


def _loss(layer: Any) -> str:
    loss = layer.loss
    name = getattr(loss, "__name__", None) or type(loss).__name__
    return f"{type(layer).__name__} of {name}"
