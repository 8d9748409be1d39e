"""What the `compare_*.py` scripts share: the candidates, the options, where results go.

The rule by which these results decide the default weighter is in `default_rule.md`,
which was written before they were run.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import lossweigh as lw

RESULTS = Path(__file__).parent / "results"
SEEDS = 5


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


def run(name, options, build, data, metric, *, budget, batch_size=32):
    """Compares on one data set, prints the table, and keeps it in `results/`.

    Args:
        name: Of the data set.
        options: Those of `arguments`.
        build: As for `lossweigh.compare`.
        data: As for `lossweigh.compare`.
        metric: As for `lossweigh.compare`.
        budget: The epochs of a run.
        batch_size: As for `lossweigh.compare`.
    """
    start = time.perf_counter()
    comparison = lw.compare(
        build,
        data,
        candidates(),
        metric=metric,
        seeds=2 if options.short else SEEDS,
        budget=1 if options.short else budget,
        learning_rates=[1e-3] if options.short else [1e-3, 3e-3, 1e-2],
        batch_size=batch_size,
        folder=None if options.folder is None else options.folder / name,
        n_jobs=options.jobs,
    )
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{name} ({minutes:.1f} min)\n\n{comparison}\n", flush=True)
    if not options.short:
        RESULTS.mkdir(exist_ok=True)
        comparison.to_json(RESULTS / f"{name}.json")
        comparison.to_csv(RESULTS / f"{name}.csv")
    return comparison


def kept():
    """The results that are kept, as dicts by data set."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }
