"""The metrics that `compile` was given, and what is built before a step."""

from __future__ import annotations

from typing import Any

import keras

from lossweigh._compat.layers import unworded


class _Step(keras.Operation):
    """A function as an operation, which Keras can trace without numbers."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.call = function


def build_metrics(model: keras.Model, x: Any, y: Any, y_pred: Any) -> None:
    """Creates the state of the metrics that `compile` was given, if there are some.

    Args:
        model: A compiled model.
        x: KerasTensors for `compute_metrics`.
        y: Likewise.
        y_pred: Likewise.
    """
    if model._compile_metrics is None:
        return
    try:
        _Step(model.compute_metrics).compute_output_spec(x, y, y_pred)
    except Exception as error:
        # A metric that can't be traced works in eager steps: it is built in the first.
        if not model.run_eagerly:
            raise unworded(error) from None


def symbolic_build(
    model: keras.Model, step_data: Any, iterator: Any, data_batch: Any
) -> None:
    """Builds what a training model still needs before its first step on JAX and torch.

    Keras's own `_symbolic_build` calls the model on a batch, where a layer isn't built
    (one that is never called never is) or a metric. It can't here: a batch of a data
    set isn't merged with its targets yet, and optional inputs are left out.

    Args:
        model: A compiled training model.
        step_data: From a batch to what a step gets.
        iterator: What Keras iterates over, or `None`.
        data_batch: A batch where there is no iterator.
    """
    metrics = model._compile_metrics
    if metrics is not None and not metrics.built:
        if data_batch is None:
            for _, _, data in iterator:
                several = isinstance(data, (list, tuple))
                data_batch = data[0] if several else next(data)
                break
        x, y, _ = keras.tree.map_structure(
            lambda value: (
                value
                if value is None
                else keras.KerasTensor(
                    (None, *value.shape[1:]),
                    keras.backend.standardize_dtype(value.dtype),
                )
            ),
            step_data(data_batch),
        )
        build_metrics(model, x, y, dict(model.output))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model._post_build()


def update_metrics(
    model: keras.Model, targets: Any, predictions: Any, counted: Any, weights: Any
) -> None:
    """Updates the metrics that `compile` was given.

    As `keras.Model.compute_metrics`, which gives those of `metrics` no weights; here
    they get `counted`. `_compile_metrics` chooses, names and holds them.

    Args:
        model: A compiled model.
        targets: Targets by output.
        predictions: Predictions by output.
        counted: Weights by output, or `None`, for `metrics`.
        weights: Weights by output, or `None`, for `weighted_metrics`.
    """
    metrics = model._compile_metrics
    if metrics is None:
        return
    if not metrics.built:
        metrics.build(targets, predictions)
    for lists, given in (
        (metrics._flat_metrics, counted),
        (metrics._flat_weighted_metrics, weights),
    ):
        for output, some in zip(predictions, lists, strict=True):
            if some is not None:
                some.update_state(targets[output], predictions[output], given[output])


def names_in_order(model: keras.Model, logs: Any) -> list[str]:
    """The names of the logs in the order in which `evaluate` lists the results."""
    return list(model._flatten_metrics_in_order({name: name for name in logs}))


def metric_directions(model: keras.Model) -> dict[str, str]:
    """`"min"` or `"max"` for the logs of the metrics that `compile` was given.

    A metric of Keras knows whether more is better as its `_direction`, where it does.
    `_compile_metrics` lists its results in the order of its metrics.
    """
    metrics = model._compile_metrics
    if metrics is None or not metrics.built:
        return {}
    modes = {"up": "max", "down": "min"}
    directions = [getattr(metric, "_direction", None) for metric in metrics.metrics]
    pairs = zip(metrics.result(), directions, strict=True)
    return {log: modes[direction] for log, direction in pairs if direction in modes}
