"""`TrainingModel`: what `build_training_model` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from lossweigh import _compat
from lossweigh._structure import may_mask, named_outputs
from lossweigh.balancing.base import Balancer
from lossweigh.branches import Branch
from lossweigh.branches.protocols import Mean
from lossweigh.gradients.refreshing import (
    compile_exact_and_cheap_steps,
    with_exact_flag,
)
from lossweigh.gradients.refusals import check_optimizer, check_variables
from lossweigh.training.batches import Batches
from lossweigh.training.fit_callbacks import with_ours
from lossweigh.training.ignore_loss import ignoreLoss
from lossweigh.training.logs import SUSPECTS, BranchLogs
from lossweigh.training.loss_scaling import scaled_in_float16
from lossweigh.training.metric_data import by_element, hand_over, nan_without_elements
from lossweigh.training.metrics import metrics_by_output, without_target
from lossweigh.training.names import sample_weight_name, target_name
from lossweigh.training.replicas import warn_of_replicas
from lossweigh.training.saving import in_words, save_whole
from lossweigh.training.wiring import WEIGHTED_LOSS, read
from lossweigh.weighting.base import Weighter


@keras.saving.register_keras_serializable(package="lossweigh")
class TrainingModel(keras.Model):
    """A model whose inputs are data and targets and whose output is its loss.

    Made by `build_training_model`. It shares every layer with the prediction
    model, is trained with the stock `fit`, and takes `(x, y, sample_weight)` as
    the prediction model would: `y` by output name. Calling it on a dict of all
    its inputs (`<input>`, `<output>_target`, optionally
    `<branch>_sample_weight`) gives a dict of the predictions by output name,
    each `<branch>_loss` `(batch,)`, and the `weighted_loss` `(batch,)`.

    Logs, for training and (with `val_`) validation: `loss`, the weighted loss
    and the regularisers; `<branch>_loss`; `<branch>_weight`, the mean over the
    epoch of the weight in force; `unweighted_loss`, the sum of the branch
    losses, which stays comparable while weights move; with a balancer
    `<branch>_balance`, the weight of the branch's gradient, a step late; and the
    metrics.

    Args:
        *args: Inputs and outputs, KerasTensors by name, as for `keras.Model`.
        **kwargs: Passed to `keras.Model`.

    Attributes:
        prediction_model: The model that predicts.
        branches: Names of the branches.
        weighter: The layer that weighs the branch losses.
        balancer: What combines the branches' gradients, or `None`.
        branch_losses: The `BranchLoss` and `TargetFreeLoss` layers by branch.
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
        self._batches = Batches(self._wiring, self.input, self.output)
        self._has_warned = warn_of_replicas(self._wiring)
        self._mean = Mean(name="mean_of_rows", dtype="float32")

    @property
    def prediction_model(self) -> keras.Model:
        return self._wiring.prediction_model

    @property
    def weighter(self) -> Weighter:
        return self._wiring.weighter

    @property
    def balancer(self) -> Balancer | None:
        balanced = self._wiring.balanced
        return None if balanced is None else balanced.balancer

    @property
    def boundary(self) -> dict[str, list[str]]:
        """Where a balancer works: layers' names, and the branches that leave there.

        Empty without a balancer, and while all that the branches share is frozen.
        """
        balanced = self._wiring.balanced
        leaving: dict[str, set[int]] = {}
        if balanced is not None and not balanced.rests:
            exits = balanced.cut.exits.exits
            for layer, exit in zip(balanced.cut.layers, exits, strict=True):
                # A layer may give several tensors.
                leaving.setdefault(layer, set()).update(exit.branches)
        return {
            layer: [self.branches[k] for k in sorted(branches)]
            for layer, branches in leaving.items()
        }

    @property
    def balance(self) -> dict[str, float]:
        """The balancer's weights in the last step of training, by branch.

        Each is 1 before the first step, and while the balancer rests because all that
        the branches share is frozen. Empty without a balancer.
        """
        balanced = self._wiring.balanced
        if balanced is None:
            return {}
        weights = ops.convert_to_numpy(balanced.loss_weights)
        return dict(zip(self.branches, weights.tolist(), strict=True))

    @property
    def branches(self) -> list[str]:
        return list(self._wiring.losses)

    @property
    def branch_losses(self) -> dict[str, Branch]:
        return self._wiring.losses

    # Compiling ---------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
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
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile` and
                `auto_scale_loss`, as in Keras: where the prediction model or a layer
                of it is `"mixed_float16"`, the optimizer is wrapped in a
                `LossScaleOptimizer` by default.

        Raises:
            ValueError: If `loss` or `loss_weights` is given, or there is a balancer
                and the optimizer keeps moving averages, or the optimizer is built for
                other variables, or a metric is given for an output that the model
                doesn't have.
        """
        if loss is not None and loss is not ignoreLoss:
            raise ValueError(
                "`loss` must be left out: this model's losses were given to "
                "`build_training_model` and its output is the loss. "
                f"Received: loss={loss!r}."
            )
        if loss_weights is not None:
            raise ValueError(
                "`loss_weights` must be left out: the weights are the weighter's. Give "
                "`build_training_model(..., weighter=FixedWeights([...]))`. "
                f"Received: loss_weights={loss_weights!r}."
            )
        self._has_warned = self._has_warned or warn_of_replicas(self._wiring)
        given = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        by_name = metrics_by_output(self._wiring, self.input, self.output, given)
        if self._wiring.balanced is not None:
            self._wiring.balanced.cut_anew()  # layers were frozen or thawed since
        optimizer = keras.optimizers.get(optimizer)
        if kwargs.get("auto_scale_loss", True):
            optimizer = scaled_in_float16(optimizer, self.prediction_model)
        balanced = self._wiring.balanced
        own = [] if balanced is None or balanced.rests else balanced.state_variables
        if own:
            check_optimizer(optimizer)
            _compat.overwrite_in_each_step(optimizer, own)
        own = [*own, *self.weighter.trainable_variables]
        check_variables(optimizer, self.trainable_variables)
        _compat.exclude_from_weight_decay(optimizer, own)
        super().compile(optimizer=optimizer, loss=None, **by_name, **kwargs)
        self.loss = ignoreLoss  # for whoever asks whether the model has one
        self._logs = BranchLogs(self.branches, balanced=self.balancer is not None)
        self._batches.looks = True
        self._wiring.data.metric_targets = without_target(self._wiring, by_name)
        if not self._wiring.data.metric_targets:
            weights = self._wiring.data.weight_names
            x = {name: t for name, t in self.input.items() if name not in weights}
            _compat.build_metrics(self, x, None, dict(self.output))
        self._know_metrics()

    def _know_metrics(self) -> None:
        """Looks at the metrics, once they are built."""
        logs = _compiled(self._logs)
        found = _compat.compiled_metrics(self, self._wiring.data.outputs)
        logs.by_element = by_element(self._wiring, found)
        logs.output_of = {log: output for log, output, _ in found}

    def _metrics_wait(self) -> bool:
        """Whether only the data show what is to be built."""
        known = _compiled(self._logs).output_of
        return bool(self._wiring.data.metric_targets) and not known

    def _build_from(self, data: Any) -> None:
        """Builds metrics of outputs without a loss, whose target the data show."""
        if self._metrics_wait() and isinstance(data, Mapping):
            self._symbolic_build(data_batch=data)

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        _compat.symbolic_build(self, iterator, data_batch)
        if self._wiring.data.metric_targets:
            self._know_metrics()

    def _maybe_symbolic_build(self, iterator: Any = None, **kwargs: Any) -> None:
        """What TensorFlow calls where the others call `_symbolic_build`."""
        if self._metrics_wait() and iterator is not None:
            _compat.build_metrics_from_spec(self, iterator)
            self._know_metrics()
        super()._maybe_symbolic_build(iterator=iterator, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    # One step ----------------------------------------------------------------

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """`call`, where optional inputs may be left out."""
        if isinstance(inputs, Mapping):
            inputs = {**dict.fromkeys(self._wiring.optional), **inputs}
        return super().__call__(inputs, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """What the graph computes, called directly where nothing is masked.

        Keras's bookkeeping for each layer of the graph takes longer than the
        branch losses themselves: a tenth of a step on torch.
        """
        wiring = self._wiring
        if not wiring.direct:
            return super().call(inputs, training=training, mask=mask)
        x = keras.tree.map_structure(inputs.get, wiring.data.structure)
        tap, copies = None, None
        if wiring.balanced is None:
            made = wiring.prediction_model(x, training=training)
            outputs = named_outputs(wiring.prediction_model, made)
        else:
            results = wiring.balanced(x, training=training)
            copies, tap = results["copies"], results["tap"]
            outputs = {name: results["outputs"][name] for name in wiring.data.outputs}
        tensors = wiring.tensors(outputs, copies, inputs)
        losses = []
        for branch, layer in wiring.losses.items():
            target = None if layer.target is None else inputs[target_name(layer.target)]
            weight = inputs.get(sample_weight_name(branch))
            losses.append(layer.call(layer.pack(target, tensors[branch], weight)))
        for branch, loss in zip(wiring.losses, losses, strict=True):
            outputs[f"{branch}_loss"] = loss
        for branch, layer in wiring.valid.items():
            target = wiring.losses[branch].target
            first = tensors[branch][0]
            target = first if target is None else inputs[target_name(target)]
            outputs[f"{branch}_valid"] = layer.call([target, first])
        valid = [outputs.get(f"{branch}_valid") for branch in wiring.losses]
        weighted = wiring.weighter.call(losses, valid, training=bool(training))
        if tap is not None:
            weighted = wiring.loss_tap.call([weighted, tap, *losses])
        outputs[WEIGHTED_LOSS] = weighted
        return outputs

    def make_train_function(self, force: bool = False) -> None:
        new = force or self.train_function is None
        super().make_train_function(force)
        # A subclass's own step is given batches, and nothing else.
        if new and type(self).train_step is TrainingModel.train_step:
            self.train_function = compile_exact_and_cheap_steps(
                self, self._wiring.balanced, self.train_function
            )

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        with with_exact_flag(self._wiring.balanced, data) as batch:
            return super().train_step(*state, self._batches.step(batch, training=True))

    def test_step(self, *args: Any) -> Any:
        return super().test_step(
            *args[:-1], self._batches.step(args[-1], training=False)
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The mean of the weighted loss, plus the regularisers."""
        logs, wiring = _compiled(self._logs), self._wiring
        if y is not None and SUSPECTS in y:
            logs.suspects.update_state(y[SUSPECTS])
        valid = {b: y_pred.get(f"{b}_valid") for b in self.branches}
        logs.update_losses(
            [y_pred[f"{branch}_loss"] for branch in self.branches],
            [
                v if v is None else self.branch_losses[b].count(v)
                for b, v in valid.items()
            ],
            self.weighter.loss_weights,
            None if wiring.balanced is None else wiring.balanced.loss_weights,
        )
        # Of one element, not a scalar: those aren't scaled under `tf.distribute`.
        total = ops.mean(y_pred[WEIGHTED_LOSS], keepdims=True)
        for regulariser in self.losses:
            total = total + ops.cast(ops.sum(regulariser), total.dtype)
        return self._mean(total, total)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        wiring = self._wiring
        data = {**x, **(y or {})}
        handed = hand_over(data, y_pred, wiring.data.outputs, wiring.measured)
        _compat.update_metrics(self, *handed, _compiled(self._logs).by_element)
        return self.get_metrics_result()

    @property
    def metrics(self) -> list[Any]:
        return super().metrics + ([] if self._logs is None else self._logs.metrics)

    @property
    def metrics_names(self) -> list[str]:
        """Names in the order in which `evaluate` lists the results."""
        return _compat.names_in_order(self, self.get_metrics_result())

    def get_metrics_result(self) -> dict[str, Any]:
        named = {} if self._logs is None else self._logs.result()
        logs: dict[str, Any] = {}
        for metric in super().metrics:
            value = metric.result()
            if isinstance(value, dict):
                taken = sorted(key for key in value if key in named or key in logs)
                if taken:
                    raise ValueError(
                        f"`metrics` must not have a metric that is logged as "
                        f"{taken[0]!r}: the training model logs a branch under that "
                        "name. Give the metric another one, as in "
                        '`keras.metrics.MeanSquaredError(name="error")`.'
                    )
                logs.update(nan_without_elements(value, self._wiring, self._logs))
            else:
                logs[metric.name] = value
        return {**logs, **named}

    # Data --------------------------------------------------------------------

    def _use_class_weight(self, class_weight: Any) -> None:
        """Class weights of this call; if they are new, the step is traced anew."""
        if self._batches.use_class_weight(class_weight):
            self.train_function = None

    def warn_of_suspects(self) -> None:
        """Warns of numbers in data sets that arrays are refused for, and forgets them.

        `fit` does so after each epoch, and `evaluate` at its end.
        """
        _compiled(self._logs).warn_of_suspects(self._batches.num_classes)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[str, Mapping[int, float]] | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Trains, as `keras.Model.fit` on the prediction model would.

        Args:
            x: What the prediction model takes; or a data set, generator or
                loader that yields `(x, y)` or `(x, y, sample_weight)`; or
                `[x, *targets]`, with a dummy `y`.
            y: Targets: a dict by name (an output's, or a `BranchLoss`'s `target`), a
                list in the order of the outputs, or the target itself if there is
                only one.
            batch_size: As in Keras.
            epochs: As in Keras.
            verbose: As in Keras.
            callbacks: As in Keras.
            validation_split: As in Keras.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or a data set.
            shuffle: As in Keras.
            class_weight: Class weights by the name of a branch, or of a target for
                all its branches; for training only. With sample weights too, the
                two multiply.
            sample_weight: Weights by the name of a branch, or of a target for all
                its branches (what is left out weighs 1); or one array for all.
            **kwargs: As in Keras.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If a name is unknown or missing, or arrays are missing or of a
                wrong shape or value.
            TypeError: If a target doesn't hold numbers.
        """
        _compiled(self._logs)
        x = self._batches.named(x, y, sample_weight)
        self._build_from(x)
        if isinstance(validation_data, (list, tuple)):
            some = (*validation_data, None, None)[:3]
            validation_data = (self._batches.named(*some),)
        self._use_class_weight(class_weight)
        metrics = _compat.compiled_metrics(self, self._wiring.data.outputs)
        callbacks = with_ours(callbacks, self, metrics)
        with _compat.keeps_variables(self):
            return super().fit(
                x,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Loss and metrics on `(x, y, sample_weight)`, as in Keras and as for `fit`."""
        _compiled(self._logs)
        x = self._batches.named(x, y, sample_weight)
        self._build_from(x)
        with _compat.keeps_variables(self):
            results = super().evaluate(
                x, batch_size=batch_size, verbose=verbose, **kwargs
            )
        self.warn_of_suspects()
        return results

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch, as in Keras and as for `fit`."""
        x = self._batches.one(x, y, sample_weight)
        self._build_from(x)
        self._use_class_weight(class_weight)
        return super().train_on_batch(x, return_dict=return_dict)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics on one batch, as in Keras and as for `fit`."""
        x = self._batches.one(x, y, sample_weight)
        self._build_from(x)
        return super().test_on_batch(x, return_dict=return_dict)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`prediction_model.predict`: takes data, without targets."""
        return self.prediction_model.predict(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """`prediction_model.predict_on_batch`."""
        return self.prediction_model.predict_on_batch(x)

    # Saving ------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """As `keras.Model.from_config`; what is wrong with the config is said."""
        with in_words(config):
            return super().from_config(config, custom_objects)

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


def _compiled(logs: BranchLogs | None) -> BranchLogs:
    if logs is None:
        raise ValueError("You must call `compile()` before using the model.")
    return logs
