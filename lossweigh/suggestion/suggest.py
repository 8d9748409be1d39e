"""`suggest`: a short probe, and what to do about the losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from lossweigh import _check
from lossweigh.suggestion.probe import Probe
from lossweigh.suggestion.rules import proposals_for
from lossweigh.suggestion.suggestion import Suggestion
from lossweigh.training import TrainingModel


def suggest(
    training: TrainingModel,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    steps: int = 50,
    batch_size: int = 32,
) -> Suggestion:
    """Trains a few steps with equal weights and proposes what to do about the losses.

    It measures the scales of the targets. In the second half of the steps it measures
    how long the branches' gradients are where they share layers, and the angles.
    Ask before you train: near an optimum gradients cancel, whatever the branches are.
    It proposes, in this order:

    - to look for the cause, if losses or gradients aren't finite;
    - to standardise the target of a squared or absolute error, Huber or log-cosh loss,
      if its standard deviation isn't between 0.1 and 10, or its mean is more than 10
      times that away from 0;
    - fixed weights, if the longest gradient is more than 10 times as long as the
      shortest: these with which all are as long;
    - a balancer, if the cosine of two branches is below 0 in two thirds of at least 10
      steps, and below -0.1 on average;
    - equal weights, if nothing of this is so.

    The model's weighter, balancer and weights of points take no part. Afterwards every
    variable of the model is as before to the bit, and so are the optimizer and the
    random seeds.

    Args:
        training: A compiled training model. The probe uses an optimizer with the
            settings of its own.
        x: As for `fit`.
        y: As for `fit`.
        sample_weight: As for `fit`.
        steps: How many steps of training to take.
        batch_size: Rows of a batch of arrays.

    Returns:
        A `Suggestion`: print it. `proposals` has what it prints, each with its reason,
        its number and lines of code.

    Raises:
        TypeError: If `training` isn't a training model.
        ValueError: If it isn't compiled, its branches share no trainable layer, or
            there are no data; for the data as `fit`.

    Examples:
        >>> import keras, numpy as np
        >>> import lossweigh as lw
        >>> x = keras.Input((4,))
        >>> shared = keras.layers.Dense(8, activation="relu")(x)
        >>> outputs = {
        ...     "price": keras.layers.Dense(1, name="price")(shared),
        ...     "rating": keras.layers.Dense(1, name="rating")(shared),
        ... }
        >>> training = lw.build_training_model(
        ...     keras.Model(x, outputs), {"price": "mse", "rating": "mse"}
        ... )
        >>> training.compile("adam")
        >>> random = np.random.default_rng(0)
        >>> rows = random.normal(size=(64, 4))
        >>> targets = {"price": 173 * rows[:, :1], "rating": rows[:, 1:2]}
        >>> suggestion = lw.suggest(training, rows, targets, steps=4)
        >>> suggestion.actions
        ['standardise']
        >>> suggestion.proposals[0].branches
        ('price',)
    """
    if not isinstance(training, TrainingModel):
        raise TypeError(
            "`training` must be what `build_training_model` returns. Received: "
            f"training={training!r} (of type {type(training).__name__})."
        )
    if not training.compiled:
        raise ValueError(
            "`training` must be compiled, so that the probe can train as you would. "
            'Call `training.compile("adam")` first.'
        )
    steps = _check.whole("steps", steps, at_least=1)
    batch_size = _check.whole("batch_size", batch_size, at_least=1)
    data = training._batches.named(x, y, sample_weight)
    probe = Probe(training, data, batch_size, steps)
    if not probe.measurements:
        raise ValueError("`x` must give at least one batch. Received none.")
    scales = probe.scales.by_target
    written = {target: _written(target, y, training) for target in scales}
    trained = int(ops.convert_to_numpy(training.optimizer.iterations)) > 0
    return Suggestion(
        proposals_for(probe.inspection, scales, written, trained=trained),
        probe.inspection,
        scales,
        len(probe.measurements),
    )


def _written(target: str, y: Any, training: TrainingModel) -> str:
    """How a target is written in Python, given what `y` was."""
    if isinstance(y, (list, tuple)):
        names = training._wiring.data.outputs
        if len(y) != len(names):
            names = training._wiring.data.targets
        return f"y[{names.index(target)}]" if target in names else f"y[{target!r}]"
    return "y" if y is not None and not isinstance(y, Mapping) else f"y[{target!r}]"
