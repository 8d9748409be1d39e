"""A kill while `BackupAndRestore` writes stops every later process.

Keras 3.15 writes the weights into the file of the last backup, and then the
number of the epoch into a second file. A kill in the first backup leaves
half a file of weights, and the next process stops with `OSError`. A kill
between the two files, or in the second, leaves the new weights with no
number, and the next process stops with `JSONDecodeError`, with
`double_checkpoint=True` too: only an `OSError` makes it look at the copy
beside it. In both cases somebody must delete a folder before training goes
on. lossweigh has `lossweigh.callbacks.Resume`, which writes weights and
number into one file and renames that when it is whole; and `save_weights`
of a training model writes its file whole.

    python docs/upstream/backup_and_restore.py
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile

import h5py
import keras
import numpy as np


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_first_backup():
    def write(group, name, value):
        die()

    h5py.Group.__setitem__ = write


def die_between_the_files(backups=1):
    dumps = json.dumps

    def count(value, **arguments):
        nonlocal backups
        backups -= "epoch" in value
        return dumps(value, **arguments) if backups >= 0 else die()

    json.dumps = count


MOMENTS = {
    "in the first backup": die_in_the_first_backup,
    "between the files of the second": die_between_the_files,
    "never": lambda: None,
}


def train(folder, moment):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    backup = keras.callbacks.BackupAndRestore(
        folder, double_checkpoint=True
    )
    MOMENTS[moment]()
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.fit(x, y, epochs=3, callbacks=[backup], verbose=0)


def process(*arguments):
    """What a process ended with: a signal, 0, or the name of its error."""
    command = [sys.executable, __file__, *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    errors = re.findall(r"^[\w.]*Error\b.*", result.stderr, re.MULTILINE)
    return [result.returncode, *(error[:60] for error in errors[-1:])]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(*sys.argv[1:])
    else:
        for moment in list(MOMENTS)[:2]:
            with tempfile.TemporaryDirectory() as folder:
                print(f"Killed {moment}:", *process(folder, moment))
                for _ in range(2):
                    print("  the next process:", *process(folder, "never"))
