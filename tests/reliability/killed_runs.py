"""Trainings that are killed again and again, and whether it showed.

    python tests/reliability/killed_runs.py FOLDER NAME...

runs the cases of these names (of `CASES`, or `drawn/WAY/METHOD/SEED`), and
writes for each whether the killed training came to the same numbers.

A training is a program as a user writes it: it goes on from what a process before it
had written. It is started until one process comes to its end, each with another moment
at which it is killed. The processes are forks of this one, which has imported Keras
and computed nothing.
"""

import functools
import json
import os
import pathlib
import random
import signal
import sys
import traceback
import zipfile

import h5py
import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw

EPOCHS, ROWS, BATCH = 4, 12, 4
STEPS = ROWS // BATCH
LOSSES = {"zeta": "mse", "alpha": "sparse_categorical_crossentropy"}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


# The program ---------------------------------------------------------------------


def data(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    zeta = rng.normal(size=(ROWS, 3)).astype("float32")
    return x, {"zeta": zeta, "alpha": rng.integers(0, 4, ROWS)}


def training_model(weighter, balancer, eagerly):
    """With seeds, moving statistics and moments, all of which must be restored."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(6, activation="tanh")(x)
    hidden = layers.BatchNormalization()(layers.Dropout(0.3, seed=5)(hidden))
    hidden = layers.Dense(6, activation="tanh")(hidden)
    zeta = layers.Dense(3, name="zeta")(hidden)
    alpha = layers.Dense(4, activation="softmax", name="alpha")(hidden)
    model = keras.Model(x, {"zeta": zeta, "alpha": alpha})
    training = lw.build_training_model(model, LOSSES, weighter, balancer)
    training.compile(
        keras.optimizers.Adam(0.05),
        metrics={"alpha": ["accuracy"]},
        run_eagerly=eagerly,
    )
    return training


def state(training):
    """All numbers: variables, and what a weighter remembers beside them."""
    variables = [*training.variables, *training.optimizer.variables]
    arrays = {f"{i} {v.name}": ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    memory = getattr(training.weighter, "memory", {})
    return arrays | {f"memory {name}": array for name, array in memory.items()}


class Rows(keras.callbacks.Callback):
    """Writes each epoch's logs as a line; a kill leaves those that were written."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in logs.items()}
        with open(self.path, "a") as file:
            file.write(json.dumps([epoch, row]) + "\n")


def program(folder, weighter, balancer, way, callbacks, eagerly, moment):
    """Trains, and goes on from what there is in the folder.

    Args:
        folder: Where it writes.
        weighter: A function of no arguments that makes it.
        balancer: Likewise.
        way: How it is saved, a name of `WAYS`.
        callbacks: A function of no arguments that makes more callbacks.
        eagerly: Whether the model runs eagerly.
        moment: Is called first, and sees to it that the process is killed.
    """
    begin = 0
    keras.utils.set_random_seed(3)  # methods draw their seeds too
    if way == "ModelCheckpoint":
        path = folder / "checkpoint.keras"
        saving = keras.callbacks.ModelCheckpoint(path)
        if path.exists():
            training = keras.models.load_model(path)
            begin = int(training.optimizer.iterations) // STEPS
            if eagerly:
                training.run_eagerly = True
        else:
            training = training_model(weighter(), balancer(), eagerly)
    else:
        training = training_model(weighter(), balancer(), eagerly)
        saving = WAYS[way](folder)
    killing = moment(way) if moment else []
    training.fit(
        *data(0),
        validation_data=data(1),
        batch_size=BATCH,
        initial_epoch=begin,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks(), Rows(folder / "rows.jsonl"), saving, *killing],
    )
    np.savez(folder / "result.npz", **state(training))


WAYS = {
    "Resume": lambda folder: lw.callbacks.Resume(folder / "run.weights.h5"),
    "BackupAndRestore": lambda folder: keras.callbacks.BackupAndRestore(
        folder / "backup", double_checkpoint=True
    ),
    "ModelCheckpoint": None,
}


# Moments -------------------------------------------------------------------------


class AtBatch:
    """After some steps."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, way):
        return [_DieAtBatch(self.steps)]


class _DieAtBatch(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            die()


class InWriting:
    """While an array is written to HDF5; what is written so far is on the disk."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __call__(self, way):
        left, write = self.arrays, h5py.Group.__setitem__

        def write_or_die(group, name, value):
            nonlocal left
            left -= 1
            if left == 0:
                group.file.flush()
                die()
            write(group, name, value)

        h5py.Group.__setitem__ = write_or_die
        return []


class InArchive:
    """While the weights are put into a `.keras` file, of which half is written."""

    def __init__(self, files):
        self.files = files

    def __call__(self, way):
        left, write = self.files, zipfile.ZipFile.writestr

        def write_or_die(archive, name, content):
            nonlocal left
            left -= 1
            if left == 0:
                archive.fp.write(content[: len(content) // 2])
                archive.fp.flush()
                die()
            write(archive, name, content)

        zipfile.ZipFile.writestr = write_or_die
        return []


class AtRenaming:
    """Right before or right after a file gets its name."""

    def __init__(self, files, after):
        self.files, self.after = files, after

    def __call__(self, way):
        left, replace = self.files, os.replace

        def replace_or_die(one, other):
            nonlocal left
            left -= 1
            if left == 0 and not self.after:
                die()
            replace(one, other)
            if left == 0:
                die()

        os.replace = replace_or_die
        return []


class AtTime:
    """Some seconds after the first step."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, way):
        return [_DieAtTime(self.seconds)]


class _DieAtTime(keras.callbacks.Callback):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        if self.seconds:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            # Not a handler of Python's, which would wait for the end of a write.
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
            self.seconds = None


# Cases ---------------------------------------------------------------------------


def nothing(*arguments):
    return None


def no_callbacks():
    return []


# name: weighter, balancer, way, callbacks, moments
CASES = {
    "drawn gradients": (
        lw.DWA,
        functools.partial(lw.GradDrop, seed=1),
        "Resume",
        no_callbacks,
        [
            InWriting(1),
            AtBatch(5),
            InWriting(30),
            AtRenaming(1, after=False),
            AtRenaming(1, after=True),
        ],
    ),
    "memory of validations": (
        lw.FixedWeights,
        lw.GradNorm,
        "ModelCheckpoint",
        lambda: [lw.callbacks.CoBa()],
        [InArchive(1), AtBatch(4), AtRenaming(1, after=False)],
    ),
    "exact passes now and then": (
        lw.FAMO,
        functools.partial(lw.UPGrad, level=lw.Calibrated(update_every=2)),
        "BackupAndRestore",
        no_callbacks,
        [InWriting(2), AtBatch(7), InWriting(20)],
    ),
}


def drawn(way, method, seed):
    """A case of one method with moments that are drawn."""
    rng = random.Random(f"{way} {method} {seed}")
    moments = [
        lambda: AtBatch(rng.randint(1, 2 * STEPS)),
        lambda: InWriting(rng.randint(1, 80)),
    ]
    if way != "BackupAndRestore":  # of which a kill between its files is known
        moments.append(lambda: AtRenaming(rng.randint(1, 2), after=True))
        moments.append(lambda: AtTime(rng.uniform(0.001, 0.4)))
    moments.append(lambda: AtRenaming(rng.randint(1, 2), after=False))
    if way == "ModelCheckpoint":
        moments.append(lambda: InArchive(rng.randint(1, 2)))
    kind = getattr(lw, method)
    is_weighter = issubclass(kind, lw.Weighter)
    return (
        kind if is_weighter else nothing,
        nothing if is_weighter else kind,
        way,
        no_callbacks,
        [rng.choice(moments)() for _ in range(4)],
    )


# Runs ----------------------------------------------------------------------------


def died_of(folder, *arguments):
    """Runs the program in a fork: `None`, or the signal that it died of."""
    child = os.fork()
    if child == 0:
        try:
            program(folder, *arguments)
        except BaseException:
            (folder / "error").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code > 0:
        raise AssertionError((folder / "error").read_text())
    return None if code == 0 else signal.Signals(-code).name


def until_done(folder, weighter, balancer, way, callbacks, moments, eagerly):
    """Starts the program until it ends: what it came to, and what it died of."""
    folder.mkdir(parents=True)
    deaths = []
    for moment in [*moments, None]:
        death = died_of(folder, weighter, balancer, way, callbacks, eagerly, moment)
        if death is None:
            break
        deaths.append(death)
    lines = (folder / "rows.jsonl").read_text().splitlines()
    with np.load(folder / "result.npz") as file:
        return dict(file), [json.loads(line) for line in lines], deaths


def assert_equal(result, rows, expected, expected_rows):
    """The same numbers and logs, to the bit; an epoch may have been logged twice."""
    assert result.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(result[name], array, err_msg=name)
    logs = dict(map(tuple, expected_rows))
    assert {epoch for epoch, _ in rows} == set(range(EPOCHS)) == set(logs)
    for epoch, row in rows:
        assert row == logs[epoch], f"epoch {epoch}: {row}, not {logs[epoch]}"


def main(folder, names):
    outcomes = {}
    for number, name in enumerate(names):
        *case, moments = CASES[name] if name in CASES else drawn(*name.split("/")[1:])
        eagerly = name in CASES and keras.backend.backend() != "jax"
        at = folder / str(number)
        try:
            expected = until_done(at / "whole", *case, [], eagerly)
            result = until_done(at / "killed", *case, moments, eagerly)
            assert_equal(*result[:2], *expected[:2])
            left = [path.name for path in at.rglob(".saving-*")]
            # The next save removes it: after the last epoch there is none.
            allowed = int(case[2] == "ModelCheckpoint")
            assert len(left) <= allowed, f"It left {left} behind."
            outcomes[name] = {"deaths": result[2]}
        except Exception:
            outcomes[name] = {"error": traceback.format_exc(), "moments": str(moments)}
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
