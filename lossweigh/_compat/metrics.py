"""The metrics that `compile` was given, and what is built before a step."""

from __future__ import annotations

from collections import OrderedDict
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


def symbolic_build(model: Any, iterator: Any, data_batch: Any) -> None:
    """Builds what a training model still needs before its first step on JAX and torch.

    Keras's own `_symbolic_build` calls the model on a batch, where a layer isn't built
    (one that is never called never is) or a metric. It can't here: a batch of a data
    set isn't merged with its targets yet, and optional inputs are left out.

    Args:
        model: A compiled training model.
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
        x, y, _ = _symbols(model._batches.step(data_batch, training=False))
        build_metrics(model, x, y, dict(model.output))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model._post_build()


def build_metrics_from_spec(model: Any, iterator: Any) -> None:
    """Creates the state of metrics from what a TensorFlow data set says of its batches.

    Without taking a batch out of it: a generator's would be lost.

    Args:
        model: A compiled training model.
        iterator: What Keras iterates over, whose data set is `_get_iterator()`.
    """
    batch = _symbols(iterator._get_iterator().element_spec)
    step = _Step(lambda batch: model._batches.step(batch, training=False))
    x, y, _ = step.compute_output_spec(batch)
    build_metrics(model, x, y, dict(model.output))


def _symbols(structure: Any) -> Any:
    """A KerasTensor of any number of rows for each tensor, or its specification."""
    return keras.tree.map_structure(
        lambda value: (
            value
            if value is None
            else keras.KerasTensor(
                (None, *value.shape[1:]), keras.backend.standardize_dtype(value.dtype)
            )
        ),
        structure,
    )


def update_metrics(
    model: keras.Model, vectors: Any, elements: Any, by_element: set[int]
) -> None:
    """Updates the metrics that `compile` was given.

    As `keras.Model.compute_metrics`, which gives those of `metrics` no weights; here
    they get `counted`. `_compile_metrics` chooses, names and holds them.

    Args:
        model: A compiled model.
        vectors: By output what metrics see: `target`, `prediction`, `counted` for
            `metrics`, and `weight` for `weighted_metrics`.
        elements: The same, for those that are in `by_element`.
        by_element: Ids of metrics.
    """
    metrics = model._compile_metrics
    if metrics is None:
        return
    if not metrics.built:
        metrics.build(
            {output: data.target for output, data in vectors.items()},
            OrderedDict((output, data.prediction) for output, data in vectors.items()),
        )
    for lists, weight in (
        (metrics._flat_metrics, "counted"),
        (metrics._flat_weighted_metrics, "weight"),
    ):
        for output, some in zip(vectors, lists, strict=True):
            for metric in () if some is None else some.metrics:
                data = (elements if id(metric) in by_element else vectors)[output]
                metric.update_state(
                    data.target, data.prediction, sample_weight=getattr(data, weight)
                )


def has_metrics(model: keras.Model) -> bool:
    """Whether `compile` was given metrics."""
    return model._compile_metrics is not None


def compiled_metrics(
    model: keras.Model, outputs: list[str]
) -> list[tuple[str, str, Any]]:
    """The metrics that `compile` was given, with the names of their log and output.

    `_compile_metrics` lists its results in the order of its metrics.

    Args:
        model: A compiled model.
        outputs: The names of its outputs, in order.
    """
    metrics = model._compile_metrics
    if metrics is None or not metrics.built:
        return []
    lists = [metrics._flat_metrics, metrics._flat_weighted_metrics]
    held = [
        (output, metric)
        for some in lists
        for output, each in zip(outputs, some, strict=True)
        for metric in (() if each is None else each.metrics)
    ]
    pairs = zip(metrics.result(), held, strict=True)
    return [(log, output, metric) for log, (output, metric) in pairs]


def metric_function(metric: Any) -> Any:
    """The function that a metric is the mean of, which is its `_fn`, or the metric."""
    if isinstance(metric, keras.metrics.MeanMetricWrapper):
        return getattr(metric, "_fn", metric)
    return metric


def names_in_order(model: keras.Model, logs: Any) -> list[str]:
    """The names of the logs in the order in which `evaluate` lists the results."""
    in_order = model._flatten_metrics_in_order({name: name for name in logs})
    return [in_order] if isinstance(in_order, str) else list(in_order)  # one is no list


def direction(metric: Any) -> str | None:
    """`"min"` or `"max"`, if a metric of Keras knows it, as its `_direction`."""
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", None) or "")
