"""Which learning rate and which weights: chosen on validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lossweigh.comparison.metrics import Metric

Values = Mapping[str, float]  # by output


def mean_over_seeds(measured: Sequence[Values | None]) -> dict[str, float] | None:
    """The mean of each metric; `None` if a run has none, since it didn't finish."""
    whole = [values for values in measured if values is not None]
    if not whole or len(whole) < len(measured):
        return None
    return {name: float(np.mean([v[name] for v in whole])) for name in whole[0]}


def choose(
    metrics: Sequence[Metric],
    settings: Sequence[Values | None],
    reference: Values | None,
) -> int | None:
    """The index of the best setting, the first of equals.

    The score of a setting is the mean over the outputs of how much better its metric
    is than the reference, as a part of the reference (Maninis 2019; the reference there
    are models for one output each):

        score = 1/K sum_k s_k (M_k - R_k) / |R_k|

    with `M_k` the mean over the seeds, `R_k` the reference, and `s_k` 1 where more is
    better and -1 where less is. Where `R_k` is 0, the division is by 1.

    Args:
        metrics: The K metrics.
        settings: For each setting `M_k` by output, or `None` if a run of it failed or
            diverged.
        reference: `R_k` by output; `None` for the first setting that finished.

    Returns:
        `None` if no setting finished.
    """
    finished = {i: values for i, values in enumerate(settings) if values is not None}
    if not finished:
        return None
    if reference is None:
        reference = next(iter(finished.values()))
    scores = {
        index: np.mean(
            [m.better(values[m.output], reference[m.output]) for m in metrics]
        )
        for index, values in finished.items()
    }
    return max(scores, key=lambda index: float(scores[index]))
