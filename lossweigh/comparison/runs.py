"""One run: a model is built, trained under one setting from one seed, and measured."""

from __future__ import annotations

import dataclasses
import gc
import textwrap
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lossweigh import _compat
from lossweigh.comparison.candidates import Candidate, Recipe
from lossweigh.comparison.metrics import Metric, measure
from lossweigh.comparison.parts import Part, SeededBatches
from lossweigh.comparison.told import sentences
from lossweigh.training import TrainingModel, build_training_model

LONGEST_REASON = 300  # characters
FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a candidate's validation data choose: a learning rate and fixed weights."""

    learning_rate: float
    weights: dict[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        candidate: What is trained with.
        number: The candidate's place in the table.
        index: The setting's place among the candidate's.
        setting: The setting.
        seed: Seeds the model, its training and the order of the data.
    """

    candidate: Candidate
    number: int
    index: int
    setting: Setting
    seed: int

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells this run from the others."""
        return self.number, self.index, self.seed


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What all runs of a comparison have in common.

    Attributes:
        build: Returns a new prediction model and its losses.
        metrics: What is measured.
        optimizer: A class and arguments, or a function of the learning rate.
        budget: Epochs.
        batch_size: Rows of a batch.
    """

    build: Callable[[], tuple[keras.Model, Any]]
    metrics: tuple[Metric, ...]
    optimizer: Recipe | Callable[[float], Any]
    budget: int
    batch_size: int

    def optimizer_for(self, learning_rate: float) -> Any:
        """A new optimizer."""
        if isinstance(self.optimizer, Recipe):
            config = {**self.optimizer.config, "learning_rate": learning_rate}
            return Recipe(self.optimizer.kind, config).make()
        return self.optimizer(learning_rate)


class Clock(keras.callbacks.Callback):
    """The seconds of each epoch. Training ends where the loss isn't finite."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.diverged = ""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.begin)
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            self.diverged = f"the loss was {loss} in epoch {epoch + 1}"
            self.model.stop_training = True


def initial_weights(protocol: Protocol, seed: int) -> list[Any]:
    """The arrays of a new prediction model.

    They are made once for all runs of a seed. A run that made them anew would get
    others where a thread of its process draws from Python's random numbers, as
    Dask's do.

    Args:
        protocol: What all runs have in common.
        seed: The seed of these runs.
    """
    keras.utils.set_random_seed(seed)
    model, _ = protocol.build()
    weights: list[Any] = model.get_weights()
    return weights


def train(
    protocol: Protocol,
    train_part: Part,
    validation: Part,
    initial: list[Any],
    run: Run,
) -> dict[str, Any]:
    """Trains from the run's seed; measures the last epoch's model on validation data.

    Args:
        protocol: What all runs have in common.
        train_part: The data to train on.
        validation: The data to choose by.
        initial: The prediction model's arrays before training.
        run: What to train.

    Returns:
        A dict of `status`; of `reason` if it isn't `"finished"`; else of `validation`,
        the metrics; `step_seconds`, the median over the epochs after the first, or
        `None`; and `weights`, the prediction model's arrays. Also of `warnings`, if
        lossweigh gave some.
    """

    def trained() -> dict[str, Any]:
        training = _training_model(protocol, run)
        training.prediction_model.set_weights(initial)
        training.compile(protocol.optimizer_for(run.setting.learning_rate))
        # Named and checked as by `fit`, with the index of branches that weigh points.
        named = training._batches.named(*train_part, training=True)
        batches = SeededBatches(Part(named, None), protocol.batch_size, run.seed)
        shuffle = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: batches.shuffle(epoch)
        )
        clock = Clock()
        training.fit(
            batches,
            epochs=protocol.budget,
            shuffle=False,
            verbose=0,
            callbacks=[shuffle, clock],
        )
        weights = training.prediction_model.get_weights()
        reason = clock.diverged or _not_finite(weights)
        if reason:
            return {"status": DIVERGED, "reason": reason}
        args = (training, protocol.metrics, validation, protocol.batch_size)
        measured = measure(*args)
        for output, value in measured.items():
            if not np.isfinite(value):
                reason = f"the validation metric of {output!r} is {value}"
                return {"status": DIVERGED, "reason": reason}
        later = clock.seconds[1:]  # the first epoch compiles
        seconds = float(np.median(later)) / len(batches) if later else None
        return {
            "status": FINISHED,
            "validation": measured,
            "step_seconds": seconds,
            "weights": weights,
        }

    return _caught(trained)


def test(
    protocol: Protocol, test_part: Part, run: Run, weights: list[Any]
) -> dict[str, Any]:
    """Measures a trained model on test data.

    Args:
        protocol: What all runs have in common.
        test_part: The data.
        run: What was trained.
        weights: The arrays that `train` returned.

    Returns:
        A dict of `status`, and of `reason` or `test`, the metrics.
    """

    def tested() -> dict[str, Any]:
        training = _training_model(protocol, run)
        training.prediction_model.set_weights(weights)
        args = (training, protocol.metrics, test_part, protocol.batch_size)
        return {"status": FINISHED, "test": measure(*args)}

    return _caught(tested)


def _training_model(protocol: Protocol, run: Run) -> TrainingModel:
    keras.utils.set_random_seed(run.seed)
    model, losses = protocol.build()
    weighter, balancer = run.candidate.make(run.setting.weights)
    return build_training_model(model, losses, weighter, balancer)


def _caught(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the function returns; an error is a result too, and ends nothing."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            outcome = function()
        told = sentences(caught)
        return {**outcome, "warnings": told} if told else outcome
    except Exception as error:
        text = " ".join(str(_compat.unworded(error)).split())
        reason = f"{type(error).__name__}: {textwrap.shorten(text, LONGEST_REASON)}"
        return {"status": FAILED, "reason": reason}
    finally:
        gc.collect()  # a model is a cycle, and this process may train many


def _not_finite(weights: list[Any]) -> str:
    if all(np.isfinite(array).all() for array in weights):
        return ""
    return "a weight of the trained model isn't finite"
