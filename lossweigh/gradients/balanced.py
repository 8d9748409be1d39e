"""A prediction model with a balancer between its shared layers and its heads."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from lossweigh import _compat
from lossweigh._structure import (
    may_mask,
    named_outputs,
    symbolic_inputs,
)
from lossweigh.balancing.base import Balancer
from lossweigh.gradients import passes
from lossweigh.gradients.boundary import Cut, cut
from lossweigh.gradients.canary import check_canary
from lossweigh.gradients.refusals import (
    check_parameters,
    warn_of_right_angles,
)
from lossweigh.gradients.tracing import functional


@keras.saving.register_keras_serializable(package="lossweigh")
class BalancedModel(keras.layers.Layer):
    """Calls a prediction model; in training, its backward pass is balanced.

    It stands in the training model where the prediction model would, and has no
    layers of its own but the balancer. Evaluation is the prediction model's.

    Args:
        prediction_model: A functional model, or one whose `call` shows its layers.
        balancer: What combines the branches' gradients.
        branches: The names of the branches, in the weighter's order.
        outputs: For each branch the names of the outputs that its loss looks at.
        shared: Names of the layers at whose outputs to balance; `None` for all
            that are found.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: What the prediction model takes.
        training: Bool.

    Returns:
        A list: the prediction model's outputs, in their named order; for each branch
        each of its outputs, as its loss is to see it; and the balancer's messenger,
        for `Messenger`.
    """

    _trained: set[int] | None = None  # the ids of what was trained when it was cut
    _cut: Cut | None = None

    def __init__(
        self,
        prediction_model: keras.Model,
        balancer: Balancer,
        branches: Sequence[str],
        outputs: Sequence[Sequence[str]],
        shared: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        # Its layers have policies of their own. `autocast=False` alone isn't enough:
        # under a mixed policy Keras casts what the balancer keeps all the same.
        super().__init__(autocast=False, **{**kwargs, "dtype": "float32"})
        self.supports_masking = True
        self.prediction_model = prediction_model
        self.balancer = balancer
        self.branches = list(branches)
        self.outputs = [list(names) for names in outputs]
        self.shared = None if shared is None else list(shared)

    def build(self, input_shape: Any) -> None:
        model = self.prediction_model
        structure = model.compute_output_spec(symbolic_inputs(model))
        flat = [id(tensor) for tensor in keras.tree.flatten(structure)]
        named = named_outputs(model, structure)
        # The flat outputs that a call gives, of those that the heads give.
        self._order = tuple(flat.index(id(tensor)) for tensor in named.values())
        places = dict(zip(named, self._order, strict=True))
        self._of_branches = tuple(
            tuple(places[name] for name in names) for names in self.outputs
        )
        self.cut_anew()
        self.supports_masking = may_mask(model)  # else each output is looked at
        self._masks_of = masks_of if self.supports_masking else no_masks
        if not self.balancer.built:
            self.balancer.build(len(self.branches))
        self.built = True

    def cut_anew(self) -> None:
        """Finds the boundary, unless the same variables are trained as when it did.

        Where all that the branches share is frozen, there is nothing to balance: the
        balancer rests, its state isn't trained, and a warning says so.

        Raises:
            ValueError: If no layer is shared, or any other reason of `cut`.
        """
        model = self.prediction_model
        trained = {id(variable) for variable in model.variables if variable.trainable}
        if self._trained == trained:
            return
        parts = cut(
            functional(model),
            self._of_branches,
            self.branches,
            self.shared,
            by_dense=functools.partial(passes.takes_products, self.balancer),
        )
        if parts is None or self.rests:
            self.balancer.trainable = parts is not None
        self._trained, self._cut = trained, parts
        if parts is None:
            warnings.warn(
                f"All that the branches {self.branches} share in the model "
                f"{model.name!r} is frozen, so that the balancer has nothing to do. It "
                "begins when a shared layer is set `trainable = True` and the training "
                "model is compiled again.",
                stacklevel=2,
            )
            return
        if self.balancer.level != "representation":
            self._check_exact()
            check_parameters(self.balancer, parts.trunk)
        if self.balancer.level != "parameters":
            warn_of_right_angles(parts, model)

    @property
    def rests(self) -> bool:
        """Whether all that the branches share was frozen when it was last cut."""
        return self._trained is not None and self._cut is None

    def _check_exact(self) -> None:
        level = self.balancer.level
        if self.shared is not None:
            raise ValueError(
                "`shared` must be left out unless the balancer's level is \"represent"
                f'ation": {type(self.balancer).__name__} has level="{level}", at which '
                "the gradients of all shared parameters are balanced. Give it "
                f'level="representation". Received: shared={self.shared}.'
            )

    @property
    def cut(self) -> Cut:
        """The prediction model in two, where it is balanced."""
        if self._cut is None:
            raise AttributeError("There is no `cut` unless a shared layer is trained.")
        return self._cut

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        order = self._order
        if not training or self.rests:
            outputs = self.prediction_model(inputs, training=training)
            outputs = keras.tree.flatten(outputs)
            own = [index for some in self._of_branches for index in some]
            outputs = [outputs[index] for index in (*order, *own)]
            return [*outputs, passes.messenger(self.balancer)]
        if not self.balancer.in_own_step:
            check_canary(self.balancer)
        parts = self.cut
        owners = parts.owners
        if self.balancer.level == "representation":
            made = self._run(parts.trunk, inputs, None)
            masks = self._masks_of(made)
            copies, message = passes.fan_out(
                self.balancer, made[: len(owners)], owners, parts.dense
            )
            plain = made[len(owners) :]
        else:
            copies, plain, masks, losses, message = passes.through(
                self.balancer, parts.trunk, inputs, owners, parts.dense, self._masks_of
            )
            for loss in losses:
                self.add_loss(loss)
        flat = keras.tree.flatten(inputs)
        direct = [flat[index] for index in parts.direct]
        of_copies = [masks[place] for place, who in enumerate(owners) for _ in who]
        outputs = self._run(
            parts.heads,
            [*copies, *plain, *direct],
            [*of_copies, *masks[len(owners) :], *self._masks_of(direct)],
        )
        outputs[: len(order)] = [outputs[index] for index in order]
        return [*outputs, message]

    def _run(self, model: keras.Model, inputs: Any, masks: Any) -> list[Any]:
        """What a part of the model makes of its inputs in training."""
        # Not by `model(...)`: that warns of masks which its layers do take.
        outputs = model.call(inputs, training=True, mask=masks)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    @property
    def metrics(self) -> list[Any]:
        """None: those of a compiled prediction model are no metrics of a training.

        A model asks each layer, at any depth; those inside answer for themselves.
        """
        return []

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None  # the outputs have theirs from the layers that made them

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        named = named_outputs(
            self.prediction_model, self.prediction_model.compute_output_spec(inputs)
        )
        # A copy each: one KerasTensor twice would be the last of the two.
        own = [
            keras.KerasTensor(named[name].shape, named[name].dtype)
            for names in self.outputs
            for name in names
        ]
        message = keras.KerasTensor((len(self.branches) + 1,), "float32")
        return [*named.values(), *own, message]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "prediction_model": keras.saving.serialize_keras_object(
                self.prediction_model
            ),
            "balancer": keras.saving.serialize_keras_object(self.balancer),
            "branches": self.branches,
            "outputs": self.outputs,
            "shared": self.shared,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BalancedModel:
        config = dict(config)
        for key in ("prediction_model", "balancer"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


def masks_of(tensors: Sequence[Any]) -> list[Any]:
    """The masks that layers gave their outputs, `None` where there is none."""
    return [_compat.keras_mask(tensor) for tensor in tensors]


def no_masks(tensors: Sequence[Any]) -> list[Any]:
    """`None` for each tensor, where no layer of the model starts a mask."""
    return [None] * len(tensors)
