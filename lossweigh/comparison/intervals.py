"""Is a change more than the noise of the seeds? Paired t intervals, after Holm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from lossweigh.comparison.extras import need

LEVEL = 0.05  # the chance that one of the candidates seems to differ and none does


@dataclasses.dataclass(frozen=True)
class Change:
    """How much better than equal weights, as a part of equal weights' value.

    Attributes:
        mean: The mean over the seeds; greater than 0 is better.
        low: The lower end of the interval; `None` with one seed.
        high: The upper end.
        p_value: Corrected for the number of candidates, after Holm.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None

    @property
    def is_real(self) -> bool:
        """Whether the change is more than the noise of the seeds."""
        return self.p_value is not None and self.p_value < LEVEL


def percent(part: float) -> str:
    """A part in percent with its sign; a tiny one has no minus."""
    return f"{round(part, 3) + 0.0:+.1%}"


def changes(differences: Mapping[str, Sequence[float]]) -> dict[str, Change]:
    """Paired t tests and intervals, one a candidate, corrected after Holm.

    The differences `d` of a candidate are one a seed, `n` of them. The test is the
    paired one: `t = mean(d) / (std(d) / sqrt(n))`, with `n - 1` degrees of freedom. Of
    `m` candidates the one with the i-th smallest p (i = 1, 2, ...) gets

        p_holm(i) = max over j <= i of min(1, (m - j + 1) p(j))

    and the interval of the level `1 - 0.05 / (m - i + 1)`. From the first i on that
    isn't significant, all have that one's level. So an interval leaves out 0 if and
    only if `p_holm < 0.05`.

    Args:
        differences: By candidate, how much better than equal weights each seed was.
    """
    if not differences:
        return {}
    raw = {name: _p_value(values) for name, values in differences.items()}
    if any(p is None for p in raw.values()):
        return {name: Change(_mean(values)) for name, values in differences.items()}
    in_order = sorted(differences, key=lambda name: raw[name] or 0.0)
    found_none, p_holm, tests = False, 0.0, len(in_order)
    by_name = {}
    for index, name in enumerate(in_order):
        if not found_none:
            tests = len(in_order) - index
        p_holm = max(p_holm, min(1.0, (len(in_order) - index) * (raw[name] or 0.0)))
        found_none = found_none or p_holm >= LEVEL
        low, high = _interval(differences[name], LEVEL / tests)
        by_name[name] = Change(_mean(differences[name]), low, high, p_holm)
    return {name: by_name[name] for name in differences}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _p_value(values: Sequence[float]) -> float | None:
    """Of the two-sided test that the mean is 0; `None` for one value."""
    if len(values) < 2:
        return None
    mean, error = _mean(values), _standard_error(values)
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    student = need("scipy.stats").t
    return float(2.0 * student.sf(abs(mean) / error, len(values) - 1))


def _interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """The two-sided interval of the mean that leaves it out with chance `level`."""
    student = need("scipy.stats").t
    mean = _mean(values)
    half = float(student.isf(level / 2.0, len(values) - 1)) * _standard_error(values)
    return mean - half, mean + half
