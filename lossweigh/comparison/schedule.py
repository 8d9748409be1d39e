"""All runs of a comparison: trained, one setting chosen a candidate, and tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lossweigh.comparison.candidates import EQUAL, Candidate
from lossweigh.comparison.choice import choose, mean_over_seeds
from lossweigh.comparison.extras import need
from lossweigh.comparison.parts import Part
from lossweigh.comparison.progress import Progress
from lossweigh.comparison.results import Results
from lossweigh.comparison.rows import Chosen, Trial
from lossweigh.comparison.runs import (
    DIVERGED,
    FAILED,
    FINISHED,
    Protocol,
    Run,
    Setting,
    initial_weights,
    test,
    train,
)
from lossweigh.comparison.told import counted

Key = tuple[int, int, int]
Outcome = dict[str, Any]  # what `train` and `test` return


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What is run, and with what.

    Attributes:
        protocol: What all runs have in common.
        parts: The data by part.
        candidates: By name, equal weights first.
        learning_rates: Those to choose from.
        seeds: The seeds.
        n_jobs: How many runs at a time, as joblib takes it.
    """

    protocol: Protocol
    parts: Mapping[str, Part]
    candidates: Mapping[str, Candidate]
    learning_rates: Sequence[float]
    seeds: Sequence[int]
    n_jobs: int | None

    def settings(self, candidate: Candidate) -> list[Setting]:
        """The settings of a candidate: each learning rate with each of its weights."""
        searched = candidate.searched or (None,)
        return [
            Setting(rate, weights)
            for rate in self.learning_rates
            for weights in searched
        ]

    def runs(self) -> dict[str, list[list[Run]]]:
        """By candidate for each setting a run for each seed."""
        return {
            name: [
                [Run(candidate, number, index, setting, seed) for seed in self.seeds]
                for index, setting in enumerate(self.settings(candidate))
            ]
            for number, (name, candidate) in enumerate(self.candidates.items())
        }

    def execute(self, results: Results, progress: Progress) -> dict[str, Chosen]:
        """Runs what isn't in `results` yet; returns all that is.

        Args:
            results: What was run before, and what is kept.
            progress: Is told of each run that ends.

        Raises:
            ValueError: If all runs failed.
        """
        runs = self.runs()
        trained = self._train(runs, results, progress)
        chosen = self._choose(runs, trained)
        tested = self._test(runs, chosen, results)
        flat = [
            *trained.values(),
            *(o for of_seeds in tested.values() for o in of_seeds),
        ]
        if not any(outcome["status"] == FAILED for outcome in flat):
            results.forget_weights()  # nothing is left to be tried again
        return {
            name: one if one.index is None else _with_tests(one, tested[name])
            for name, one in chosen.items()
        }

    def _train(
        self,
        runs: Mapping[str, list[list[Run]]],
        results: Results,
        progress: Progress,
    ) -> dict[Key, Outcome]:
        flat = [
            run for settings in runs.values() for seeds in settings for run in seeds
        ]
        kept = {run.key: results.trained(run) for run in flat}
        outcomes = {key: one for key, one in kept.items() if one is not None}
        progress.start(len(outcomes))
        left = [run for run in flat if run.key not in outcomes]
        for run, outcome in self._trained(left, results):
            outcomes[run.key] = {k: v for k, v in outcome.items() if k != "weights"}
            progress.advance()
        progress.close()
        if all(outcome["status"] == FAILED for outcome in outcomes.values()):
            raise ValueError(
                f"Each of the {len(flat)} runs failed. The first, with equal weights: "
                f"{outcomes[flat[0].key]['reason']}"
            )
        return outcomes

    def _trained(
        self, runs: Sequence[Run], results: Results
    ) -> Iterator[tuple[Run, Outcome]]:
        """Trains, and keeps what comes of it."""
        parts = self.parts["train"], self.parts["validation"]
        initial = {
            seed: initial_weights(self.protocol, seed)
            for seed in {run.seed for run in runs}
        }
        calls = [(self.protocol, *parts, initial[run.seed], run) for run in runs]
        for run, outcome in self._each(train, calls):
            results.keep_trained(run, outcome)
            yield run, outcome

    def _choose(
        self,
        runs: Mapping[str, list[list[Run]]],
        trained: Mapping[Key, Outcome],
    ) -> dict[str, Chosen]:
        """Equal weights first, by which the others are measured."""
        chosen: dict[str, Chosen] = {}
        reference = None
        for name, settings in runs.items():
            outcomes = [[trained[run.key] for run in seeds] for seeds in settings]
            trials = tuple(
                _trial(seeds[0].setting, of_setting)
                for seeds, of_setting in zip(settings, outcomes, strict=True)
            )
            validation = [trial.validation for trial in trials]
            index = choose(self.protocol.metrics, validation, reference)
            if index is None:
                flat = [outcome for of_setting in outcomes for outcome in of_setting]
                chosen[name] = _without_choice(trials, flat)
                continue
            if name == EQUAL:
                reference = validation[index]
            seconds = [outcome["step_seconds"] for outcome in outcomes[index]]
            median = None if None in seconds else float(np.median(seconds))
            told = counted(outcomes[index])
            chosen[name] = Chosen(
                trials, index=index, step_seconds=median, warnings=told
            )
        return chosen

    def _test(
        self,
        runs: Mapping[str, list[list[Run]]],
        chosen: Mapping[str, Chosen],
        results: Results,
    ) -> dict[str, list[Outcome]]:
        """By candidate what `test` returned for each seed of the chosen setting."""
        wanted = {
            name: runs[name][one.index]
            for name, one in chosen.items()
            if one.index is not None
        }
        flat = [run for seeds in wanted.values() for run in seeds]
        kept = {run.key: results.tested(run) for run in flat}
        outcomes = {key: one for key, one in kept.items() if one is not None}
        left = [run for run in flat if run.key not in outcomes]
        # Those of an earlier comparison, which chose otherwise, have been removed.
        again = [run for run in left if not results.has_weights(run)]
        for run, outcome in self._trained(again, results):
            if outcome["status"] != FINISHED:
                outcomes[run.key] = outcome
        calls = (
            (self.protocol, self.parts["test"], run, results.weights(run))
            for run in left
            if run.key not in outcomes
        )
        for run, outcome in self._each(test, calls):
            results.keep_tested(run, outcome)
            outcomes[run.key] = outcome
        return {
            name: [outcomes[r.key] for r in seeds] for name, seeds in wanted.items()
        }

    def _each(
        self, function: Callable[..., Outcome], calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[Run, Outcome]]:
        """Calls the function, by joblib; each result as soon as it is there."""
        joblib = need("joblib")
        settings = {"n_jobs": self.n_jobs, "batch_size": 1}
        try:
            parallel = joblib.Parallel(**settings, return_as="generator_unordered")
        except ValueError:  # joblib's backend for Ray returns all results at once
            parallel = joblib.Parallel(**settings)
        delayed = joblib.delayed(_with_run)
        yield from parallel(delayed(function, call) for call in calls)


def _with_run(
    function: Callable[..., Outcome], call: tuple[Any, ...]
) -> tuple[Run, Outcome]:
    run = next(argument for argument in call if isinstance(argument, Run))
    return run, function(*call)


def _trial(setting: Setting, outcomes: Sequence[Outcome]) -> Trial:
    measured = [outcome.get("validation") for outcome in outcomes]
    reasons = [outcome["reason"] for outcome in outcomes if "reason" in outcome]
    return Trial(setting, mean_over_seeds(measured), reasons[0] if reasons else "")


def _without_choice(trials: tuple[Trial, ...], outcomes: Sequence[Outcome]) -> Chosen:
    """A candidate of which no setting finished for all seeds."""
    ended = [outcome for outcome in outcomes if outcome["status"] != FINISHED]
    statuses = {outcome["status"] for outcome in ended}
    status = DIVERGED if statuses == {DIVERGED} else FAILED
    first = next(outcome for outcome in ended if outcome["status"] == status)
    reason = f"{first['reason'].rstrip('.')} (in {len(ended)} of {len(outcomes)} runs)"
    return Chosen(trials, status, reason, warnings=counted(outcomes))


def _with_tests(one: Chosen, outcomes: Sequence[Outcome]) -> Chosen:
    """A candidate with its test metrics, or with why it has none."""
    for outcome in outcomes:
        if outcome["status"] != FINISHED:
            reason = f"on test data: {outcome['reason']}"
            return dataclasses.replace(one, status=outcome["status"], reason=reason)
        for output, value in outcome["test"].items():
            if not np.isfinite(value):
                reason = f"the test metric of {output!r} is {value}"
                return dataclasses.replace(one, status=DIVERGED, reason=reason)
    return dataclasses.replace(one, tests=tuple(o["test"] for o in outcomes))
