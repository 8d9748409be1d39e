"""What `fit` calls: a `train_function` of JAX, and lists of callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


def watched_steps(
    train_function: Callable[..., Any],
    before: Callable[[Sequence[Any], Iterator[Any]], Iterator[Any]],
    after: Callable[[Sequence[Any]], None],
) -> Callable[..., Any]:
    """A `train_function` of JAX between two functions of ours.

    Keras calls it as `train_function(state, iterator)`, where `state[0]` holds the
    values of the trainable variables, and takes the logs and the next state.

    Args:
        train_function: Keras's.
        before: From these values and the iterator of batches to another iterator.
        after: Is given the next values.
    """

    def call(state: Any, iterator: Iterator[Any]) -> Any:
        logs, state = train_function(state, before(state[0], iterator))
        after(state[0])
        return logs, state

    return call


def put_first(
    callbacks: keras.callbacks.CallbackList, ours: Sequence[Any], model: Any
) -> None:
    """Puts callbacks before those of a list, but for those whose class is in it.

    `CallbackList.append` puts them last, and `CallbackList.callbacks` is the list.
    """
    known = {type(callback) for callback in callbacks.callbacks}
    added = [callback for callback in ours if type(callback) not in known]
    for callback in added:
        callback.set_model(model)
    callbacks.callbacks[:0] = added


def begin_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Says in `on_train_begin` with which epoch `fit` begins.

    There is no public way: `keras.callbacks.BackupAndRestore` sets the same attribute.
    It stays until it is set to `None`.

    Args:
        model: The model.
        epoch: The number of the epoch, from 1; `None` for `fit`'s `initial_epoch`.
    """
    model._initial_epoch = epoch


class _BatchReader(keras.Model):
    """A model without layers whose step of evaluation hands its batch on.

    Keras has no public function that reads all the kinds of data that `fit` reads.

    Args:
        receive: Is given each batch.
        steps: After how many batches to stop; `None` for all.
    """

    def __init__(self, receive: Callable[[Any], None], steps: int | None) -> None:
        super().__init__()
        self.built = True
        self.receive, self.left = receive, steps
        self.compile(run_eagerly=True)

    def test_step(self, *args: Any) -> Any:
        *state, data = args
        self.receive(data)
        if self.left is not None:
            self.left -= 1
            self.stop_evaluating = self.left == 0
        logs = {"batches": 0.0}  # TensorFlow can't do without a log
        return (logs, *state) if state else logs


def read_batches(
    data: Any, batch_size: int | None, steps: int | None, receive: Callable[[Any], None]
) -> None:
    """Hands on the batches of one epoch, in order, as `evaluate` reads them.

    Args:
        data: What `evaluate` takes as `x`, without a `y`.
        batch_size: For arrays; by default 32.
        steps: How many batches at most; `None` for all.
        receive: Is given each batch.
    """
    with warnings.catch_warnings():
        # Keras says so of each generator that comes to its end.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        _BatchReader(receive, steps).evaluate(data, batch_size=batch_size, verbose=0)
