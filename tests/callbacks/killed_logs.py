"""Processes that write rows and are killed.

    python tests/callbacks/killed_logs.py FILE KILLS

calls `write`. It and `kill` kill forks of their process, which must have computed
nothing.
"""

import json
import os
import pathlib
import random
import signal
import sys
import time

import h5py
import keras
import numpy as np

import lossweigh as lw
from lossweigh import _row_files

NAMES, AT_ONCE = ["a_loss", "b_loss", "a_weight"], 37


class Wait(keras.callbacks.Callback):
    """After some steps it writes a byte, and waits for ever."""

    def __init__(self, steps, writer):
        super().__init__()
        self.left, self.writer = steps, writer

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.write(self.writer, b".")
            time.sleep(1000)


def train(path, *callbacks):
    """Two epochs of six steps, or what is left of them."""
    from two_branches import training_model

    training = training_model(weighter=lw.LossWeighter())
    x = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
    training.fit(
        x,
        {"a": x[:, :1], "b": x[:, :2]},
        batch_size=2,
        epochs=2,
        verbose=0,
        callbacks=[
            lw.callbacks.HDF5Logger(path, flush_every=2, append=True),
            lw.callbacks.Resume(path.with_suffix(".weights.h5")),
            *callbacks,
        ],
    )


def kill(path, steps):
    """Kills a training that waits after some steps.

    Prints the steps that the file had while it waited, and those that it has now.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        train(path, Wait(steps, writer))
    os.close(writer)
    assert os.read(reader, 1), "it ended before it was killed"
    living = lw.callbacks.HDF5Logger.read(path)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "it ended before it was killed"
    killed = lw.callbacks.HDF5Logger.read(path)
    print(json.dumps([table["step"].tolist() for table in (living, killed)]))


def rows_from(first):
    rows = np.empty(AT_ONCE, _row_files.row_type(NAMES))
    rows["step"], rows["epoch"] = np.arange(first, first + AT_ONCE), 7
    for factor, name in enumerate(NAMES, 1):
        rows[name] = rows["step"] * factor % 1000
    return rows


def write(path, kills):
    """Kills, at drawn moments, forks that write rows as fast as they can.

    Prints how many of the kills were in the middle of a write.
    """
    rng, inside = random.Random(0), 0
    for _ in range(kills):
        _row_files.begin(path, NAMES, append=False)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for first in range(1, 10**9, AT_ONCE):
                _row_files.append(path, rows_from(first))
                os.write(writer, b".")
        os.close(writer)
        try:
            time.sleep(rng.uniform(0.005, 0.1))
            check(_row_files.read(path))  # while it is written
        finally:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "it ended before it was killed"
        with open(reader, "rb") as told:
            written = len(told.read())
        try:
            h5py.File(path, locking=False).close()
        except OSError:
            inside += 1
        rows = _row_files.read(path)
        check(rows)
        assert len(rows) >= AT_ONCE * written, "what was written is lost"
        _row_files.begin(path, NAMES, append=True)
        _row_files.append(path, rows_from(len(rows) + 1))
        check(_row_files.read(path))
    print(inside)


def check(rows):
    """All that was written is whole."""
    whole = len(rows) // AT_ONCE
    assert len(rows) == whole * AT_ONCE, len(rows)
    parts = [rows_from(1 + AT_ONCE * part) for part in range(whole)]
    if parts:
        np.testing.assert_array_equal(rows, np.concatenate(parts))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
