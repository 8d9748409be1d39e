"""A prediction model with a balancer between its shared layers and its heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh._structure import may_mask, named_outputs, output_positions
from lossweigh.balancing.base import Balancer
from lossweigh.balancing.levels import Parameters, Representation
from lossweigh.gradients.boundary import Cut, cut
from lossweigh.gradients.forward import forward
from lossweigh.gradients.loss_tap import open_tap
from lossweigh.gradients.refusals import (
    check_canary,
    check_parameters,
    warn_of_rest,
    warn_of_right_angles,
)
from lossweigh.gradients.state import add_state
from lossweigh.gradients.tracing import functional


@keras.saving.register_keras_serializable(package="lossweigh")
class BalancedModel(keras.layers.Layer):
    """Calls a prediction model; in training, its backward pass is balanced.

    It stands in the training model where the prediction model would, and has no
    layers of its own. It evaluates as the prediction model does. The balancer's state
    is variables of this layer: a backward pass can only return it as their "gradient",
    and the optimizer overwrites them with it.

    Args:
        prediction_model: A functional model, or one whose `call` shows its layers.
        balancer: What combines the branches' gradients.
        branches: The names of the branches, in the weighter's order.
        outputs: For each branch the names of the outputs that its loss looks at.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: What the prediction model takes.
        training: Bool.

    Returns:
        A dict: `"outputs"`, the prediction model's by name; `"copies"`, for each
        branch a list of its outputs, as its loss is to see them; and `"tap"`,
        for `LossTap`.

    Attributes:
        in_model_step: Whether the training model's own step is under way.
        exact: Whether the step that is being traced makes an exact pass; `None`
            while each step has to see for itself how old the last one is.
        bypassed: Whether a call in training is as that of the prediction model.
    """

    in_model_step = False
    bypassed = False
    exact: bool | None = None
    generator: keras.random.SeedGenerator | None = None
    _trained: set[int] | None = None  # the ids of the variables trained at the cut
    _cut: Cut | None = None

    def __init__(
        self,
        prediction_model: keras.Model,
        balancer: Balancer,
        branches: Sequence[str],
        outputs: Sequence[Sequence[str]],
        **kwargs: Any,
    ) -> None:
        # The layers inside have their policies. `autocast=False` alone isn't enough:
        # under a mixed policy Keras would still cast the balancer's state.
        super().__init__(autocast=False, **{**kwargs, "dtype": "float32"})
        self.supports_masking = True
        if not isinstance(balancer, Balancer):  # in a damaged file
            raise TypeError(
                "`balancer` of a BalancedModel must be a lossweigh balancer. Received: "
                f"balancer={balancer!r}. (A training model without a balancer has no "
                "BalancedModel.)"
            )
        self.prediction_model = prediction_model
        self.balancer = balancer
        self.branches = list(branches)
        self.outputs = [list(names) for names in outputs]

    def build(self, input_shape: Any) -> None:
        model = self.prediction_model
        self._order = output_positions(model)  # the heads' outputs have it too
        self.supports_masking = may_mask(model)  # else Keras checks each output
        self.state = add_state(self, self.balancer, len(self.branches))
        if self.balancer.needs_draws or self.balancer.needs_noise:
            self.generator = keras.random.SeedGenerator(self.balancer.seed)
        self.cut_anew()
        # So that an error names the input that doesn't fit, not an inner layer.
        self.input_spec = model.input_spec
        self.built = True

    @property
    def state_variables(self) -> list[Any]:
        """The variables that each step overwrites."""
        return self.state.flat()

    @property
    def loss_weights(self) -> Any:
        """`(K,)` float32: the last step's weights; 1 before it and in a rest."""
        weights = ops.convert_to_tensor(self.state.weights)
        return ops.ones_like(weights) if self.rests else weights

    def cut_anew(self) -> None:
        """Finds the boundary, unless the same variables are trained as when it did.

        If all shared layers are frozen, the balancer rests: its state isn't trained,
        and a warning says so.

        Raises:
            ValueError: If no layer is shared, or any other reason of `cut`.
        """
        model, level = self.prediction_model, self.balancer.level
        trained = {id(variable) for variable in model.variables if variable.trainable}
        if self._trained == trained:
            return
        parts = cut(
            functional(model),
            self.balancer,
            [[self._order[name] for name in names] for names in self.outputs],
            self.branches,
            level.layers if isinstance(level, Representation) else None,
        )
        for variable in self.state_variables:
            variable.trainable = parts is not None
        self._trained, self._cut = trained, parts
        if parts is None:
            warn_of_rest(self.branches, model)
            return
        if not isinstance(level, Representation):
            check_parameters(self.balancer, parts.trunk)
        if not isinstance(level, Parameters):
            warn_of_right_angles(parts, model)

    @property
    def rests(self) -> bool:
        """Whether all that the branches share was frozen when it was last cut."""
        return self._trained is not None and self._cut is None

    @property
    def cut(self) -> Cut:
        """The prediction model in two, while it is balanced."""
        if self._cut is None:
            raise AttributeError("There is no `cut` unless a shared layer is trained.")
        return self._cut

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or self.rests or self.bypassed:
            outputs = self.prediction_model(inputs, training=training)
            flat = keras.tree.flatten(outputs)
            named = {name: flat[index] for name, index in self._order.items()}
            copies = [named[name] for names in self.outputs for name in names]
            return self._results(named, copies, open_tap(len(self.branches)))
        if not self.in_model_step:
            check_canary(self.balancer, self.state.canary)
        outputs, trunk = forward(
            self.cut,
            self.balancer,
            self.state,
            inputs,
            self.generator,
            self.exact,
        )
        for loss in trunk.losses:
            self.add_loss(loss)
        named = {name: outputs[index] for name, index in self._order.items()}
        return self._results(named, outputs[len(named) :], trunk.tap)

    def _results(
        self, named: dict[str, Any], copies: Sequence[Any], tap: Any
    ) -> dict[str, Any]:
        """What a call returns.

        Args:
            named: The outputs by name.
            copies: Those of all branches, one branch after the other.
            tap: The balancer's.
        """
        ahead = iter(copies)
        by_branch = {
            branch: [next(ahead) for _ in names]
            for branch, names in zip(self.branches, self.outputs, strict=True)
        }
        return {"outputs": named, "copies": by_branch, "tap": tap}

    @property
    def metrics(self) -> list[Any]:
        """None: a compiled prediction model's metrics don't belong to the training.

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
        copies = [
            keras.KerasTensor(named[name].shape, named[name].dtype)
            for names in self.outputs
            for name in names
        ]
        tap = keras.KerasTensor((len(self.branches) + 1,), "float32")
        return self._results(named, copies, tap)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "prediction_model": keras.saving.serialize_keras_object(
                self.prediction_model
            ),
            "balancer": keras.saving.serialize_keras_object(self.balancer),
            "branches": self.branches,
            "outputs": self.outputs,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BalancedModel:
        config = dict(config)
        for key in ("prediction_model", "balancer"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)
