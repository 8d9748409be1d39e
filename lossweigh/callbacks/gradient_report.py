"""Logs the branches' gradient norms and cosines during `fit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from lossweigh import _check


class GradientReport(keras.callbacks.Callback):
    """Inspects a training model after some epochs and logs what it shows.

    The names are `<branch>_gradient_norm` and `<a>_<b>_cosine`; with more than 5
    branches `<branch>_lowest_cosine` instead, each branch's cosine with the branch
    that it conflicts with most. `History`, `CSVLogger`, `TensorBoard` and the like get
    them as they get any log. Between two reports nothing is computed, and the last
    report is logged again, so that each epoch has a value. See `TrainingModel.inspect`
    for what is measured, and how.

    Args:
        x: As for `TrainingModel.inspect`: data that isn't used up, such as arrays.
        y: As for `TrainingModel.inspect`.
        sample_weight: As for `TrainingModel.inspect`.
        every: The epochs from one report to the next. The first is after the first
            epoch.
        batch_size: As for `TrainingModel.inspect`.
        steps: As for `TrainingModel.inspect`.

    Raises:
        TypeError: If `x` is an iterator.
        ValueError: If `every` isn't a whole number of at least 1; when `fit` begins,
            if the model isn't a training model, and as `TrainingModel.inspect`, which
            is tried on one batch.

    Examples:
        >>> import keras, numpy as np
        >>> import lossweigh as lw
        >>> x = keras.Input((4,))
        >>> shared = keras.layers.Dense(8, activation="relu")(x)
        >>> outputs = {name: keras.layers.Dense(1, name=name)(shared) for name in "ab"}
        >>> training = lw.build_training_model(
        ...     keras.Model(x, outputs), {"a": "mse", "b": "mae"}
        ... )
        >>> training.compile("adam")
        >>> rows, targets = np.ones((8, 4)), {"a": np.ones(8), "b": np.zeros(8)}
        >>> report = lw.callbacks.GradientReport(rows, targets)
        >>> history = training.fit(rows, targets, verbose=0, callbacks=[report])
        >>> [key for key in history.history if key.endswith(("norm", "cosine"))]
        ['a_gradient_norm', 'b_gradient_norm', 'a_b_cosine']
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        every: int = 1,
        batch_size: int | None = None,
        steps: int | None = 10,
    ) -> None:
        super().__init__()
        self.every = _check.whole("every", every, at_least=1)
        self.data = {"x": x, "y": y, "sample_weight": sample_weight}
        if isinstance(x, Iterator):
            raise TypeError(
                "`x` must be data that can be read after each epoch, such as arrays or "
                f"a data set. Received: {type(x).__name__}, which is used up by then."
            )
        self.batches = {"batch_size": batch_size, "steps": steps}
        self._last: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        if not hasattr(self.model, "inspect"):
            raise ValueError(
                "GradientReport must be used with a model that "
                "`build_training_model` made. Received a model of type "
                f"{type(self.model).__name__}."
            )
        # What is wrong with the data is said before the training, not after an epoch.
        self.model.inspect(**self.data, **{**self.batches, "steps": 1})
        self._last = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._last or epoch % self.every == 0:
            # Through `self.model`: on JAX it brings the state back to the variables.
            result = self.model.inspect(**self.data, **self.batches)
            self._last = result.to_logs()
        if logs is not None:
            logs.update(self._last)
