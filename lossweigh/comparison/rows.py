"""The lines of the table: what the runs of each candidate come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lossweigh.comparison.candidates import EQUAL
from lossweigh.comparison.intervals import Change, changes
from lossweigh.comparison.metrics import Metric
from lossweigh.comparison.runs import FINISHED, Setting


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting of a candidate on validation data.

    Attributes:
        setting: The setting.
        validation: The mean of each output's metric; `None` if a run of it failed.
        reason: Why there are none.
    """

    setting: Setting
    validation: dict[str, float] | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A candidate's runs, with one setting chosen.

    Attributes:
        trials: All its settings.
        status: `"finished"`, `"diverged"` or `"failed"`.
        reason: Why it isn't finished.
        index: The chosen setting's, if there is one.
        tests: The metrics on test data by output, one dict a seed.
        step_seconds: The median over the seeds of the seconds of a step; `None` if
            there was one epoch only.
        warnings: What lossweigh warned of in the chosen setting's runs, in all if
            there is none.
    """

    trials: tuple[Trial, ...]
    status: str = FINISHED
    reason: str = ""
    index: int | None = None
    tests: tuple[dict[str, float], ...] = ()
    step_seconds: float | None = None
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Branch:
    """One output of a candidate on test data.

    Attributes:
        values: Its metric, one a seed.
        mean: Their mean.
        spread: Their standard deviation (n - 1); `None` with one seed.
        change: How much better than equal weights; `None` without these.
    """

    values: tuple[float, ...]
    mean: float
    spread: float | None
    change: Change | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One candidate.

    Attributes:
        name: Its name.
        status: `"finished"`, `"diverged"` or `"failed"`.
        reason: Why it isn't finished.
        learning_rate: The chosen one.
        weights: The chosen fixed weights, of a search.
        branches: By output.
        change: The mean over the outputs of how much better it is than equal weights.
        worst_branch: The output with the least change.
        step_cost: Seconds of a step, as a multiple of equal weights'; `None` if there
            was one epoch only.
        trials: All settings on validation data.
        warnings: What lossweigh warned of while the chosen setting was trained, with
            the number of runs.
    """

    name: str
    status: str
    reason: str = ""
    learning_rate: float | None = None
    weights: dict[str, float] | None = None
    branches: dict[str, Branch] = dataclasses.field(default_factory=dict)
    change: Change | None = None
    worst_branch: str | None = None
    step_cost: float | None = None
    trials: tuple[Trial, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        return self.status == FINISHED


def rows_of(chosen: Mapping[str, Chosen], metrics: Sequence[Metric]) -> list[Row]:
    """A row for each candidate.

    Changes are paired by seed, and a part of equal weights' mean over the seeds. The
    tests of all candidates on one output, or on the mean over the outputs, are
    corrected together. The interval of an error ends at 1, where none of it is left.

    Args:
        chosen: By candidate.
        metrics: The metrics.
    """
    equal = chosen[EQUAL]
    tested = {name: one for name, one in chosen.items() if one.tests}
    others = [name for name in tested if name != EQUAL] if equal.tests else []
    better = {
        metric.output: {
            name: _differences(metric, tested[name], equal) for name in others
        }
        for metric in metrics
    }
    overall = changes(
        {
            name: np.mean([better[m.output][name] for m in metrics], axis=0).tolist()
            for name in others
        }
    )
    by_output = {output: changes(values) for output, values in better.items()}
    errors = [m.output for m in metrics if _is_error(m, tested.values())]
    for output in errors:
        by_output[output] = _up_to_all(by_output[output])
    if len(errors) == len(metrics):
        overall = _up_to_all(overall)
    rows = []
    for name, one in chosen.items():
        row = Row(
            name, one.status, one.reason, trials=one.trials, warnings=one.warnings
        )
        if name in tested and one.index is not None:
            setting = one.trials[one.index].setting
            own_changes = {o: by_output[o].get(name) for o in by_output}
            row = dataclasses.replace(
                row,
                learning_rate=setting.learning_rate,
                weights=setting.weights,
                branches=_branches(metrics, one, own_changes),
                change=overall.get(name),
                worst_branch=_worst(own_changes),
                step_cost=_cost(one, equal),
            )
        rows.append(row)
    return rows


def _is_error(metric: Metric, tested: Iterable[Chosen]) -> bool:
    """Whether 0 is the best that the metric can be."""
    return metric.direction == "min" and all(
        values[metric.output] >= 0.0 for one in tested for values in one.tests
    )


def _up_to_all(by_name: Mapping[str, Change]) -> dict[str, Change]:
    return {
        name: dataclasses.replace(one, high=min(one.high, 1.0))
        if one.high is not None
        else one
        for name, one in by_name.items()
    }


def _differences(metric: Metric, one: Chosen, equal: Chosen) -> list[float]:
    """How much better than equal weights each seed was."""
    output = metric.output
    unit = abs(float(np.mean([values[output] for values in equal.tests]))) or 1.0
    pairs = zip(one.tests, equal.tests, strict=True)
    return [metric.sign * (a[output] - b[output]) / unit for a, b in pairs]


def _branches(
    metrics: Sequence[Metric], one: Chosen, its_changes: Mapping[str, Change | None]
) -> dict[str, Branch]:
    branches = {}
    for metric in metrics:
        values = [tested[metric.output] for tested in one.tests]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        branches[metric.output] = Branch(
            tuple(values), float(np.mean(values)), spread, its_changes[metric.output]
        )
    return branches


def _worst(its_changes: Mapping[str, Change | None]) -> str | None:
    known = {output: c.mean for output, c in its_changes.items() if c is not None}
    return min(known, key=lambda output: known[output]) if known else None


def _cost(one: Chosen, equal: Chosen) -> float | None:
    if not one.step_seconds or not equal.step_seconds:
        return None
    return one.step_seconds / equal.step_seconds


def as_dict(row: Row) -> dict[str, Any]:
    """A row for a JSON file."""
    return dataclasses.asdict(row)
