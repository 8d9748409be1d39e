"""Writes each batch's losses and weights to a file, which a kill leaves readable."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import keras
import numpy as np

from lossweigh import _check, _compat, _row_files


class HDF5Logger(keras.callbacks.Callback):
    """Writes a row a batch to an HDF5 file: each branch's loss and weights.

    `CSVLogger` writes the means of an epoch; this is for what happens within one, over
    millions of steps. A row has the columns

    - `step`: how many batches the optimizer was given, and `epoch`, which counts from 0
      as in a `CSVLogger`'s file;
    - `<branch>_loss`: the batch's loss, not weighted; nan if the batch has no label;
    - `<branch>_weight`: the weight that it was trained with (unless the weighter
      doesn't learn it and `compile(log=...)` leaves it out);
    - `<branch>_balance` with a balancer: the weight that the branch's gradient had in
      the step before, 1 in the first;
    - with `compile(log=["gradients"])` the norms, and the cosines if the logs have all
      pairs.

    The step itself keeps the last rows, on the device and with `steps_per_execution`
    too. They are fetched and written together every `flush_every` steps, and at the end
    of each epoch. In between the file is closed. A process that is killed, even while
    it writes, leaves a file that `HDF5Logger.read` can read, and loses the rows that it
    hadn't written. Another process may read while the training goes on. (Both are
    HDF5's SWMR mode; `h5py.File(path, swmr=True)` reads such a file too. The rows are
    the data set `"batches"`.) One training at a time may write to a file.

    `lw.plot_training(path)` draws it.

    Args:
        filepath: Path of the file, such as `"run.h5"`. Its folder is made.
        every: The steps from one row to the next.
        flush_every: The steps after which rows are written.
        append: Whether the rows of a file that is there are kept, as when a training
            goes on. If not, `fit` begins with an empty file. Steps that are trained
            again after a kill are there twice:
            `frame.drop_duplicates("step", keep="last")`.

    Raises:
        ValueError: If `every` or `flush_every` isn't a whole number of at least 1. When
            `fit` begins: if the model isn't a training model, or with `append=True`
            the file can't be read or has other columns.

    Examples:
        >>> import keras, numpy as np, tempfile
        >>> import lossweigh as lw
        >>> x = keras.Input((4,))
        >>> shared = keras.layers.Dense(8, activation="relu")(x)
        >>> outputs = {name: keras.layers.Dense(1, name=name)(shared) for name in "ab"}
        >>> training = lw.build_training_model(
        ...     keras.Model(x, outputs), {"a": "mse", "b": "mae"}, lw.Uncertainty()
        ... )
        >>> training.compile("adam")
        >>> path = tempfile.mkdtemp() + "/run.h5"
        >>> history = training.fit(
        ...     np.ones((8, 4)),
        ...     {"a": np.ones(8), "b": np.zeros(8)},
        ...     batch_size=4,
        ...     epochs=2,
        ...     verbose=0,
        ...     callbacks=[lw.callbacks.HDF5Logger(path)],
        ... )
        >>> table = lw.callbacks.HDF5Logger.read(path)
        >>> list(table)
        ['step', 'epoch', 'a_loss', 'b_loss', 'a_weight', 'b_weight']
        >>> table["step"], table["epoch"]
        (array([1, 2, 3, 4]), array([0, 0, 1, 1]))
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        *,
        every: int = 1,
        flush_every: int = 100,
        append: bool = False,
    ) -> None:
        super().__init__()
        self.path = pathlib.Path(filepath)
        self.every = _check.whole("every", every, at_least=1)
        self.flush_every = _check.whole("flush_every", flush_every, at_least=1)
        self.append = bool(append)
        self._columns: dict[str, int] = {}
        self._epoch = 0
        self._at_once = 1  # steps, between which Keras doesn't call back
        self._capacity = 0  # of rows that the model keeps
        self._written = 0  # of the steps that the model has counted
        self._ahead: int | None = None  # steps that it took before it counted
        self._batch = 0  # of this epoch, from which on nothing is written

    @staticmethod
    def read(filepath: str | os.PathLike[str]) -> dict[str, np.ndarray]:
        """The rows of a file, by the names of the columns.

        It can be read while it is written, and after a kill.

        Args:
            filepath: Path of a file that an `HDF5Logger` wrote.

        Returns:
            Arrays `(rows,)`: `step` and `epoch` int64, the others float32.
            `pandas.DataFrame` takes such a dict.

        Raises:
            ValueError: If there is no such file, it is damaged, or something else.
        """
        rows = _row_files.read(filepath)
        return {name: rows[name].copy() for name in rows.dtype.names or ()}

    def on_train_begin(self, logs: Any = None) -> None:
        training = self.model
        if not hasattr(training, "expect_rows"):
            raise ValueError(
                "HDF5Logger must be used with a model that `build_training_model` "
                f"made. Received a model of type {type(training).__name__}. "
                "(`CSVLogger` logs any model.)"
            )
        self._at_once = int(training.steps_per_execution)
        self._capacity = max(self.flush_every, self._at_once)
        self._columns = training.expect_rows(self._capacity)
        self._ahead = None
        _row_files.begin(self.path, list(self._columns), append=self.append)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch, 0
        if self._ahead is None:  # `Resume` has loaded the optimizer by now
            training = self.model
            self._written, _ = training.recent_rows(0)
            self._ahead = _compat.batches_given(training.optimizer) - self._written

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Not `self.model` at each step: on JAX it brings back all variables.
        if batch - self._batch + self._at_once > self._capacity:
            self._flush()
            self._batch = batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._flush()

    def _flush(self) -> None:
        """Writes the rows of the steps since the last time."""
        steps, numbers = self.model.recent_rows(self._written)
        step = (self._ahead or 0) + np.arange(steps - len(numbers), steps) + 1
        self._written = steps
        logged = step % self.every == 0
        table = np.empty(logged.sum(), _row_files.row_type(list(self._columns)))
        table["step"], table["epoch"] = step[logged], self._epoch
        for name, index in self._columns.items():
            table[name] = numbers[logged, index]
        if len(table):
            _row_files.append(self.path, table)
