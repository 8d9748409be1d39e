"""`TrainingModel`: what `build_training_model` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from lossweigh import _compat
from lossweigh._files import save_weights_whole, save_whole
from lossweigh._structure import may_mask, named_outputs
from lossweigh.branches.masked_loss import Mean
from lossweigh.training import beside_weights
from lossweigh.training.batches import Batches
from lossweigh.training.fitted_optimizer import fitted_optimizer
from lossweigh.training.ignore_loss import check_no_loss, ignoreLoss
from lossweigh.training.log_words import checked_words
from lossweigh.training.logs import BranchLogs
from lossweigh.training.metrics import metrics_by_output, without_target
from lossweigh.training.objective import call_directly
from lossweigh.training.relative_loss import RelativeLoss
from lossweigh.training.replicas import check_replicas
from lossweigh.training.saving import in_words, weights_in_words, with_format
from lossweigh.training.trainer import Trainer
from lossweigh.training.wiring import read


@keras.saving.register_keras_serializable(package="lossweigh")
class TrainingModel(Trainer):
    """A model whose inputs are data and targets and whose output is its loss.

    Made by `build_training_model`. It shares every layer with the prediction
    model, is trained with Keras's own `fit`, and takes `(x, y, sample_weight)` as the
    prediction model would: `y` by output name. Calling it on a dict of all its inputs
    (`<input>`, `<output>_target`, optionally `<branch>_sample_weight`, and in training
    `<branch>_index` of a branch with weights of points) gives a dict of
    the predictions by output name, each `<branch>_loss` `(batch,)`, and the
    `weighted_loss` `(batch,)`.

    Logs: `loss`, the weighted loss and the regularisers; `<branch>_loss`; the
    metrics; and where weights move `unweighted_loss`, the sum of the branch losses.
    `fit` adds the means over the epoch of `<branch>_weight` and `relative_loss`, where
    weights move, and of `<branch>_balance`, the weight of the branch's gradient, with a
    balancer. `relative_loss` is the mean over the branches of each loss in parts of
    its first: 1 after the first epoch. `log=["gradients"]` adds what a balancer sees,
    `<branch>_gradient_norm_at_<level>` and `<a>_<b>_cosine_at_<level>` (above 5
    branches `<branch>_lowest_cosine_at_<level>`), of the weighted losses.

    Args:
        *args: Inputs and outputs, KerasTensors by name, as for `keras.Model`.
        **kwargs: Passed to `keras.Model`.

    Attributes:
        prediction_model: The model that predicts.
        branches: Names of the branches.
        weighter: The layer that weighs the branch losses.
        balancer: What combines the branches' gradients, or `None`.
        branch_losses: The `BranchLoss` and `TargetFreeLoss` layers by branch.
        point_weights: The layers of `lossweigh.points` by branch, where there are some.
    """

    train_function: Any

    # `*args, **kwargs`, under these names: Keras revives a subclass as a functional
    # model only if its constructor looks like `Functional`'s, which is
    # `(inputs, outputs, name)` in Keras 3.15 and `(*args, **kwargs)` in 3.12.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The layers have policies of their own; this is for what `call` does itself.
        self.dtype_policy = keras.DTypePolicy("float32")
        self._wiring = read(self)
        if may_mask(self.prediction_model):
            for layer in self.branch_losses.values():
                layer.expect_mask()
        self._logs: BranchLogs | None = None
        self._batches = Batches(self._wiring, self.output)
        self._mean = Mean(name="mean_of_rows", dtype="float32")

    # Compiling ---------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *,
        log: Any = None,
        advise: bool = True,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer or its name. Its weight decay leaves the
                weighter's variables alone.
            loss: `None` or `ignoreLoss`; the losses are in the model.
            loss_weights: Must be `None`; the weights are the weighter's.
            metrics: Metrics of the predictions by output name, as in
                `{"label": ["accuracy"]}`; for one output also a list.
            weighted_metrics: Likewise, weighted by the sample weights.
            log: What to log beside `loss` and the metrics: a list of the words
                `"losses"`, `"weights"`, `"balance"`, `"gradients"`,
                `"unweighted_loss"` and `"relative_loss"`. Default: the losses, the
                balance, and where weights move the weights and the last two.
            advise: Whether to warn after the first epoch of what will probably go
                wrong, by `AdviceWarning`s.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile` and
                `auto_scale_loss`, as in Keras: where the prediction model or a layer
                of it is `"mixed_float16"`, the optimizer is wrapped in a
                `LossScaleOptimizer` by default.

        Raises:
            ValueError: If `loss` or `loss_weights` is given, or there is a balancer
                and the optimizer keeps moving averages, or the optimizer is built for
                other variables, or a metric is given for an output that the model
                doesn't have, or `log` has an unknown word.
        """
        check_no_loss(loss, loss_weights)
        words = checked_words(log, balanced=self.balancer is not None)
        given = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        by_name = metrics_by_output(self._wiring, self.input, self.output, given)
        if self._wiring.balanced is not None:
            self._wiring.balanced.cut_anew()  # layers were frozen or thawed since
        optimizer = fitted_optimizer(
            optimizer,
            self._wiring,
            self.trainable_variables,
            auto_scale_loss=kwargs.get("auto_scale_loss", True),
        )
        super().compile(optimizer=optimizer, loss=None, **by_name, **kwargs)
        self.loss = ignoreLoss  # for whoever asks whether the model has one
        self._logs = BranchLogs(self._wiring, words, advises=bool(advise))
        self._batches.looks = True
        self._wiring.data.metric_targets = without_target(self._wiring, by_name)
        if not self._wiring.data.metric_targets:
            weights = self._wiring.data.weight_names
            x = {name: t for name, t in self.input.items() if name not in weights}
            _compat.build_metrics(self, x, None, dict(self.output))
        self._know_metrics()

    def get_compile_config(self) -> dict[str, Any]:
        logged = {} if self._logs is None else self._logs.get_config()
        return {**super().get_compile_config(), **logged}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    # One step ----------------------------------------------------------------

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """`call`, where optional inputs may be left out."""
        if isinstance(inputs, Mapping):
            inputs = {**dict.fromkeys(self._wiring.data.optional), **inputs}
        return super().__call__(inputs, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """What the graph computes, called directly where nothing is masked."""
        wiring = self._wiring
        if training:
            check_replicas(wiring)
        if not wiring.direct:
            return super().call(inputs, training=training, mask=mask)
        x = keras.tree.map_structure(inputs.get, wiring.data.structure)
        tap, copies = None, None
        if wiring.balanced is None:
            outputs = wiring.prediction_model(x, training=training)
            predictions = named_outputs(wiring.prediction_model, outputs)
        else:
            results = wiring.balanced(x, training=training)
            predictions, copies = results["outputs"], results["copies"]
            predictions = {name: predictions[name] for name in wiring.data.outputs}
            tap = results["tap"]
        return wiring.objective.evaluate(
            inputs, predictions, copies, tap, call_directly, training=bool(training)
        ).as_outputs()

    # Saving ------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """As `keras.Model.from_config`, with worded errors for a wrong config."""
        with in_words(config):
            return super().from_config(config, custom_objects)

    def get_config(self) -> dict[str, Any]:
        return with_format(super().get_config())

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        beside_weights.save(self, store, self._relative_loss)

    def load_own_variables(self, store: Any) -> None:
        rest = beside_weights.load(self, store, self._relative_loss)
        super().load_own_variables(rest)

    @property
    def _relative_loss(self) -> RelativeLoss | None:
        return None if self._logs is None else self._logs.relative_loss

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves as `keras.Model.save`, the file whole or not at all.

        Args:
            filepath: Path of a `.keras` file.
            overwrite: As in Keras.
            **kwargs: As in Keras.

        Raises:
            ValueError: If the file would be one that can't be loaded again.
        """
        save_whole(super().save, filepath, overwrite, **kwargs)

    def save_weights(
        self, filepath: Any, overwrite: bool = True, **kwargs: Any
    ) -> None:
        """Saves as `keras.Model.save_weights`, the file whole or not at all.

        Args:
            filepath: Path of a `.weights.h5` file.
            overwrite: As in Keras.
            **kwargs: As in Keras. With `max_shard_size` Keras writes several files,
                which a kill can leave incomplete.
        """
        save_weights_whole(super().save_weights, filepath, overwrite, **kwargs)

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As in Keras, from a file that `save_weights` of a training model wrote."""
        with weights_in_words(filepath):
            super().load_weights(filepath, *args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Refuses: what is served is the prediction model.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "A training model must not be exported: its inputs are data and targets, "
            "and its output is a loss. Export `training.prediction_model`, whose "
            f"layers it trains. Received: filepath={str(filepath)!r}."
        )
