"""Goes on after an interruption, from one file that is always a whole one."""

from __future__ import annotations

import os
import pathlib
import warnings
from typing import Any

import h5py
import keras

from lossweigh import _compat
from lossweigh._files import remove_leftovers, written_whole

_EPOCHS = "epochs_done"  # the name of the file's attribute


class Resume(keras.callbacks.Callback):
    """Lets `fit` go on after a kill with the epoch that was interrupted.

    After each epoch the whole state is written to one file: the model's variables, the
    weighter's and the balancer's state, the optimizer, and the number of epochs. Run
    the same program again, and `fit` loads the file and goes on, with the same numbers
    to the bit if the data come in the same order.

    It does what `keras.callbacks.BackupAndRestore` does, which writes two files one
    after the other. A kill in its first backup or between the two files leaves what
    the next process can't read, or what it trains one epoch twice from. Here the
    file is written beside the last one, brought to the disk, and then renamed: at every
    moment there is the last state or the one before it.

    A state belongs to the end of an epoch. If an epoch is more than you can afford to
    lose, make it shorter by `fit(..., steps_per_epoch=...)`. Other callbacks begin
    anew: give `ModelCheckpoint` its `initial_value_threshold`.

    A training model calls it after the other callbacks, whatever their order. For a
    plain Keras model, which may have it too, put it last in the list.

    Args:
        filepath: Path of the file, which must end in `.weights.h5`. `load_weights`
            can read it too. Its folder is made.
        delete_checkpoint: Whether the file is removed when `fit` has ended. If it is,
            the next `fit` begins anew. If not, `fit` has nothing left to do until
            `epochs` is raised, and a kill before you have saved the model loses
            nothing.

    Raises:
        ValueError: If `filepath` has another ending. When `fit` begins: if the file
            was written by something else, for another model, or is damaged.

    Examples:
        >>> import keras, numpy as np, tempfile
        >>> import lossweigh as lw
        >>> def train(epochs, resume):
        ...     x = keras.Input((4,))
        ...     shared = keras.layers.Dense(8, activation="relu")(x)
        ...     outputs = {n: keras.layers.Dense(1, name=n)(shared) for n in "ab"}
        ...     training = lw.build_training_model(
        ...         keras.Model(x, outputs), {"a": "mse", "b": "mae"}, lw.DWA()
        ...     )
        ...     training.compile("adam")
        ...     rows, targets = np.ones((8, 4)), {"a": np.ones(8), "b": np.zeros(8)}
        ...     return training.fit(
        ...         rows, targets, epochs=epochs, verbose=0, callbacks=[resume]
        ...     )
        >>> resume = lw.callbacks.Resume(
        ...     tempfile.mkdtemp() + "/run.weights.h5", delete_checkpoint=False
        ... )
        >>> train(2, resume).epoch
        [0, 1]
        >>> train(5, resume).epoch  # as another process would
        [2, 3, 4]
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        *,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not str(filepath).endswith(".weights.h5"):
            raise ValueError(
                "`filepath` must end in `.weights.h5`. Received: "
                f"filepath={str(filepath)!r}."
            )
        self.path = pathlib.Path(filepath)
        self.delete_checkpoint = bool(delete_checkpoint)

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.model.built:
            raise ValueError(
                "The model must be built before `fit`, for Resume to load its state. "
                "Call it on a batch of data first."
            )
        if self.path.exists():
            _compat.begin_at_epoch(self.model, self._load())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        _compat.begin_at_epoch(self.model, None)  # Keras's next `fit` would obey it

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.path) as path:
            # Not `self.model.save_weights`, which would write that whole, too.
            keras.Model.save_weights(self.model, path)
            with h5py.File(path, "r+") as file:
                file.attrs[_EPOCHS] = epoch + 1

    def on_train_end(self, logs: Any = None) -> None:
        _compat.begin_at_epoch(self.model, None)
        remove_leftovers(self.path)  # of a kill after the last epoch
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)

    def _load(self) -> int:
        """Loads the state; returns how many epochs it has behind it."""
        try:
            with h5py.File(self.path) as file:
                epochs = file.attrs.get(_EPOCHS)
            if epochs is None:
                raise ValueError("It doesn't say how many epochs it has behind it.")
            optimizer = self.model.optimizer
            if optimizer is not None and not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            with warnings.catch_warnings():
                # Keras goes on without what it can't load of an optimizer.
                warnings.filterwarnings("error", "Skipping", UserWarning)
                self.model.load_weights(self.path)
        except (OSError, ValueError, UserWarning) as error:
            raise ValueError(
                f"Resume can't go on from {str(self.path)!r}. The file must be one "
                "that Resume wrote, for the same model, losses, weighter, balancer and "
                "optimizer. To begin anew, delete it, or give `filepath` another name. "
                f"What failed: {error}"
            ) from error
        return int(epochs)
