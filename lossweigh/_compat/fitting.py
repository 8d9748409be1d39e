"""What `fit` calls: a `train_function` of JAX, and lists of callbacks."""

from __future__ import annotations

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
