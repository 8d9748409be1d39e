"""Metrics of the predictions: what a comparison chooses by, and reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lossweigh import _check, _compat
from lossweigh._structure import named_outputs, symbolic_inputs
from lossweigh.comparison.candidates import Recipe
from lossweigh.comparison.parts import Part
from lossweigh.comparison.sameness import described, hashed
from lossweigh.training import TrainingModel

# Keras finds out by the shapes which of its metrics these are.
BY_SHAPE = {"accuracy": "max", "acc": "max", "crossentropy": "min", "ce": "min"}


@dataclasses.dataclass(frozen=True)
class Metric:
    """The metric of an output.

    Attributes:
        output: The output's name.
        metric: A name that Keras knows, a Keras metric's class and arguments, or a
            function `(y_true, y_pred) -> float`.
        direction: `"max"` if more is better, or `"min"`.
    """

    output: str
    metric: Any
    direction: str

    @property
    def is_of_keras(self) -> bool:
        return isinstance(self.metric, (str, Recipe))

    @property
    def label(self) -> str:
        if isinstance(self.metric, Recipe):
            return str(self.metric.config.get("name", self.metric.kind.__name__))
        return self.metric if isinstance(self.metric, str) else _name(self.metric)

    @property
    def sign(self) -> float:
        """1 if more is better, or -1."""
        return 1.0 if self.direction == "max" else -1.0

    def make(self) -> Any:
        """The metric as `compile` takes it."""
        return self.metric.make() if isinstance(self.metric, Recipe) else self.metric

    def better(self, value: float, than: float) -> float:
        """How much better a value is, as a part of the other, which may be 0."""
        return self.sign * (value - than) / (abs(than) or 1.0)

    def describe(self) -> Any:
        """What tells this metric from another one."""
        if isinstance(self.metric, Recipe):
            return [self.metric.describe(), self.direction]
        if isinstance(self.metric, str):
            return [self.metric, self.direction]
        return [self.label, self.direction, hashed(described(self.metric))]


def metrics_by_output(given: Any, outputs: Sequence[str]) -> list[Metric]:
    """The argument `metric`, checked.

    Args:
        given: What `compare` was given.
        outputs: The names of the model's outputs.

    Raises:
        TypeError: If it isn't a dict, or a metric is of an unknown kind.
        ValueError: If it is empty, names an output that the model doesn't have, or a
            metric isn't known or its direction isn't.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            "`metric` must be a dict from an output's name to a metric, such as "
            f"{{{outputs[0]!r}: 'mae'}}. The outputs are {list(outputs)}. Received: "
            f"metric={given!r}."
        )
    given = _check.by_name(given)
    if not given:
        raise ValueError(
            "`metric` must have a metric for at least one output. Received an empty "
            f"dict. The outputs are {list(outputs)}."
        )
    _check.known_names("metric", given, outputs)
    return [_as_metric(output, value) for output, value in given.items()]


def _as_metric(output: str, value: Any) -> Metric:
    direction = None
    if isinstance(value, tuple) and len(value) == 2:
        value, direction = value
        if direction not in ("max", "min"):
            raise ValueError(
                f"`metric` of {output!r} must be a metric, or a pair of a metric and "
                f"'max' or 'min'. Received: {(value, direction)!r}."
            )
    if isinstance(value, keras.metrics.Metric):
        known = _compat.direction(value)
        value = Recipe(type(value), value.get_config())
    elif isinstance(value, str):
        known = BY_SHAPE.get(value) or _compat.direction(_named(output, value))
    elif callable(value) and not isinstance(value, type):
        known = None
    else:
        hint = f" Write `{value.__name__}()`." if isinstance(value, type) else ""
        raise TypeError(
            f"`metric` of {output!r} must be the name of a Keras metric, a "
            "`keras.metrics.Metric`, a function (y_true, y_pred) -> float, or a pair "
            f"of one of these and 'max' or 'min'. Received: {value!r}.{hint}"
        )
    if direction is None and known is None:
        raise ValueError(
            f"`metric` of {output!r} must say whether more is better: write "
            f"({_name(value)}, 'max') or ({_name(value)}, 'min'). Received a metric "
            "whose direction Keras doesn't know."
        )
    return Metric(output, value, direction or known or "")


def _named(output: str, name: str) -> Any:
    try:
        return keras.metrics.get(name)
    except ValueError:
        raise ValueError(
            f"`metric` of {output!r} must be a metric that Keras knows by this name, "
            "such as 'mae' or 'accuracy', or a metric itself. Received: "
            f"{name!r}."
        ) from None


def _name(value: Any) -> str:
    if isinstance(value, Recipe):
        return f"{value.kind.__name__}()"
    if isinstance(value, str):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__name__))


def output_names(model: keras.Model) -> list[str]:
    """The names of a prediction model's outputs, in order."""
    return list(named_outputs(model, model(symbolic_inputs(model))))


def measure(
    training: TrainingModel, metrics: Sequence[Metric], part: Part, batch_size: int
) -> dict[str, float]:
    """The metrics of a model's predictions, by output.

    A metric of Keras leaves out masked steps and missing labels and counts sample
    weights, as in `evaluate`. A function gets all targets and predictions of the output
    as arrays, once.

    Args:
        training: The training model. It is compiled anew, and trained no more.
        metrics: What to measure.
        part: The data.
        batch_size: Rows of a batch.
    """
    model = training.prediction_model
    outputs = output_names(model)
    of_keras = {m.output: [m.make()] for m in metrics if m.is_of_keras}
    measured = {}
    if of_keras:
        training.compile("sgd", weighted_metrics=of_keras)
        logs = training.evaluate(
            part.x,
            part.y,
            batch_size=batch_size,
            sample_weight=part.sample_weight,
            verbose=0,
            return_dict=True,
        )
        for log, output, _ in _compat.compiled_metrics(training, outputs):
            measured[output] = float(logs[log])
    if len(of_keras) < len(metrics):
        predictions = model.predict(part.x, batch_size=batch_size, verbose=0)
        predicted = named_outputs(model, predictions)
        for metric in metrics:
            if not metric.is_of_keras:
                true = true_of(training, part, metric.output)
                result = metric.metric(true, predicted[metric.output])
                measured[metric.output] = _as_number(metric, result)
    return {metric.output: measured[metric.output] for metric in metrics}


def true_of(training: TrainingModel, part: Part, output: str) -> Any:
    """The targets of an output, which a function is called with.

    Args:
        training: The training model, whose branch may have a target of another name.
        part: The data.
        output: The output's name.

    Raises:
        ValueError: If there are none.
    """
    if isinstance(part.y, Mapping):
        targets = _check.by_name(part.y)
    else:
        in_order = list(part.y) if isinstance(part.y, (list, tuple)) else [part.y]
        outputs = output_names(training.prediction_model)
        targets = dict(zip(outputs, in_order, strict=True))
    branch = training.branch_losses.get(output)
    for name in (output, getattr(branch, "target", output)):
        if name in targets:
            return targets[name]
    raise ValueError(
        f"The function that measures the output {output!r} needs a target of this "
        f"name. The targets are {list(targets)}."
    )


def _as_number(metric: Metric, result: Any) -> float:
    number = np.asarray(keras.ops.convert_to_numpy(result))
    if number.size != 1:
        raise ValueError(
            f"The function {metric.label} of the output {metric.output!r} must return "
            f"one number. It returned an array of the shape {number.shape}."
        )
    return float(number.reshape(()))
