"""The numbers of a training by key, from wherever Keras has put them."""

from __future__ import annotations

import csv
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from lossweigh import _row_files

# Epochs, counted from 1, or steps, and the numbers logged at their ends.
Series = tuple[np.ndarray, np.ndarray]
_MOST_ROWS = 1000  # of batches, above which several are one point
_MISSING = {"", "NA"}  # `CSVLogger` writes `NA` where an epoch lacks a key


def read(history: Any) -> tuple[str, dict[str, Series]]:
    """The series of a training by key; what isn't one number an epoch is left out.

    Args:
        history: A `keras.callbacks.History`, its `.history`, the path of a file of
            `keras.callbacks.CSVLogger` or `HDF5Logger`, or of a
            `keras.callbacks.TensorBoard` folder.

    Returns:
        What the series go over, "epoch", "step" or "row", and the series.

    Raises:
        TypeError: If it is none of them.
        ValueError: If nothing is at the path, the file is of another kind, there is no
            epoch or row in it, or a TensorBoard folder can't be read.
    """
    over = "epoch"
    if isinstance(history, keras.callbacks.History):
        series = _of_lists(history.history, getattr(history, "epoch", ()))
    elif isinstance(history, Mapping):
        series = _of_lists(history, ())
    elif isinstance(history, (str, os.PathLike)):
        path = pathlib.Path(history)
        if not path.exists():
            raise ValueError(
                "`history` must be the path of a CSV, of HDF5Logger's file or of a "
                f"TensorBoard folder. Received: history={str(path)!r}, where nothing "
                "is."
            )
        if path.is_dir():
            series = _of_folder(path)
        elif path.suffix in (".h5", ".hdf5") or h5py.is_hdf5(path):
            over, series = _of_rows(path)
        else:
            series = _of_csv(path)
    else:
        raise TypeError(
            "`history` must be what `fit` returns, its `.history`, the path of a "
            "CSVLogger's or HDF5Logger's file, or of a TensorBoard folder. Received: "
            f"history={history!r} (of type {type(history).__name__})."
        )
    series = {key: one for key, one in series.items() if len(one[1])}
    if not series:
        raise ValueError(
            f"`history` must hold the numbers of at least one {over}. Received: "
            f"history={history!r}, which has none. Was `fit` called, and did it end "
            "an epoch?"
        )
    return over, series


def _of_lists(logs: Mapping[Any, Any], epochs: Sequence[int]) -> dict[str, Series]:
    """The series of `History.history`, whose epochs count from 0."""
    columns = {str(key): _numbers(values) for key, values in logs.items()}
    last = max(map(len, columns.values()), default=0)
    counted = np.asarray(epochs if len(epochs) == last else range(last), "int64") + 1
    return {
        key: (_logged_at(counted, len(values)), values)
        for key, values in columns.items()
    }


def _logged_at(epochs: np.ndarray, number: int) -> np.ndarray:
    """The epochs of a key that has this number of values, as `validation_freq` has it.

    They are those that can be divided by 1, by 2, by 3, ...: the first that fits. If
    none does, they are the last ones.
    """
    for every in range(1, 1 + max(epochs, default=0)):
        divided = epochs[epochs % every == 0]
        if len(divided) == number:
            return divided
    return epochs[len(epochs) - number :]


def _numbers(values: Any) -> np.ndarray:
    """As an array `(epochs,)`; an empty one if they aren't a list of numbers."""
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError, RuntimeError):  # torch's, for a tensor of several
        return np.array([])


def _of_csv(path: pathlib.Path) -> dict[str, Series]:
    """The series of a `CSVLogger`'s file, with any separator."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    header = re.match(r"epoch([^\w\s]|\t)", text)
    if header is None:
        raise ValueError(
            "`history` must be a file of `keras.callbacks.CSVLogger`, whose first "
            f"column is `epoch`. Received: history={str(path)!r}, which begins with "
            f"{text[:40]!r}."
        )
    rows = list(csv.DictReader(text.splitlines(), delimiter=header[1]))
    numbers = _numbers([row["epoch"] for row in rows]) + 1
    if len(numbers) < len(rows) or (np.diff(numbers) <= 0).any():
        numbers = np.arange(len(rows)) + 1  # several calls of `fit`, one after another
    series = {}
    for key in rows[0] if rows else ():
        cells = [row[key] for row in rows]
        there = np.array([cell is not None and cell not in _MISSING for cell in cells])
        values = _numbers(
            [c for c, is_there in zip(cells, there, strict=True) if is_there]
        )
        if key != "epoch" and len(values):
            series[key] = numbers[there], values
    return series


def _of_rows(path: pathlib.Path) -> tuple[str, dict[str, Series]]:
    """The series of an `HDF5Logger`'s file, and what they go over: steps, or rows."""
    rows = _row_files.read(path, "history")
    over, steps = "step", rows["step"]
    if (steps[1:] <= steps[:1]).any():
        over, steps = "row", np.arange(len(rows)) + 1  # one training after another
    else:
        # Of what was trained again after a kill, the last.
        _, last = np.unique(steps[::-1], return_index=True)
        rows = rows[len(rows) - 1 - last]
        steps = rows["step"]
    parts = np.arange(0, len(rows), max(1, -(-len(rows) // _MOST_ROWS)))
    ends = np.append(parts[1:], len(rows)) - 1 if len(rows) else parts
    series = {}
    for key in (rows.dtype.names or ())[len(_row_files.INDEX) :]:
        finite = np.isfinite(rows[key])
        values = np.where(finite, rows[key], 0.0).astype("float64")
        with np.errstate(invalid="ignore"):  # 0 / 0 is nan: a gap
            sums, counts = (np.add.reduceat(a, parts) for a in (values, finite * 1))
            series[key] = steps[ends], sums / counts
    return over, series


def _of_folder(path: pathlib.Path) -> dict[str, Series]:
    """The series of a `TensorBoard` callback's folder."""
    try:
        from tensorboard.backend.event_processing import event_accumulator
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise ValueError(
            "To read a TensorBoard folder tensorboard is needed, which isn't "
            "installed. Install it: `pip install tensorboard`; or give what `fit` "
            f"returned. Received: history={str(path)!r}."
        ) from error
    series: dict[str, Series] = {}
    for name, prefix in (("train", ""), ("validation", "val_")):
        if not (path / name).is_dir():
            continue
        everything = {event_accumulator.TENSORS: 0}  # not a sample of ten
        events = event_accumulator.EventAccumulator(str(path / name), everything)
        events.Reload()
        for tag in events.Tags()["tensors"]:
            arrays = {
                event.step + 1: tensor_util.make_ndarray(event.tensor_proto)
                for event in events.Tensors(tag)
            }
            if tag.startswith("epoch_") and all(a.size == 1 for a in arrays.values()):
                key = prefix + tag.removeprefix("epoch_")
                values = np.array([float(array) for array in arrays.values()])
                series[key] = np.array(list(arrays)), values
    if not series:
        raise ValueError(
            "`history` must be the folder of a `keras.callbacks.TensorBoard`, with "
            "the folders `train` and `validation` in it. Received: "
            f"history={str(path)!r}, in which no epoch's end is logged."
        )
    return series
