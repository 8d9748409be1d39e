"""What a training model reports: branch losses, weights and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class VectorMean(keras.metrics.Metric):
    """The running mean of a vector: one update for all branches, not one each.

    Args:
        size: Length of the vector.
        name: Name of the metric.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(name=name)
        self.total = self.add_variable((size,), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, values: Any, count: Any) -> None:
        """Adds `values`, `(size,)`, the mean of `count` samples."""
        count = ops.cast(count, self.total.dtype)
        self.total.assign(self.total + ops.cast(values, self.total.dtype) * count)
        self.count.assign(self.count + count)

    def result(self) -> Any:
        return ops.divide_no_nan(self.total, self.count)


class BranchLogs:
    """Holds a training model's trackers and metrics, and names their results.

    Not a Keras object itself, so that a model that is compiled again drops the
    trackers of the first time.

    Args:
        outputs: The prediction model's outputs, KerasTensors by name.
        targets: The targets' inputs, KerasTensors by the name of the output that
            they are compared with.
        branches: The branches' names.
        metrics: As for `compile`: by output name; or a list with those of each
            output, or of each that has a loss, in the outputs' order.
        weighted_metrics: Likewise, for metrics that see the sample weights.
        ordered: Whether the outputs' order is known, so that a list can be read.
        whole: The outputs whose target isn't given element by element.
        balanced: Whether a balancer weighs the branches' gradients too.
    """

    def __init__(
        self,
        outputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        branches: Sequence[str],
        metrics: Any = None,
        weighted_metrics: Any = None,
        *,
        ordered: bool = True,
        balanced: bool = False,
        whole: Sequence[str] = (),
    ) -> None:
        self.given = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        self.branches = list(branches)
        in_order = [name for name in outputs if name in targets]
        self.parts = ["loss", "weight", *(["balance"] if balanced else [])]
        size = len(self.parts) * len(self.branches)
        self.tracker = VectorMean(size, name="branch_losses_and_weights")
        self.user_metrics: list[tuple[str, str, bool, Any]] = []
        for weighted, argument, given in (
            (False, "metrics", metrics),
            (True, "weighted_metrics", weighted_metrics),
        ):
            for output, some in _by_output(
                argument, given, in_order, list(outputs), ordered
            ).items():
                for identifier in some:
                    metric = _metric(identifier, targets[output], outputs[output])
                    if output in whole:
                        _check_whole(argument, output, identifier, metric)
                    _build_metric(metric, targets[output], outputs[output])
                    label = metric.name
                    if len(outputs) > 1:
                        label = f"{output}_{label}"
                    self.user_metrics.append((label, output, weighted, metric))

    @property
    def metrics(self) -> list[Any]:
        """Every Keras metric, for the model to reset and to carry on JAX."""
        return [self.tracker, *(metric for *_, metric in self.user_metrics)]

    def update_losses(
        self, losses: Sequence[Any], weights: Any, balance: Any = None
    ) -> None:
        """Adds a batch.

        Args:
            losses: One tensor `(batch,)` a branch.
            weights: `(K,)`, the loss weights in force.
            balance: `(K,)`, the balancer's weights, if there is one.
        """
        stacked = ops.stack(losses)
        means = ops.mean(stacked, axis=-1)
        parts = [means, weights, *([] if balance is None else [balance])]
        parts = [ops.cast(part, means.dtype) for part in parts]
        self.tracker.update_state(ops.concatenate(parts), ops.shape(stacked)[1])

    def result(self) -> dict[str, Any]:
        """Means since the last reset, by log name."""
        size = len(self.branches)
        means = _numbers(self.tracker.result(), len(self.parts) * size)
        logs = {f"{b}_loss": means[i] for i, b in enumerate(self.branches)}
        logs["unweighted_loss"] = sum(means[1:size], means[0])
        for number, part in enumerate(self.parts[1:], start=1):
            for i, branch in enumerate(self.branches):
                logs[f"{branch}_{part}"] = means[number * size + i]
        for label, _, _, metric in self.user_metrics:
            value = metric.result()
            if isinstance(value, Mapping):
                logs.update({f"{label}_{key}": v for key, v in value.items()})
            else:
                logs[label] = value
        return logs


def _numbers(vector: Any, size: int) -> list[Any]:
    """The numbers of a vector, one tensor each."""
    if keras.backend.backend() != "jax":
        return ops.unstack(vector, size)
    # XLA compiles a kernel for each place that something is cut from; but only one for
    # sums that differ in a constant. With many branches that is a tenth of all it does.
    places = np.eye(size, dtype=bool)
    return [ops.sum(ops.where(place, vector, 0.0)) for place in places]


def _by_output(
    argument: str,
    given: Any,
    measured: list[str],
    outputs: list[str],
    ordered: bool,
) -> dict[str, list[Any]]:
    """Metrics by output name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if not isinstance(given, (list, tuple)):
            given = [given]
        nested = any(some is None or isinstance(some, (list, tuple)) for some in given)
        if len(measured) == 1 and not nested:
            given = {measured[0]: given}
        elif ordered and len(given) in (len(measured), len(outputs)):
            names = measured if len(given) == len(measured) else outputs
            pairs = zip(names, given, strict=True)
            given = {name: some for name, some in pairs if some is not None}
        else:
            raise ValueError(
                f"`{argument}` must be a dict by output name, as in "
                f"{{{(measured or outputs)[0]!r}: ['mae']}}, or a list with the "
                f"metrics of each of the outputs {measured} in their order, if the "
                f"model has one. Received: {argument}={given!r}."
            )
    unknown = [name for name in given if name not in measured]
    if unknown:
        raise KeyError(
            f"`{argument}` may only have the names of outputs that have a loss, "
            f"{measured}. Received the names {list(given)} (unknown: {unknown})."
        )
    named = {}
    for output, some in given.items():
        if some is not None:
            named[output] = list(some) if isinstance(some, (list, tuple)) else [some]
    return named


def _metric(identifier: Any, target: Any, prediction: Any) -> Any:
    """A Keras metric from a name, a function or a metric."""
    if isinstance(identifier, keras.metrics.Metric):
        return identifier
    if identifier in ("accuracy", "acc"):
        if prediction.shape[-1] == 1:
            return keras.metrics.BinaryAccuracy(name=identifier)
        if len(target.shape) < len(prediction.shape):
            return keras.metrics.SparseCategoricalAccuracy(name=identifier)
        return keras.metrics.CategoricalAccuracy(name=identifier)
    metric = keras.metrics.get(identifier)
    if not isinstance(metric, keras.metrics.Metric):
        metric = keras.metrics.MeanMetricWrapper(metric, name=metric.__name__)
    if isinstance(identifier, str):
        metric.name = identifier  # "mae" is logged as "mae", as in Keras
    return metric


def _check_whole(argument: str, output: str, identifier: Any, metric: Any) -> None:
    """Keras's own metrics compare element with element: that isn't possible here."""
    if type(metric).__module__.split(".")[0] == "keras":
        shown = repr(identifier) if isinstance(identifier, str) else "..."
        raise ValueError(
            f"`{argument}` of the output {output!r} must be metrics of your own or "
            "`lossweigh.metrics.LastStep`: its target is given once a sample, not for "
            "each element, and a metric of Keras would compare what doesn't belong "
            f"together. Received: {identifier!r}. For the last real step of a sequence "
            f"write `lossweigh.metrics.LastStep({shown})`."
        )


def _build_metric(metric: Any, target: Any, prediction: Any) -> None:
    """Creates a metric's variables now: a jitted step can't."""
    example = [
        ops.zeros([1 if size is None else size for size in tensor.shape], tensor.dtype)
        for tensor in (target, prediction)
    ]
    metric.update_state(*example)
    metric.reset_state()
