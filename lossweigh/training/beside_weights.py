"""What a training model's file holds beside the weights that Keras saves."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh.training.relative_loss import RelativeLoss

_FIRST_LOSSES = "first_losses"
_SEED = "seed_"  # begins the names of the seeds, which are numbered


def save(model: keras.Model, store: Any, relative_loss: RelativeLoss | None) -> None:
    """Writes the seeds of random layers and of a balancer, and first losses.

    Keras leaves the seeds out.

    Args:
        model: The model.
        store: What `save_own_variables` is given.
        relative_loss: Of a compiled model.
    """
    for number, seed in enumerate(_seeds(model)):
        store[f"{_SEED}{number}"] = ops.convert_to_numpy(seed)
    if relative_loss is not None:
        store[_FIRST_LOSSES] = relative_loss.to_array()


def load(
    model: keras.Model, store: Any, relative_loss: RelativeLoss | None
) -> dict[str, Any]:
    """Reads what `save` wrote; returns what else is in the store.

    Seeds of other random layers than the model's are left alone.

    Args:
        model: The model.
        store: What `load_own_variables` is given.
        relative_loss: Of a compiled model; else the first losses are left alone, as
            the optimizer's variables are.
    """
    content = {name: store[name] for name in list(store.keys())}
    first = content.pop(_FIRST_LOSSES, None)
    names = [name for name in content if name.startswith(_SEED)]
    saved = {name: content.pop(name) for name in names}
    seeds = _seeds(model)
    if len(saved) == len(seeds):
        for number, seed in enumerate(seeds):
            seed.assign(np.asarray(saved[f"{_SEED}{number}"]))
    if relative_loss is not None and first is not None:
        relative_loss.load(first)
    return content


def _seeds(model: keras.Model) -> list[Any]:
    """The states of the model's random generators, each once."""
    weights = {id(variable) for variable in model.weights}
    seeds = {id(each): each for each in model.variables if id(each) not in weights}
    return list(seeds.values())
