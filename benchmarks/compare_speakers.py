"""Weightings with a task that only helps, by `lossweigh.compare`.

    pip install aeon
    KERAS_BACKEND=torch python benchmarks/compare_speakers.py --jobs 2

Who is speaking? JapaneseVowels: 640 sequences of 7 to 29 steps with 12 coefficients, of
nine speakers. Another branch predicts the coefficients of the next step, which nobody
needs: it is there to help. Its last step has no target. The metric is the accuracy of
the speaker alone.
"""

import comparing
import keras
import numpy as np
from aeon.datasets import load_japanese_vowels
from keras import layers

import lossweigh as lw

SPEAKERS, STEPS, CHANNELS, UNITS, BATCH, EPOCHS = 9, 29, 12, 48, 32, 30


def load():
    """The published test sequences, the first half of them for validation.

    They come sorted by speaker; every second one is taken.
    """
    parts = {}
    known = None
    for split in ("train", "test"):
        sequences, speakers = load_japanese_vowels(split=split)
        sequences = [sequence.T for sequence in sequences]
        if known is None:
            known = np.concatenate(sequences)
        scaled = [(s - known.mean(0)) / known.std(0) for s in sequences]
        parts[split] = as_arrays(scaled, np.array([int(s) - 1 for s in speakers]))
    x, y = parts["test"]
    for part, start in (("validation", 0), ("test", 1)):
        rows = slice(start, None, 2)
        parts[part] = [
            {name: array[rows] for name, array in one.items()} for one in (x, y)
        ]
    return {part: tuple(pair) for part, pair in parts.items()}


def as_arrays(sequences, speakers):
    x = np.zeros((len(sequences), STEPS, CHANNELS), "float32")
    ahead = np.zeros_like(x)
    for row, following, sequence in zip(x, ahead, sequences, strict=True):
        row[: len(sequence)] = sequence
        following[: len(sequence) - 1] = sequence[1:]
    lengths = np.array([len(sequence) for sequence in sequences], "int32")
    inputs = {"voice": x, "known_steps": lengths, "predictable_steps": lengths - 1}
    return inputs, {"speaker": speakers, "ahead": ahead}


class MeanOfSteps(layers.Layer):
    """The mean over the first steps of each sequence.

    `(batch, time, features)` and `(batch,)` to `(batch, features)`.
    """

    def call(self, inputs):
        values, lengths = inputs
        lengths = keras.ops.cast(lengths, values.dtype)[:, None]
        steps = keras.ops.arange(STEPS, dtype=values.dtype)
        real = keras.ops.cast(steps < lengths, values.dtype)[..., None]
        return keras.ops.sum(values * real, axis=1) / lengths


def build():
    voice = keras.Input((STEPS, CHANNELS), name="voice")
    known = keras.Input((), dtype="int32", name="known_steps")
    predictable = keras.Input((), dtype="int32", name="predictable_steps")
    hidden = layers.GaussianNoise(0.3)(voice)
    for rate in (1, 2):
        hidden = layers.Conv1D(
            UNITS, 3, padding="causal", dilation_rate=rate, activation="relu"
        )(hidden)
    ahead = layers.Dense(CHANNELS, name="ahead")(hidden)
    pooled = layers.Dropout(0.3)(MeanOfSteps()([hidden, known]))
    speaker = layers.Dense(SPEAKERS, activation="softmax", name="speaker")(pooled)
    model = keras.Model(
        [voice, known, predictable], {"speaker": speaker, "ahead": ahead}
    )
    return model, {
        "speaker": "sparse_categorical_crossentropy",
        "ahead": lw.BranchLoss("mse", mask="predictable_steps"),
    }


def experiments(options):
    metric = {"speaker": "sparse_categorical_accuracy"}
    yield comparing.Experiment("speakers", build, load(), metric, EPOCHS, BATCH)


if __name__ == "__main__":
    comparing.main(experiments, comparing.arguments(__doc__))
