"""`build_training_model`: a prediction model and losses to a training model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lossweigh import _compat
from lossweigh._structure import may_mask, named_outputs, symbolic_inputs
from lossweigh.balancing.base import Balancer
from lossweigh.branches import Branch, BranchLoss, ValidElements
from lossweigh.gradients.balanced import BalancedModel
from lossweigh.gradients.loss_tap import LossTap
from lossweigh.training.given_losses import (
    as_branch,
    check_clashes,
    check_identities,
    check_names,
    check_rows,
    checked_points,
    losses_by_name,
    unused,
)
from lossweigh.training.methods import (
    as_balancer,
    as_weighter,
    check_fresh,
    check_no_lists,
    warn_of_own_training,
    weighter_for,
)
from lossweigh.training.model import TrainingModel
from lossweigh.training.names import index_name, sample_weight_name
from lossweigh.training.objective import Objective, call_layer, tensors_by_branch
from lossweigh.training.targets import target_inputs
from lossweigh.weighting.base import Weighter


def build_training_model(
    pred_model: keras.Model,
    losses: Any,
    weighter: Weighter | Sequence[float] | Mapping[str, float] | None = None,
    balancer: Balancer | None = None,
    *,
    name: str | None = None,
) -> TrainingModel:
    """Builds the model that trains `pred_model`, over the same layers.

    The training model's inputs are those of `pred_model`, a target for each
    branch and, optionally, sample weights; its output is the weighted loss.
    `pred_model` isn't changed and holds nothing of the losses: predict with it,
    save it and serve it alone. A branch is a loss with a name. Most belong to an output
    and take its name: a key of the output dict, or the name of the output's layer. A
    second loss of an output, a loss of several, and one without a target have other
    names; `of` names their tensors.

    Args:
        pred_model: Any `keras.Model` with known inputs and outputs: functional,
            Sequential or subclassed (built), with one or several inputs and
            outputs, in a list, tuple or dict. It needn't be compiled.
        losses: A loss for each output: a dict by output name (an output that it
            leaves out isn't trained), a list or tuple in the outputs' order, or
            the loss of the only output. Each is a Keras loss name, a
            `keras.losses.Loss`, a function `(y_true, y_pred)`, a `BranchLoss` or
            `TargetFreeLoss`, or `None` for an output that isn't trained. A dict may
            hold further branches under names of their own, as
            `"shape": BranchLoss(Correlation(), of="demand")` or
            `"rank": TargetFreeLoss(PairwiseRanking(), of=["right", "wrong"])`.
        weighter: What combines the branch losses; numbers, in a list or a dict by
            branch name, are `FixedWeights`. (A list of numbers has the order of
            `losses`; where `losses` is a dict of outputs alone, and the model returns
            a list, the order of the outputs. Where these two differ and there are
            further branches, or the model returns a dict, lists are refused.)
            Default: `FixedWeights()`, equal weights: none of the others helped on all
            of our benchmarks without harm to a branch (`docs/methods`).
        balancer: What combines the branches' gradients on their way into the
            layers that they share, such as `UPGrad()`. Default: nothing, they add up. A
            balancer needs a functional prediction model, whose graph shows where
            branches leave the shared layers.
        name: Name of the training model. Default: `pred_model`'s name with `_training`
            added.

    Returns:
        A `TrainingModel`, to be compiled with an optimizer.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If `losses` names an output or input that the model doesn't have,
            the model isn't built, losses are too many or too few, a loss is a Python
            lambda or returns a scalar, names clash, or there is
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
        >>> sorted(history.history)
        ['box_loss', 'label_loss', 'loss']
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
    balancer = as_balancer(balancer)
    inputs = symbolic_inputs(pred_model)
    of_inputs = [tensor.name for tensor in keras.tree.flatten(inputs)]
    taken = {pred_model.name, *of_inputs}
    weighter = as_weighter(weighter, unused("weighter", taken))
    check_fresh(weighter)
    warn_of_own_training(pred_model)
    structure = pred_model(inputs)
    outputs = named_outputs(pred_model, structure)
    chosen = losses_by_name(losses, list(outputs))
    in_order = [name for name in outputs if name in chosen]
    if [name for name in chosen if name in outputs] != in_order:
        further = [name for name in chosen if name not in outputs]
        if further or isinstance(structure, Mapping):
            check_no_lists(list(outputs), list(chosen), weighter, balancer)
        if not isinstance(structure, Mapping):  # a list means what it means in Keras
            chosen = {name: chosen[name] for name in [*in_order, *further]}
    branches = list(chosen)
    layers = {name: as_branch(name, loss, taken) for name, loss in chosen.items()}
    check_identities(layers)
    check_names(layers, list(outputs), of_inputs)
    points = checked_points(layers)
    weighter = weighter_for(layers, weighter, unused("weighter", taken))
    given = [(layer, layer.branch) for layer in layers.values()]
    bound = weighter.branches, weighter.inferred_task_types
    unbound = [branch for branch, weights in points.items() if weights.branch is None]
    balanced = None if balancer is None else balancer.branches
    try:
        for branch, layer in layers.items():
            layer.branch = branch
        for branch, weights in points.items():
            weights.branch = branch
        check_clashes(pred_model.name, of_inputs, list(outputs), layers)
        weighter.bind(branches, [layer.task_type for layer in layers.values()])
        tap, copies = None, None
        if balancer is not None:
            balancer.set_branches(branches)
            taken |= {weighter.name, *(layer.name for layer in layers.values())}
            taken |= {weights.name for weights in points.values()}
            layer = BalancedModel(
                pred_model,
                balancer,
                branches,
                [[n for n in b.source_names if n in outputs] for b in layers.values()],
                name=unused(type(balancer).__name__, taken),
            )
            results = layer(inputs)
            copies, tap = results["copies"], results["tap"]
            outputs = {name: results["outputs"][name] for name in outputs}
        masked = may_mask(pred_model)
        tensors = _wire(inputs, outputs, copies, layers, weighter, masked, tap, taken)
    except Exception as error:  # leave what the user passed as it was
        for layer, before in given:
            layer.branch = before
        for branch in unbound:
            points[branch].branch = None
        weighter.branches, weighter.inferred_task_types = bound
        if balancer is not None:
            balancer.branches = balanced
        raise _compat.unworded(error) from None
    return TrainingModel(*tensors, name=name or f"{pred_model.name}_training")


def _wire(
    inputs: Any,
    outputs: dict[str, Any],
    copies: dict[str, list[Any]] | None,
    layers: dict[str, Branch],
    weighter: Weighter,
    masked: bool,
    tap: Any,
    taken: set[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The training model's inputs and outputs by name."""
    all_inputs = {tensor.name: tensor for tensor in keras.tree.flatten(inputs)}
    loss_tensors = tensors_by_branch(layers, outputs, copies, all_inputs)
    targets = target_inputs(layers, loss_tensors)
    all_inputs.update({tensor.name: tensor for tensor in targets.values()})
    rows = keras.tree.flatten(inputs)[0].shape[0]
    valid, points = {}, {}
    for branch, layer in layers.items():
        check_rows(branch, layer.source_names, loss_tensors[branch], rows)
        first = loss_tensors[branch][0]
        name = sample_weight_name(branch)
        all_inputs[name] = keras.Input(
            batch_shape=(first.shape[0], *[None] * (len(first.shape) - 1)),
            dtype="float32",
            name=name,
            optional=True,
        )
        if layer.points.layer is not None:
            points[branch] = layer.points.layer
            name = index_name(branch)
            all_inputs[name] = keras.Input(
                batch_shape=first.shape[:1], dtype="int32", name=name, optional=True
            )
        missing = ignored = None
        if isinstance(layer, BranchLoss):
            missing, ignored = layer.missing, layer.ignored_class
        may_skip = masked or isinstance(layer.mask_name, str)
        if may_skip or missing is not None or ignored is not None:
            target = None if layer.target is None else targets[layer.target]
            valid[branch] = ValidElements(
                missing,
                layer.mask_name is not False,
                branch,
                ignored,
                missing is not None and layer.has_elements(first, target),
                name=unused(f"{branch}_valid", taken),
            )
    loss_tap = None if tap is None else LossTap(name=unused("loss_tap", taken))
    objective = Objective(layers, valid, points, weighter, loss_tap)
    result = objective.evaluate(all_inputs, outputs, copies, tap, call_layer)
    return all_inputs, result.as_outputs()
