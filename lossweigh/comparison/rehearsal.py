"""Before the first run: can the data be measured at all?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lossweigh import _compat
from lossweigh.comparison.metrics import Metric, measure, true_of
from lossweigh.comparison.parts import Part
from lossweigh.training import TrainingModel

FEW = 8  # rows, which are enough to see whether a metric of Keras takes them


def rehearse(
    training: TrainingModel,
    metrics: Sequence[Metric],
    parts: Mapping[str, Part],
    batch_size: int,
) -> None:
    """Measures an untrained model, as the trained ones will be, and keeps no number.

    Metrics of Keras see a few rows of each part. Functions see all rows of what models
    are chosen by and tested on: of few rows some have no result, such as the area under
    a curve where there is one class only.

    Args:
        training: An untrained model.
        metrics: What will be measured.
        parts: The data by part.
        batch_size: Rows of a batch.

    Raises:
        ValueError: If a metric can't be measured, or is nan because labels are.
    """
    of_keras = [metric for metric in metrics if metric.is_of_keras]
    functions = [metric for metric in metrics if not metric.is_of_keras]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained model may be odd
        for name, part in parts.items():
            few = part.some(slice(FEW))
            _measured(training, of_keras, name, few, batch_size)
            if name == "train":
                continue
            values = _measured(training, functions, name, part, batch_size)
            for metric in functions:
                if np.isnan(values[metric.output]):
                    _check_labels(training, metric, name, part, batch_size)


def _measured(
    training: TrainingModel,
    metrics: Sequence[Metric],
    name: str,
    part: Part,
    batch_size: int,
) -> dict[str, float]:
    try:
        return measure(training, metrics, part, batch_size)
    except Exception as error:
        if len(metrics) > 1:  # which of them is it?
            for metric in metrics:
                _measured(training, [metric], name, part, batch_size)
        cause = _compat.unworded(error)
        shown = " and ".join(f"{m.label} of the output {m.output!r}" for m in metrics)
        raise ValueError(
            f"`data[{name!r}]` can't be measured by the metric {shown}, as an "
            f"untrained model showed before the first run. {type(cause).__name__}: "
            f"{' '.join(str(cause).split())}"
        ) from error


def _check_labels(
    training: TrainingModel, metric: Metric, name: str, part: Part, batch_size: int
) -> None:
    """Refuses a metric that is nan with labels that are nan, and isn't without."""
    missing = _missing(true_of(training, part, metric.output))
    if not missing.any():
        return
    if not missing.all():
        some = part.some(np.flatnonzero(~missing))
        value = _measured(training, [metric], name, some, batch_size)
        if np.isnan(value[metric.output]):
            return
    raise ValueError(
        f"`metric` of {metric.output!r}, the function {metric.label}, is nan on "
        f"`data[{name!r}]` because labels are: {missing.sum()} of {len(missing)} rows "
        "have one that is nan. A function gets all labels. Have it leave out those "
        "that are nan, or take a metric of Keras, for which lossweigh leaves them out."
    )


def _missing(labels: Any) -> Any:
    """Which rows have a label that is nan."""
    arrays = [np.asarray(one) for one in keras.tree.flatten(labels)]
    missing = np.zeros(len(arrays[0]), dtype=bool)
    for array in arrays:
        if array.dtype.kind == "f":
            missing |= np.isnan(array).any(axis=tuple(range(1, array.ndim)))
    return missing
