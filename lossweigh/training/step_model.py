"""One step of training or evaluation: its loss, its metrics and its logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from lossweigh import _backend, _compat
from lossweigh.branches.masked_loss import Mean
from lossweigh.gradients.refreshing import (
    compile_exact_and_cheap_steps,
    with_exact_flag,
)
from lossweigh.training.batches import Batches
from lossweigh.training.log_metrics import SUSPECTS
from lossweigh.training.logs import BranchLogs
from lossweigh.training.metric_data import by_element, hand_over, nan_without_elements
from lossweigh.training.objective import StepResult
from lossweigh.training.stopped import Stopped, names_of_stopped
from lossweigh.training.wired_model import WiredModel


class StepModel(WiredModel):
    """What Keras calls in each step of a `TrainingModel`.

    The constructor of that class sets the attributes that these methods use.
    """

    train_function: Any
    _batches: Batches
    _logs: BranchLogs | None
    _mean: Mean
    _stopped = Stopped()  # none

    def _require_logs(self) -> BranchLogs:
        """The logs, which a model has once it is compiled.

        Raises:
            ValueError: If it isn't.
        """
        if self._logs is None:
            raise ValueError("You must call `compile()` before using the model.")
        return self._logs

    def _know_metrics(self) -> None:
        """Looks at the metrics, once they are built."""
        logs = self._require_logs()
        metrics = _compat.compiled_metrics(self, self._wiring.data.outputs)
        logs.by_element = by_element(self._wiring, metrics)
        logs.output_of = {log: output for log, output, _ in metrics}

    def _metrics_wait(self) -> bool:
        """Whether metrics can't be built before the data show their targets."""
        known = self._require_logs().output_of
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

    def freeze_stopped(self) -> None:
        """Freezes what only stopped branches use, from the next step on.

        `fit` does so when it begins; a callback calls it when branches have stopped, or
        have been loaded as stopped. It makes the step anew if something has changed.
        """
        if self._stopped.branches != names_of_stopped(self._wiring):
            self.make_train_function(force=True)

    def make_train_function(self, force: bool = False) -> None:
        new = force or self.train_function is None
        if new or self._stopped.branches != names_of_stopped(self._wiring):
            self._stopped = Stopped.of(self._wiring)
            self._stopped.leave_alone(self.optimizer)
            force = new = True
        super().make_train_function(force)
        # A subclass's own step is given batches, and nothing else.
        if new and type(self).train_step is StepModel.train_step:
            self.train_function = compile_exact_and_cheap_steps(
                self, self._wiring.balanced, self.train_function
            )
        if new:
            self.train_function = self._stopped.at_rest_in(self.train_function)

    def expect_rows(self, number: int) -> dict[str, int]:
        """Keeps the numbers of the last steps from now on, for `recent_rows`.

        Args:
            number: Of how many steps.

        Returns:
            Which of a row's numbers is which, by the names of the logs.
        """
        logs = self._require_logs()
        with _backend.scope_of(self):
            if logs.tracker.keep_recent(number):
                self.make_train_function(force=True)
        return logs.columns()

    def recent_rows(self, after: int) -> tuple[int, Any]:
        """How many steps there have been, and the rows of the last ones.

        Args:
            after: How many of the first steps to leave out. Of the others as many can
                be told as `expect_rows` was asked for.

        Returns:
            The number of steps, since the first `expect_rows`, and an array
            `(rows, numbers)`; nan where a step had nothing to count.
        """
        tracker = self._require_logs().tracker
        steps = int(ops.convert_to_numpy(tracker.batches))
        recent = ops.convert_to_numpy(tracker.recent)
        last = min(steps - after, len(recent))
        sums, counts = np.moveaxis(recent[len(recent) - last :], 1, 0)
        known = counts > 0
        return steps, np.where(known, sums / np.where(known, counts, 1), np.nan)

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        exact_flag = with_exact_flag(self._wiring.balanced, data)
        with exact_flag as batch, _backend.alone():
            batch = self._batches.step(batch, training=True, weighs_points=True)
            return super().train_step(*state, batch)

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
        logs, wiring = self._require_logs(), self._wiring
        if y is not None and SUSPECTS in y:
            logs.suspects.update_state(y[SUSPECTS])
        result = StepResult.of_outputs(y_pred, wiring.losses)
        logs.update_losses(
            [branch.loss for branch in result.branches.values()],
            [branch.count for branch in result.branches.values()],
            training,
        )
        # Of one element, not a scalar: those aren't scaled under `tf.distribute`.
        total = ops.mean(result.weighted_loss, keepdims=True)
        for regulariser in self.losses:
            total = total + ops.cast(ops.sum(regulariser), total.dtype)
        return self._mean(total, total)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        wiring = self._wiring
        if not _compat.has_metrics(self):
            return self.get_metrics_result()
        data = {**x, **(y or {})}
        result = StepResult.of_outputs(y_pred, wiring.losses)
        handed = hand_over(data, result, wiring.data.outputs, wiring.metric_branches)
        _compat.update_metrics(self, *handed, self._require_logs().by_element)
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
        names = () if self._logs is None else self._logs.names
        logs: dict[str, Any] = {}
        for metric in super().metrics:
            value = metric.result()
            if isinstance(value, dict):
                taken = sorted(key for key in value if key in names or key in logs)
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
