"""`fit`, `evaluate` and the like of a training model, with data by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossweigh import _compat
from lossweigh.training.fit_callbacks import with_ours
from lossweigh.training.step_model import StepModel, compiled


class Trainer(StepModel):
    """What users call on a `TrainingModel`."""

    def _use_class_weight(self, class_weight: Any) -> None:
        """Class weights of this call; if they are new, the step is traced anew."""
        if self._batches.use_class_weight(class_weight):
            self.train_function = None

    def warn_of_suspects(self) -> None:
        """Warns of numbers in data sets that arrays are refused for, and forgets them.

        `fit` does so after each epoch, and `evaluate` at its end.
        """
        compiled(self._logs).warn_of_suspects(self._batches.num_classes)

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
        compiled(self._logs)
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
        compiled(self._logs)
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
