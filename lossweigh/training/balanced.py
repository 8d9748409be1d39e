"""A prediction model with a balancer between its shared layers and its heads."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _compat
from lossweigh.balancing import passes
from lossweigh.balancing.base import Balancer
from lossweigh.training.boundary import Cut, cut
from lossweigh.training.structure import may_mask, named_outputs, symbolic_inputs


@keras.saving.register_keras_serializable(package="lossweigh")
class BalancedModel(keras.layers.Layer):
    """Calls a prediction model; in training, its backward pass is balanced.

    It stands in the training model where the prediction model would, and has no
    layers of its own but the balancer. Evaluation is the prediction model's.

    Args:
        prediction_model: A functional model.
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
    _refused: ValueError | None = None
    _loaded = False

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

        Raises:
            ValueError: If no trainable layer is shared, or any other reason of `cut`.
                Of a model that was saved with its layers frozen only its training
                is refused, or it couldn't be loaded.
        """
        trained = {id(variable) for variable in self.prediction_model.trainable_weights}
        if self._trained == trained:
            return
        try:
            parts = cut(
                self.prediction_model,
                self._of_branches,
                self.branches,
                self.shared,
                by_dense=functools.partial(passes.takes_products, self.balancer),
            )
        except ValueError as error:
            if not self._loaded or self._cut is not None:
                raise
            self._refused = error
            return
        if self.balancer.level != "representation":
            self._check_exact()
        if self.balancer.level != "parameters":
            _warn_of_right_angles(parts)
        self._cut, self._trained = parts, trained

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
            raise self._refused or AttributeError("`cut` is there once it is built.")
        return self._cut

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        order = self._order
        if not training:
            outputs = self.prediction_model(inputs, training=training)
            outputs = keras.tree.flatten(outputs)
            own = [index for some in self._of_branches for index in some]
            outputs = [outputs[index] for index in (*order, *own)]
            return [*outputs, passes.messenger(self.balancer)]
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
        layer = cls(**config)
        layer._loaded = True
        return layer


@keras.saving.register_keras_serializable(package="lossweigh")
class Messenger(keras.layers.Layer):
    """Tells the balancer, in the backward pass, the branch losses and the loss scale.

    Call arguments:
        inputs: A list of the weighted loss `(batch,)`, the balancer's messenger
            `(K + 1,)` and the K branch losses `(batch,)`.

    Returns:
        The weighted loss as it is. The messenger's gradient is the means of the
        branch losses, followed by the sum of the weighted loss's gradient, which
        is 1 but for loss scaling and distribution.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs: Any) -> Any:
        weighted, message, *losses = inputs
        means = ops.stop_gradient(ops.mean(_backend.stack(losses), axis=-1))

        def function(weighted: Any, message: Any, means: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                scale = ops.reshape(ops.sum(upstream), (1,))
                told = ops.concatenate([means, scale])
                return upstream, told, ops.zeros_like(means)

            return (weighted,), gradient

        (weighted,) = _backend.custom_gradient(function, [weighted, message, means])
        return weighted

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


def _warn_of_right_angles(parts: Cut) -> None:
    """Where no two branches take one tensor, their gradients can't conflict there."""
    taking = [branch for who in parts.owners for branch in who]
    if 1 < len(taking) == len(parts.owners) and len(set(taking)) > 1:
        warnings.warn(
            "No two branches take the same shared tensor: "
            f"{sorted(set(parts.places))} makes one for each. So the balancer sees "
            "how long their gradients at the representation are, but never a "
            'conflict. Give it level="parameters", or let one layer make one tensor.',
            stacklevel=2,
        )


def check_optimizer(optimizer: Any) -> None:
    """Refuses what Keras can't do with the variables of a balancer.

    Raises:
        ValueError: If the optimizer keeps moving averages.
    """
    if getattr(optimizer, "inner_optimizer", optimizer).use_ema:
        raise ValueError(
            "`optimizer` must not have `use_ema=True` with a balancer: Keras fails to "
            "average the variables that carry the balancer's weights. Leave `use_ema` "
            f"out, or the balancer. Received: optimizer={optimizer!r}."
        )


def masks_of(tensors: Sequence[Any]) -> list[Any]:
    """The masks that layers gave their outputs, `None` where there is none."""
    return [_compat.keras_mask(tensor) for tensor in tensors]


def no_masks(tensors: Sequence[Any]) -> list[Any]:
    """`None` for each tensor, where no layer of the model starts a mask."""
    return [None] * len(tensors)
