"""`fit`, `evaluate` and the like of a training model, with data by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossweigh import _backend, _check, _compat
from lossweigh.inspection.branch_gradients import GradientMeter
from lossweigh.inspection.inspection import Inspection
from lossweigh.training.fit_callbacks import with_ours
from lossweigh.training.gradient_meter import gradient_meter
from lossweigh.training.replicas import warn_of_separate_processes
from lossweigh.training.step_model import StepModel


class Trainer(StepModel):
    """What users call on a `TrainingModel`."""

    _meter_for: tuple[Any, GradientMeter] | None = None

    def _use_class_weight(self, class_weight: Any) -> None:
        """Class weights of this call; if they are new, the step is traced anew."""
        if self._batches.use_class_weight(class_weight):
            self.train_function = None

    def warn_of_suspects(self) -> None:
        """Warns of numbers in data sets that arrays are refused for, and forgets them.

        `fit` does so after each epoch, and `evaluate` at its end.
        """
        self._require_logs().warn_of_suspects(self._batches.num_classes)

    @property
    def epoch_means(self) -> dict[str, float]:
        """The branches' mean losses and weights in the last epoch of `fit`, as logged.

        Losses are there if they aren't logged too, and so are weights that are learned.
        """
        return {} if self._logs is None else dict(self._logs.epoch_means)

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
                `[x, *targets]`, with a dummy `y`. For a branch with weights of points a
                dict may hold `<branch>_index`, which point each row is; a data set
                must yield it. Without it arrays must have a row for each point.
            y: Targets: a dict by name (an output's, or a `BranchLoss`'s `target`), a
                pandas DataFrame with a column for each, a list in the order of the
                outputs, or the target itself if there is only one.
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
        self._require_logs()
        warn_of_separate_processes()
        x = self._batches.named(
            x, y, sample_weight, training=True, validation_split=validation_split
        )
        self._build_from(x)
        if isinstance(validation_data, (list, tuple)):
            some = (*validation_data, None, None)[:3]
            try:
                validation_data = (self._batches.named(*some),)
            except ValueError as error:
                raise ValueError(f"Of `validation_data`: {error}") from None
        self._use_class_weight(class_weight)
        metrics = _compat.compiled_metrics(self, self._wiring.data.outputs)
        callbacks = with_ours(callbacks, self, metrics, x)
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
        self._require_logs()
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
        x = self._batches.one(x, y, sample_weight, training=True)
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
        x = self._batches.one(x, y, sample_weight, training=False)
        self._build_from(x)
        return super().test_on_batch(x, return_dict=return_dict)

    def inspect(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        steps: int | None = 10,
    ) -> Inspection:
        """Measures what the branches do to each other where they share layers.

        It takes the gradient of each branch's mean loss with regard to the trainable
        parameters that more than one branch depends on. Neither branches nor points
        are weighted, and a balancer takes no part. The forward pass is that of
        training: dropout drops, and batch normalisation takes the batch's statistics.
        Nothing is moved: weights, optimizer, statistics and seeds are as before to the
        bit. Class weights of the last `fit` are in force.

        Args:
            x: As for `fit`. The batches are taken in order: shuffle sorted data first.
            y: As for `fit`.
            sample_weight: As for `fit`.
            batch_size: Rows of a batch of arrays; by default 32.
            steps: How many batches at most; `None` for all.

        Returns:
            An `Inspection`: print it for a table; `to_dict()`, `plot()`.

        Raises:
            ValueError: If the branches share no trainable layer, the model is a
                subclassed one that doesn't show its layers, or there is no batch;
                for the data as `fit`.

        Examples:
            >>> import keras, numpy as np
            >>> import lossweigh as lw
            >>> x = keras.Input((4,))
            >>> shared = keras.layers.Dense(8, activation="relu")(x)
            >>> outputs = {n: keras.layers.Dense(1, name=n)(shared) for n in "ab"}
            >>> training = lw.build_training_model(
            ...     keras.Model(x, outputs), {"a": "mse", "b": "mae"}
            ... )
            >>> training.compile("adam")
            >>> report = training.inspect(
            ...     np.ones((8, 4)), {"a": np.ones(8), "b": np.zeros(8)}
            ... )
            >>> sorted(report.to_dict())
            ['cosine', 'gradient_norm', 'loss']
            >>> sorted(report.gradient_norm)
            ['a', 'b']
        """
        if batch_size is not None:
            batch_size = _check.whole("batch_size", batch_size, at_least=1)
        if steps is not None:
            steps = _check.whole("steps", steps, at_least=1)
        named = self._batches.named(x, y, sample_weight)
        meter = self._meter()
        optimizer = getattr(self, "optimizer", None)
        scale = 1.0 if optimizer is None else float(optimizer.scale_loss(1.0))
        measurements = []

        def measure(batch: Any) -> None:
            inputs, _, _ = self._batches.step(batch, training=True)
            measurements.append(meter.measure(inputs, scale))

        with _backend.keeps_random_state():
            _compat.read_batches(named, batch_size, steps, measure)
        if not measurements:
            raise ValueError("`x` must give at least one batch. Received none.")
        return Inspection([*self._wiring.losses], measurements, meter.num_parameters)

    def _meter(self) -> GradientMeter:
        """The gradient meter, a new one only if other variables are trained."""
        trained = frozenset(id(variable) for variable in self.trainable_variables)
        known = (trained, self.run_eagerly)
        if self._meter_for is None or self._meter_for[0] != known:
            meter = gradient_meter(self, self._wiring, compiled=not self.run_eagerly)
            self._meter_for = (known, meter)
        return self._meter_for[1]

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`prediction_model.predict`: takes data, without targets."""
        return self.prediction_model.predict(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """`prediction_model.predict_on_batch`."""
        return self.prediction_model.predict_on_batch(x)
