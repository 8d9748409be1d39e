"""`Model.save` and `save_weights` lose the file that they were to replace.

Keras 3.15 opens the file itself for writing, which empties it, and then
writes. If that fails (a full disk, a layer whose state can't be written, a
kill), the model of before is gone and there is no new one.
`ModelCheckpoint` of one name does that after each epoch. `save` and
`save_weights` of a training model write beside the file, wait until it is
on the disk, and rename it.

    python docs/upstream/save_loses_file.py
"""

import pathlib
import tempfile

import keras


class Full(keras.layers.Dense):
    """Its state can't be written, as on a disk that is full by now."""

    full = False

    def save_own_variables(self, store):
        if self.full:
            raise OSError("No space left on device")
        super().save_own_variables(store)


model = keras.Sequential(
    [keras.Input((2,)), keras.layers.Dense(3), Full(1)]
)
with tempfile.TemporaryDirectory() as folder:
    for save, name in (
        (model.save, "a.keras"),
        (model.save_weights, "a.weights.h5"),
    ):
        path = pathlib.Path(folder, name)
        Full.full = False
        save(path)
        model.load_weights(path)
        print(f"{name}: {path.stat().st_size} bytes, can be loaded")
        Full.full = True
        try:
            save(path)
        except OSError as error:
            print(f"{name}: saved again: {error}")
        try:
            model.load_weights(path)
        except Exception as error:
            print(f"{name}: {path.stat().st_size} bytes: {str(error)[:70]}")
