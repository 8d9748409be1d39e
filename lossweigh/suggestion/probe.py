"""A short training with equal weights, of which nothing is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _backend, _compat
from lossweigh.inspection.branch_gradients import Measurement
from lossweigh.inspection.inspection import Inspection
from lossweigh.suggestion.target_scales import TargetScales
from lossweigh.training import TrainingModel
from lossweigh.training.array_likes import library
from lossweigh.training.gradient_meter import gradient_meter


class Probe:
    """Trains a model with equal weights, and measures in each step.

    Each step descends on the sum of the branch losses, as plain Keras does, by a new
    optimizer with the settings of the model's own. Its batches are drawn from the
    data in an order of its own; a data set is read in its order, again if it ends.

    Args:
        training: A compiled training model. Its weighter and balancer are left out.
        data: Named arrays or a data set, as `Batches.named` gives them.
        batch_size: Rows of a batch of arrays.
        steps: How many steps.

    Attributes:
        measurements: What each step showed.
        scales: The scales of the targets.
    """

    def __init__(
        self, training: TrainingModel, data: Any, batch_size: int, steps: int
    ) -> None:
        self.training = training
        self.measurements: list[Measurement] = []
        self.scales = TargetScales(training)
        self.steps = steps
        self._optimizer = _fresh_optimizer(training.optimizer)
        self._meter = gradient_meter(
            training,
            training._wiring,
            compiled=not training.run_eagerly,
            descends=True,
        )
        with _restored(training), _backend.keeps_random_state():
            self._run(data, batch_size)

    @property
    def inspection(self) -> Inspection:
        """The measurements of the second half of the steps."""
        late = self.measurements[len(self.measurements) // 2 :]
        return Inspection(self.training.branches, late, self._meter.num_parameters)

    def _run(self, data: Any, batch_size: int) -> None:
        random = np.random.default_rng(0)
        while len(self.measurements) < self.steps:
            before = len(self.measurements)
            left = self.steps - before
            part = _drawn(data, batch_size * left, random)
            _compat.read_batches(part, batch_size, left, self._step)
            if isinstance(data, Iterator) or len(self.measurements) == before:
                break  # a generator gives its batches once

    def _step(self, batch: Any) -> None:
        inputs, _, _ = self.training._batches.step(batch, training=True)
        self.scales.add(inputs)
        measurement = self._meter.measure(inputs, _scale_of(self.training))
        step = measurement.step
        self.measurements.append(measurement._replace(step=None))
        if step is None:
            return
        self._optimizer.apply(step.gradients, self._meter.descent)
        predictor = {id(v) for v in self.training.prediction_model.variables}
        for variable, value in zip(self._meter.others, step.moved, strict=True):
            if id(variable) in predictor:
                variable.assign(value)


def _fresh_optimizer(optimizer: Any) -> Any:
    """One with the same settings, without loss scaling: gradients aren't scaled."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    config = {**optimizer.get_config(), "loss_scale_factor": None}
    return type(optimizer).from_config(config)


def _scale_of(training: TrainingModel) -> float:
    return float(training.optimizer.scale_loss(1.0))


def _drawn(data: Any, number: int, random: np.random.Generator) -> Any:
    """So many rows of named arrays, or fewer, in a drawn order; a data set as it is."""
    if not isinstance(data, dict):
        return data
    rows = next(iter(data.values())).shape[0]
    chosen = random.permutation(rows)[:number]
    return {name: _rows(values, chosen) for name, values in data.items()}


def _rows(values: Any, chosen: np.ndarray) -> Any:
    if ops.is_tensor(values):
        return ops.take(values, ops.convert_to_tensor(chosen, "int32"), axis=0)
    if library(values) == "h5py":  # which takes sorted rows only
        order = np.argsort(chosen)
        return np.asarray(values[chosen[order]])[np.argsort(order)]
    return values[chosen]


@contextlib.contextmanager
def _restored(training: TrainingModel) -> Iterator[None]:
    """Puts every variable of the model back, whatever happens."""
    before = [
        (variable, np.array(ops.convert_to_numpy(variable)))
        for variable in training.variables
    ]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
