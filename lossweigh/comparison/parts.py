"""The data of a comparison: three parts, and the order of their batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from lossweigh.comparison.extras import need

PARTS = ("train", "validation", "test")


class Part(NamedTuple):
    """Arrays as `fit` takes them; `sample_weight` may be `None`."""

    x: Any
    y: Any
    sample_weight: Any = None

    @property
    def rows(self) -> int:
        return len(keras.tree.flatten(self.x)[0])

    def some(self, rows: Any) -> Part:
        """A part with some of the rows.

        Args:
            rows: A slice, or an array of indices.
        """
        return Part(*(keras.tree.map_structure(_rows_of(rows), v) for v in self))


def parts_of(data: Any) -> dict[str, Part]:
    """The argument `data`, checked, as arrays.

    Args:
        data: What `compare` was given.

    Raises:
        TypeError: If it isn't a dict, or a part isn't a tuple of arrays.
        ValueError: If a part is missing or empty, arrays of a part have different
            numbers of rows, or two parts have the same inputs.
    """
    if callable(data):
        data = data()
    if not isinstance(data, Mapping):
        raise TypeError(
            "`data` must be a dict {'train': (x, y), 'validation': (x, y), "
            "'test': (x, y)}, or a function that returns one. Received: "
            f"{type(data).__name__}."
        )
    if sorted(data) != sorted(PARTS):
        raise ValueError(
            f"`data` must have the parts {list(PARTS)}: models are trained on the "
            "first, learning rates and weights are chosen on the second, and the "
            f"table reports the third. Received the parts {list(data)}."
        )
    parts = {name: _as_part(name, data[name]) for name in PARTS}
    digests = {name: digest(part.x) for name, part in parts.items()}
    pairs = (("validation", "train"), ("test", "train"), ("test", "validation"))
    for name, other in pairs:
        if digests[name] == digests[other]:
            raise ValueError(
                f"`data` must have other inputs in {name!r} than in {other!r}. "
                "Received the same ones. Numbers of data that a choice was made on, "
                "or a model was trained on, compare nothing."
            )
    return parts


def _as_part(name: str, given: Any) -> Part:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise TypeError(
            f"`data[{name!r}]` must be a tuple (x, y) or (x, y, sample_weight). "
            f"Received: {type(given).__name__}."
        )
    part = Part(*(keras.tree.map_structure(_as_array, value) for value in given))
    arrays = [a for a in keras.tree.flatten(tuple(part)) if a is not None]
    if any(array.ndim == 0 for array in arrays):
        raise TypeError(
            f"`data[{name!r}]` must hold arrays with a row for each sample, or lists "
            "or dicts of such arrays. Received single numbers; is there a list that "
            "should be an array?"
        )
    rows = {len(array) for array in arrays}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(
            f"`data[{name!r}]` must have arrays with the same number of rows, and at "
            f"least one. Received arrays with {sorted(rows)} rows."
        )
    return part


def _rows_of(rows: Any) -> Callable[[Any], Any]:
    return lambda array: None if array is None else array[rows]


def _as_array(value: Any) -> Any:
    return None if value is None else np.asarray(value)


def digest(arrays: Any) -> str:
    """A text that other arrays wouldn't have."""
    return str(need("joblib").hash(arrays))


class SeededBatches(keras.utils.PyDataset):
    """Batches in an order that depends on the seed and the epoch alone.

    `fit` would shuffle by a generator that a model's own layers, and some weighters,
    draw from too.

    Args:
        part: The arrays.
        batch_size: Rows of a batch; the last may have fewer.
        seed: The seed of the order.
    """

    def __init__(self, part: Part, batch_size: int, seed: int) -> None:
        super().__init__()
        self.part, self.batch_size, self.seed = part, batch_size, seed
        self.shuffle(0)

    def shuffle(self, epoch: int) -> None:
        """Takes the order of an epoch.

        `fit` calls `on_epoch_end` once before the first epoch, so epochs can't be
        counted there.

        Args:
            epoch: Its number, from 0 on.
        """
        random = np.random.default_rng([self.seed, epoch])
        self.order = random.permutation(self.part.rows)

    def __len__(self) -> int:
        return -(-self.part.rows // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        some = self.part.some(rows)
        if some.sample_weight is None:
            return (some.x,) if some.y is None else (some.x, some.y)
        return tuple(some)
