"""What a step hands to the metrics of the predictions."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from lossweigh.branches import BranchLoss, split_labels
from lossweigh.training.logs import BranchLogs
from lossweigh.training.names import sample_weight_name, target_name
from lossweigh.training.objective import StepResult
from lossweigh.training.wiring import Wiring


class Handed(NamedTuple):
    """What a metric sees of an output in a step; what isn't known or given is `None`.

    Attributes:
        target: The target, 0 where there is no label.
        prediction: The prediction, without the mask that Keras attached.
        counted: For `metrics`: 0 where an element is masked or has no label, else 1.
        weight: For `weighted_metrics`: that times the sample weights.
    """

    target: Any
    prediction: Any
    counted: Any
    weight: Any


def hand_over(
    data: Mapping[str, Any],
    result: StepResult,
    outputs: Sequence[str],
    metric_branches: Mapping[str, BranchLoss],
) -> tuple[dict[str, Handed], dict[str, Handed]]:
    """What a step's metrics see, by output, in the outputs' order.

    Args:
        data: The training model's inputs, and targets of outputs without a loss.
        result: What the training model gave.
        outputs: The prediction model's outputs, in order.
        metric_branches: The branch whose target an output's metrics are given.

    Returns:
        What metrics of whole vectors see; and, for outputs whose single elements may
        lack their label, what metrics of single elements see.
    """
    vectors: dict[str, Handed] = OrderedDict()  # in which Keras keeps the order
    elements: dict[str, Handed] = {}
    for output in outputs:
        prediction = ops.cast(
            result.predictions[output], "float32"
        )  # or the target isn't
        branch = metric_branches.get(output)
        if branch is None:
            target = data.get(target_name(output))
            vectors[output] = Handed(target, prediction, None, None)
            continue
        target = split_labels(data[target_name(branch.target)], branch.missing)[1]
        weight = data.get(sample_weight_name(str(branch.branch)))
        valid = result.branches[str(branch.branch)].valid
        if valid is None:
            weight = _of_vectors(weight, prediction)
            vectors[output] = Handed(target, prediction, None, weight)
            continue
        prediction = ops.copy(prediction)
        if len(valid.shape) == len(prediction.shape) > 1:
            elements[output] = Handed(
                ops.expand_dims(target, -1),
                ops.expand_dims(prediction, -1),
                valid,
                valid if weight is None else valid * ops.cast(weight, "float32"),
            )
            valid = ops.min(valid, axis=-1)
        weight = _of_vectors(weight, prediction)
        weight = valid if weight is None else valid * weight
        vectors[output] = Handed(target, prediction, valid, weight)
    return vectors, elements


def _of_vectors(weight: Any, prediction: Any) -> Any:
    """A branch's sample weight with an axis for each of the prediction's but the last.

    Metrics such as `MeanIoU` want one for each pixel.
    """
    if weight is None:
        return None
    weight = ops.cast(weight, "float32")
    shape = ops.shape(prediction)
    rank = max(len(shape) - 1, 1)
    if len(weight.shape) > rank:
        weight = ops.mean(weight, axis=-1)
    return weight if rank == 1 else ops.broadcast_to(weight, shape[:rank])


def by_element(wiring: Wiring, metrics: Iterable[tuple[str, str, Any]]) -> set[int]:
    """Which metrics count each label, for outputs that may lack single ones.

    The others count the samples that have all of their labels; a warning says so.

    Args:
        wiring: The training model's.
        metrics: Each with the name of its log and of its output.

    Returns:
        The ids of these metrics.
    """
    ids = set()
    for log, output, metric in metrics:
        branch = wiring.metric_branches.get(output)
        valid = None if branch is None else wiring.valid.get(str(branch.branch))
        if valid is None or not valid.elements:
            continue
        if _takes_elements(metric):
            ids.add(id(metric))
        else:
            warnings.warn(
                f"The metric {log!r} takes whole vectors of the output {output!r}, so "
                "that it counts only samples that have all of their labels. One that "
                "goes element by element, such as 'mae' or "
                "`keras.metrics.BinaryAccuracy()`, counts each label.",
                stacklevel=3,
            )
    return ids


def _takes_elements(metric: Any) -> bool:
    """Whether elements one by one give what vectors of them do, tried on drawn ones."""
    random = np.random.default_rng(0)
    target = (random.uniform(size=(8, 3)) > 0.5).astype("float32")
    prediction = random.uniform(0.1, 0.9, (8, 3)).astype("float32")
    results = []
    try:
        for last in ((), (1,)):
            metric.reset_state()
            metric.update_state(
                ops.reshape(target, (8, 3, *last)),
                ops.reshape(prediction, (8, 3, *last)),
                sample_weight=ops.ones((8, 3)) if last else None,
            )
            results.append(ops.convert_to_numpy(metric.result()))
    except Exception:
        return False
    finally:
        metric.reset_state()
    one, other = results
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4)


def nan_without_elements(
    results: dict[str, Any], wiring: Wiring, logs: BranchLogs | None
) -> dict[str, Any]:
    """Makes metrics nan, not 0, for outputs without an element that counted.

    Args:
        results: The metrics' numbers by the names of their logs.
        wiring: The training model's.
        logs: Likewise; `None` before it is compiled.
    """
    if logs is None:
        return results
    for log, value in results.items():
        branch = wiring.metric_branches.get(logs.output_of.get(log, ""))
        if branch is not None and branch.branch in wiring.valid:
            index = logs.branches.index(str(branch.branch))
            results[log] = ops.where(logs.tracker.count[index] > 0, value, float("nan"))
    return results
