"""`build_training_model`: a prediction model and losses to a training model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lossweigh import _check
from lossweigh.balancing.base import Balancer
from lossweigh.branches import BranchLoss, ValidElements
from lossweigh.training.balanced import BalancedModel, Messenger
from lossweigh.training.data import sample_weight_name, target_name
from lossweigh.training.model import WEIGHTED_LOSS, TrainingModel, loss_keys
from lossweigh.training.structure import may_mask, named_outputs, symbolic_inputs
from lossweigh.weighting.base import Weighter
from lossweigh.weighting.fixed_weights import FixedWeights
from lossweigh.weighting.revised_uncertainty import RevisedUncertainty


def build_training_model(
    pred_model: keras.Model,
    losses: Any,
    weighter: Weighter | None = None,
    balancer: Balancer | None = None,
    *,
    shared: str | Sequence[str] | None = None,
    name: str | None = None,
) -> TrainingModel:
    """Builds the model that trains `pred_model`, over the same layers.

    The training model's inputs are those of `pred_model`, a target for each
    branch and, optionally, sample weights; its output is the weighted loss.
    `pred_model` isn't changed and holds nothing of the losses: predict with it,
    save it and serve it alone. A branch is an output with a loss, and its name
    is the output's: a key of the output dict, or the name of the output's layer.

    Args:
        pred_model: Any `keras.Model` with known inputs and outputs: functional,
            Sequential or subclassed (built), with one or several inputs and
            outputs, in a list, tuple or dict. It needn't be compiled.
        losses: A loss for each output: a dict by output name (an output that it
            leaves out isn't trained), a list or tuple in the outputs' order, or
            the loss of the only output. Each is a Keras loss name, a
            `keras.losses.Loss`, a function `(y_true, y_pred)`, a `BranchLoss`,
            or `None` for an output that isn't trained.
        weighter: What combines the branch losses. Default: `RevisedUncertainty()`,
            whose worst branch did best over the problems that the methods were
            compared on (`docs/methods`); with a balancer, `FixedWeights()`, equal
            weights.
        balancer: What combines the branches' gradients on their way into the
            layers that they share, such as `UPGrad()`. Default: nothing, they add
            up. Needs a functional prediction model; where its branches leave the
            shared layers is found from its graph.
        shared: With a balancer at the level of the representation, the names of the
            layers at whose outputs to balance, of those found. Default: all.
        name: Name of the training model. Default: that of `pred_model` with
            `_training` added.

    Returns:
        A `TrainingModel`, to be compiled with an optimizer.

    Raises:
        TypeError: If an argument is of a wrong type.
        KeyError: If `losses` names an output that the model doesn't have.
        ValueError: If the model isn't built, losses are too many or too few, a
            loss is a Python lambda or returns a scalar, names clash, or there is
            nothing to balance.

    Examples:
        >>> import keras, numpy as np
        >>> x = keras.Input((4,), name="x")
        >>> shared = keras.layers.Dense(8, activation="relu")(x)
        >>> box = keras.layers.Dense(4, name="box")(shared)
        >>> label = keras.layers.Dense(3, activation="softmax", name="label")(shared)
        >>> prediction = keras.Model(x, [box, label])
        >>> training = build_training_model(
        ...     prediction, {"box": "huber", "label": "sparse_categorical_crossentropy"}
        ... )
        >>> training.compile("adam")
        >>> targets = {"box": np.ones((8, 4)), "label": np.ones(8)}
        >>> history = training.fit(np.ones((8, 4)), targets, verbose=0)
        >>> sorted(history.history)[:3]
        ['box_loss', 'box_weight', 'label_loss']
    """
    if not isinstance(pred_model, keras.Model):
        raise TypeError(
            f"`pred_model` must be a keras.Model. Received: pred_model={pred_model!r} "
            f"(of type {type(pred_model).__name__})."
        )
    if isinstance(pred_model, TrainingModel):
        raise TypeError(
            "`pred_model` must be the model that predicts. Received a TrainingModel; "
            "give its `prediction_model`."
        )
    if balancer is not None and not isinstance(balancer, Balancer):
        raise TypeError(
            "`balancer` must be a lossweigh balancer, such as `UPGrad()` or `MGDA()`. "
            f"Received: balancer={balancer!r}."
        )
    if shared is not None and balancer is None:
        raise ValueError(
            "`shared` says where a balancer works and needs one: give `balancer` too, "
            f"or leave `shared` out. Received: shared={shared!r}, balancer=None."
        )
    if weighter is None and balancer is None:
        weighter = RevisedUncertainty(name="weighter")
    elif weighter is None:
        weighter = FixedWeights(name="weighter")
    if not isinstance(weighter, Weighter):
        raise TypeError(
            "`weighter` must be a lossweigh weighter, such as `LossWeighter()` or "
            f"`FixedWeights([1.0, 2.0])`. Received: weighter={weighter!r}."
        )
    inputs = symbolic_inputs(pred_model)
    outputs = named_outputs(pred_model, pred_model(inputs))
    chosen = _losses_by_name(losses, list(outputs))
    branches = list(chosen)
    _check_clashes(
        [tensor.name for tensor in keras.tree.flatten(inputs)], list(outputs), branches
    )
    layers = {branch: _branch_loss(branch, loss) for branch, loss in chosen.items()}
    _check_identities(layers)
    given = [(layer, layer.branch) for layer in layers.values()]
    bound = weighter.branches, weighter.kinds
    balanced = None if balancer is None else balancer.branches
    try:
        for branch, layer in layers.items():
            layer.branch = branch
        weighter.bind(branches, [layer.kind for layer in layers.values()])
        message = None
        if balancer is not None:
            balancer.bind(branches)
            names = [shared] if isinstance(shared, str) else shared
            layer = BalancedModel(
                pred_model,
                balancer,
                branches,
                names,
                name=f"{pred_model.name}_balanced",
            )
            *made, message = layer(inputs)
            outputs = dict(zip(outputs, made, strict=True))
        masked = may_mask(pred_model)
        tensors = _wire(inputs, outputs, layers, weighter, masked, message)
    except Exception:  # leave what the user passed as it was
        for layer, before in given:
            layer.branch = before
        weighter.branches, weighter.kinds = bound
        if balancer is not None:
            balancer.branches = balanced
        raise
    return TrainingModel(*tensors, name=name or f"{pred_model.name}_training")


def _wire(
    inputs: Any,
    outputs: dict[str, Any],
    layers: dict[str, BranchLoss],
    weighter: Weighter,
    masked: bool,
    message: Any = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The training model's inputs and outputs by name."""
    all_inputs = {tensor.name: tensor for tensor in keras.tree.flatten(inputs)}
    all_outputs = dict(outputs)
    branch_losses = []
    weights = {}
    for branch, layer in layers.items():
        prediction = outputs[branch]
        shape, dtype = layer.target_spec(prediction)
        target = keras.Input(batch_shape=shape, dtype=dtype, name=target_name(branch))
        weights[branch] = keras.Input(
            batch_shape=(shape[0], *[None] * (len(prediction.shape) - 1)),
            dtype="float32",
            name=sample_weight_name(branch),
            optional=True,
        )
        all_inputs[target.name] = target
        loss = layer([target, prediction, weights[branch]])
        branch_losses.append(loss)
        all_outputs[f"{branch}_loss"] = loss
        if layer.missing is not None or masked:
            valid = ValidElements(layer.missing, name=f"{branch}_valid")
            all_outputs[f"{branch}_valid"] = valid([target, prediction])
    all_inputs.update({tensor.name: tensor for tensor in weights.values()})
    weighted = weighter(branch_losses)
    if message is not None:
        weighted = Messenger(name="messenger")([weighted, message, *branch_losses])
    all_outputs[WEIGHTED_LOSS] = weighted
    return all_inputs, all_outputs


def _losses_by_name(losses: Any, outputs: list[str]) -> dict[str, Any]:
    """The losses that aren't `None` by output name, in the order they were given."""
    if isinstance(losses, Mapping):
        _check.known_names("losses", losses, outputs)
        named = dict(losses)
    elif isinstance(losses, (list, tuple)):
        if len(losses) != len(outputs):
            raise ValueError(
                f"`losses` must hold one loss for each of the {len(outputs)} outputs "
                f"{outputs}, or None for an output that isn't trained. "
                f"Received {len(losses)}: losses={list(losses)}."
            )
        named = dict(zip(outputs, losses, strict=True))
    elif len(outputs) == 1:
        named = {outputs[0]: losses}
    else:
        raise TypeError(
            f"`losses` must be a dict by output name or a list, for the outputs "
            f"{outputs}. Received: losses={losses!r}."
        )
    chosen = {name: loss for name, loss in named.items() if loss is not None}
    if not chosen:
        raise ValueError(
            f"`losses` must hold a loss for at least one of the outputs {outputs}. "
            f"Received: losses={losses!r}."
        )
    return chosen


def _branch_loss(branch: str, loss: Any) -> BranchLoss:
    if not isinstance(loss, BranchLoss):
        try:
            return BranchLoss(loss, branch=branch, name=f"{branch}_loss")
        except (TypeError, ValueError) as error:
            raise type(error)(f"In `losses[{branch!r}]`: {error}") from None
    return loss


def _check_identities(layers: dict[str, BranchLoss]) -> None:
    owners: dict[int, str] = {}
    for branch, layer in layers.items():
        owner = owners.setdefault(id(layer), layer.branch or branch)
        if owner != branch:
            raise ValueError(
                f"`losses[{branch!r}]` is the BranchLoss of the branch {owner!r} "
                "already. Give each branch a BranchLoss of its own."
            )


def _check_clashes(inputs: list[str], outputs: list[str], branches: list[str]) -> None:
    taken = {target_name(branch) for branch in branches}
    taken |= {sample_weight_name(branch) for branch in branches}
    # Losses that would be called as the total and the sum are.
    totals = {name for name in ("weighted", "unweighted") if name in branches}
    for what, names, reserved in (
        ("input", inputs, taken),
        ("output", outputs, loss_keys(branches) | totals),
    ):
        clashes = [name for name in names if name in reserved]
        if clashes:
            raise ValueError(
                f"`pred_model` must not have an {what} named {clashes[0]!r}: the "
                "training model uses that name for a branch. Received the "
                f"{what}s {names} and the branches {branches}. Rename the layer."
            )
