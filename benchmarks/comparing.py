"""What the `compare_*.py` scripts share: the candidates, the options, where results go.

The rule by which these results decide the default weighter is in `default_rule.md`,
which was written before they were run.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import lossweigh as lw

RESULTS = Path(__file__).parent / "results"
SEEDS = 5


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A model and data to compare weightings on.

    Attributes:
        name: Of the data set, and of the files in `results/`.
        build: As for `lossweigh.compare`.
        data: As for `lossweigh.compare`.
        metric: As for `lossweigh.compare`.
        budget: The epochs of a run.
        batch_size: As for `lossweigh.compare`.
    """

    name: str
    build: Callable[[], Any]
    data: Any
    metric: Any
    budget: int
    batch_size: int = 32


def candidates():
    """The same on all data: what is eligible as a default, and two for comparison."""
    return {
        "fixed, searched": lw.RandomSearch(4),
        "LossWeighter": lw.LossWeighter(),
        "RevisedUncertainty": lw.RevisedUncertainty(),
        "Uncertainty": lw.Uncertainty(),
        "DWA": lw.DWA(),
        "UPGrad, parameters / 10": lw.UPGrad(level=lw.Parameters(update_every=10)),
    }


def arguments(description):
    """The options of a script."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="keep runs here, to go on later")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--data", type=Path, help="where the data are")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the data sets")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (prints, keeps nothing)"
    )
    return parser.parse_args()


def run(experiment, candidates, options):
    """What `lossweigh.compare` finds in an experiment, and in how many minutes."""
    start = time.perf_counter()
    comparison = lw.compare(
        experiment.build,
        experiment.data,
        candidates,
        metric=experiment.metric,
        seeds=2 if options.short else SEEDS,
        budget=1 if options.short else experiment.budget,
        learning_rates=[1e-3] if options.short else [1e-3, 3e-3, 1e-2],
        batch_size=experiment.batch_size,
        folder=None if options.folder is None else options.folder / experiment.name,
        n_jobs=options.jobs,
    )
    return comparison, (time.perf_counter() - start) / 60


def main(experiments, options):
    """Compares in each experiment, prints the table, and keeps it in `results/`."""
    for experiment in experiments(options):
        comparison, minutes = run(experiment, candidates(), options)
        print(f"\n{experiment.name} ({minutes:.1f} min)\n\n{comparison}\n", flush=True)
        if not options.short:
            RESULTS.mkdir(exist_ok=True)
            comparison.to_json(RESULTS / f"{experiment.name}.json")
            comparison.to_csv(RESULTS / f"{experiment.name}.csv")
