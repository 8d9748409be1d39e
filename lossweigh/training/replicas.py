"""What a training model can't do on several replicas."""

from __future__ import annotations

import warnings

from lossweigh import _backend
from lossweigh.balancing.levels import ExactLevel
from lossweigh.training.wiring import Wiring


def check_replicas(wiring: Wiring) -> None:
    """Refuses what several replicas would compute wrongly in the step under way.

    Args:
        wiring: The training model's.

    Raises:
        ValueError: If there are several, and the backend can't sum over them now and
            then.
    """
    if _backend.replicas() == 1:
        return
    level = None if wiring.balanced is None else wiring.balanced.balancer.level
    if (
        isinstance(level, ExactLevel)
        and level.update_every > 1
        and not _backend.SUMS_IN_COND
    ):
        raise ValueError(
            "`level` must have `update_every=1` on several replicas of "
            "`tf.distribute`, which can't be summed over in some of the steps only. "
            f"Received: level={level}. Write `level=lw.{type(level).__name__}("
            'update_every=1)`, or `level="representation"`.'
        )


def warn_of_separate_processes() -> None:
    """Warns where each process of a group would train a model by itself.

    Outside of a step only torch has several replicas, its processes.
    """
    number = _backend.replicas()
    if number > 1:
        warnings.warn(
            f"Each of the {number} processes of the group fits a model by "
            "itself: Keras's `fit` on torch sums no gradients over processes. Write "
            "the loop with `torch.nn.parallel.DistributedDataParallel`, as the page "
            "about several devices does.",
            stacklevel=3,
        )
