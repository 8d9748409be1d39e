"""Every weighter on four multi-target data sets, against equal and tuned fixed weights.

A small network with one linear head a target is trained with each method, from the same
initial parameters and in the same order of the batches. What counts is each target's
mean squared error on held-out rows, at the epoch that validated best, against what
equal weights gave. The table is written as Markdown.

    KERAS_BACKEND=jax python benchmarks/multi_target.py --data FOLDER

The folder, by default `../shared/data/multi_target`, holds enb.arff, jura.arff, wq.arff
and atp1d.arff, from the repository tsoumakas/mulan; their last columns are the targets.
`--results` keeps every run's errors in a file; runs that are in there already aren't
repeated.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import data_files
import keras
import numpy as np

import lossweigh as lw

ROOT = Path(__file__).parent.parent
NUM_TARGETS = {"enb": 2, "jura": 3, "wq": 14, "atp1d": 6}
UNITS, BATCH, EPOCHS, VALIDATE_EVERY = 64, 32, 100, 2
RATE, LOW_RATE = 0.008, 0.002  # learning rates: of the table, of one more column
SEEDS, TRIALS, TRIAL_SEEDS = range(5), 12, (1000, 1001)
EQUAL, TUNED = "equal weights", "tuned fixed weights"
OTHER_RATES = {f"equal weights, learning rate x {f}": f for f in (0.25, 0.5, 2)}
BASELINES = [EQUAL, TUNED, *OTHER_RATES]
METHODS = {
    **dict.fromkeys(BASELINES, lambda: lw.FixedWeights()),
    "LossWeighter(barrier=0)": lambda: lw.LossWeighter(barrier=0),
    "LossWeighter(barrier=0.1)": lambda: lw.LossWeighter(barrier=0.1),
    "LossWeighter(barrier=0.2)": lambda: lw.LossWeighter(barrier=0.2),
    "LossWeighter(barrier=0.5)": lambda: lw.LossWeighter(barrier=0.5),
    "LossWeighter(barrier=1)": lambda: lw.LossWeighter(barrier=1),
    "SumToOne": lambda: lw.SumToOne(),
    "Uncertainty": lambda: lw.Uncertainty(),
    "RevisedUncertainty": lambda: lw.RevisedUncertainty(),
    "SoftOptimalUncertainty": lambda: lw.SoftOptimalUncertainty(),
    "IMTLL": lambda: lw.IMTLL(),
    "DWA": lambda: lw.DWA(),
    "RandomWeights": lambda: lw.RandomWeights(seed=0),
    "GeometricMean": lambda: lw.GeometricMean(),
    "LogSum": lambda: lw.LogSum(),
    "SoftAdapt": lambda: lw.SoftAdapt(),
    "SoftAdapt(variant='normalized')": lambda: lw.SoftAdapt(variant="normalized"),
    "SoftAdapt(variant='original')": lambda: lw.SoftAdapt(variant="original"),
    "ReLoBRaLo": lambda: lw.ReLoBRaLo(seed=0),
    "CoVWeighting": lambda: lw.CoVWeighting(),
    "SmoothTchebycheff": lambda: lw.SmoothTchebycheff(),
    "FAMO": lambda: lw.FAMO(),
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=data_files.MULTI_TARGET, help="with *.arff"
    )
    page = ROOT / "docs" / "methods" / "multi-target-table.md"
    parser.add_argument("--out", type=Path, default=page, help="the Markdown file")
    parser.add_argument("--results", type=Path, help="keep the errors here (JSON)")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (prints, writes no page)"
    )
    return parser.parse_args()


def read_arff(path):
    """The rows of a dense, numeric ARFF file; `nan` for `?`."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    first = [line.lower() for line in lines].index("@data") + 1
    rows = [line for line in lines[first:] if line and not line.startswith("%")]
    values = [row.replace("?", "nan").rstrip(",").split(",") for row in rows]
    return np.array(values, "float64")


def load(folder, name):
    """Parts `train`, `validation`, `test`, each `(x, y)`, standardised."""
    path = data_files.need(folder / f"{name}.arff", data_files.ABOUT_MULTI_TARGET)
    table = read_arff(path)
    order = np.random.default_rng(0).permutation(len(table))
    table = table[order]
    cuts = [round(0.6 * len(table)), round(0.8 * len(table))]
    known = table[: cuts[0]]
    spread = known.std(0)
    table = (table - known.mean(0)) / np.where(spread > 0, spread, 1)
    number = NUM_TARGETS[name]
    return {
        part: (rows[:, :-number].astype("float32"), rows[:, -number:].astype("float32"))
        for part, rows in zip(
            ["train", "validation", "test"], np.split(table, cuts), strict=True
        )
    }


class Best(keras.callbacks.Callback):
    """Keeps the predictor's parameters of the epoch that validated best."""

    def __init__(self):
        super().__init__()
        self.loss, self.parameters = np.inf, None

    def on_epoch_end(self, epoch, logs=None):
        loss = logs.get("val_unweighted_loss", np.inf)
        if loss < self.loss:
            self.loss = loss
            self.parameters = self.model.prediction_model.get_weights()


class Runner:
    """One compiled training model, set back for each run instead of built again."""

    def __init__(self, parts, weighter, epochs, learning_rate):
        self.parts, self.epochs = parts, epochs
        x, y = parts["train"]
        self.names = [f"target_{k:02d}" for k in range(y.shape[1])]
        self.predictor = build_predictor(x.shape[1], self.names)
        self.training = lw.build_training_model(
            self.predictor, dict.fromkeys(self.names, "mse"), weighter
        )
        adam = keras.optimizers.Adam(learning_rate)
        self.training.compile(adam, log=["unweighted_loss"])
        self.training.optimizer.build(self.training.trainable_variables)
        # Random methods aren't set back: their draws go on from seed to seed.
        state = [*self.training.weights, *self.training.optimizer.variables]
        self.start = [(v, keras.ops.convert_to_numpy(v)) for v in state]

    def named(self, part):
        x, y = self.parts[part]
        return x, {name: y[:, k : k + 1] for k, name in enumerate(self.names)}

    def run(self, seed, weights=None):
        """Each target's squared error on the validation and test rows."""
        for variable, value in self.start:
            variable.assign(value)
        keras.utils.set_random_seed(seed)
        fresh = build_predictor(self.parts["train"][0].shape[1], self.names)
        self.predictor.set_weights(fresh.get_weights())
        if weights is not None:
            self.training.weighter.assign(weights)
        best = Best()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of collapse: some methods do
            self.training.fit(
                *self.named("train"),
                batch_size=BATCH,
                epochs=self.epochs,
                validation_data=self.named("validation"),
                validation_batch_size=4096,
                validation_freq=VALIDATE_EVERY,
                callbacks=[best],
                verbose=0,
            )
        if best.parameters is None:
            raise SystemExit("No epoch had a finite validation loss.")
        self.predictor.set_weights(best.parameters)
        return {part: self.errors(part) for part in ("validation", "test")}

    def errors(self, part):
        x, y = self.parts[part]
        said = self.predictor(x)
        columns = [keras.ops.convert_to_numpy(said[name]) for name in self.names]
        return [float(e) for e in np.mean((np.hstack(columns) - y) ** 2, axis=0)]


def build_predictor(num_features, names):
    inputs = keras.Input((num_features,), name="features")
    hidden = keras.layers.Dense(UNITS, activation="relu")(inputs)
    hidden = keras.layers.Dense(UNITS, activation="relu")(hidden)
    # All linear heads as the columns of one layer: the same network, quicker.
    heads = keras.layers.Dense(len(names))(hidden)
    outputs = {name: heads[:, k : k + 1] for k, name in enumerate(names)}
    return keras.Model(inputs, outputs)


def tune(runner, number, trials, seeds):
    """The best of some random weights on the validation rows; the first are equal.

    Best: the least mean over targets and seeds of the error against equal weights'.
    """
    random = np.random.default_rng(0)
    candidates = [np.ones(number)]
    for _ in range(trials - 1):
        weights = np.exp(random.normal(size=number))
        candidates.append(weights * number / weights.sum())
    errors = np.array(
        [
            [runner.run(seed, list(weights))["validation"] for seed in seeds]
            for weights in candidates
        ]
    )
    scores = (errors.mean(1) / errors[0].mean(0)).mean(-1)
    return [round(float(weight), 3) for weight in candidates[scores.argmin()]]


def run_all(options, results):
    """Fills `results`: {rate: {data set: {method: {seed: test errors}}}}.

    The tuned weights are beside the methods, as "weights".
    """
    sets, seeds, epochs = list(NUM_TARGETS), list(SEEDS), EPOCHS
    trials, trial_seeds = TRIALS, TRIAL_SEEDS
    if options.short:
        sets, seeds, epochs = ["enb"], [0, 1], 4
        trials, trial_seeds = 2, [1000]
    for rate, name, method in itertools.product((RATE, LOW_RATE), sets, METHODS):
        some = results.setdefault(str(rate), {}).setdefault(name, {})
        runs = some.setdefault(method, {})
        done = all(str(seed) in runs for seed in seeds)
        if done or (rate != RATE and method in OTHER_RATES):
            continue
        begin = time.perf_counter()
        keras.backend.clear_session()
        own_rate = rate * OTHER_RATES.get(method, 1)
        runner = Runner(load(options.data, name), METHODS[method](), epochs, own_rate)
        weights = None
        if method == TUNED:
            weights = tune(runner, NUM_TARGETS[name], trials, trial_seeds)
            some["weights"] = weights
        for seed in seeds:
            runs[str(seed)] = runner.run(seed, weights)["test"]
        print(
            f"{time.perf_counter() - begin:>6.1f} s  {rate:g} {name:<6}{method:<36}"
            f"{np.mean(list(runs.values())):.4f}",
            flush=True,
        )
        if options.results:
            options.results.write_text(json.dumps(results), encoding="utf-8")
    return sets


def summarise(results, sets):
    """For each method, changes in percent against equal weights.

    Both are trained from the same parameters on the same batches, so what is spread
    over the seeds is the difference of the two. (The worst target of a run is compared
    with the mean of equal weights' runs, to have what chance does in their own row.)
    """
    rows = {}
    for method in METHODS:
        if not all(results[name].get(method) for name in sets):
            continue
        paired, alone = {}, {}
        for name in sets:
            equal = _errors(results, name, EQUAL)  # (seeds, targets)
            errors = _errors(results, name, method)
            paired[name] = 100 * (errors - equal) / equal.mean(0)
            alone[name] = 100 * (errors / equal.mean(0) - 1)
        by_set = {name: change.mean(1) for name, change in paired.items()}
        means = np.mean(list(by_set.values()), axis=0)
        worst = [change.mean(0).max() for change in paired.values()]
        rows[method] = {
            "mean": means.mean(),
            "spread": means.std(ddof=1),
            "worst": np.mean(worst),
            "worst_of_run": np.mean([some.max(1).mean() for some in alone.values()]),
            "sets": {
                name: (some.mean(), some.std(ddof=1), most)
                for (name, some), most in zip(by_set.items(), worst, strict=True)
            },
        }
    return rows


def _errors(results, name, method):
    runs = results[name][method]
    return np.array([runs[seed] for seed in sorted(runs, key=int)])


def page(results, sets):
    """The Markdown page."""
    rows = summarise(results[str(RATE)], sets)
    low = summarise(results[str(LOW_RATE)], sets)
    sizes = ", ".join(f"{name} ({NUM_TARGETS[name]})" for name in sets)
    heads = ["method", "mean", "worst target", "worst target of a run", *sets]
    heads += [f"mean at rate {LOW_RATE:g}", "worst target there"]
    lines = [
        "# Every method on multi-target data",
        "",
        "Written by `benchmarks/multi_target.py`. Change of the targets' mean squared "
        "error on held-out rows, in percent of what equal weights gave; less is "
        f"better. Data sets (targets): {sizes}.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "---:|" * (len(heads) - 1),
    ]
    for method in sorted(rows, key=lambda method: rows[method]["worst"]):
        row, other = rows[method], low.get(method)
        cells = [
            f"**{method}**" if method in BASELINES else f"`{method}`",
            f"{row['mean']:+.1f} ± {row['spread']:.1f}",
            f"{row['worst']:+.1f}",
            f"{row['worst_of_run']:+.1f}",
            *(f"{m:+.1f} ± {s:.1f} ({w:+.1f})" for m, s, w in row["sets"].values()),
            f"{other['mean']:+.1f} ± {other['spread']:.1f}" if other else "",
            f"{other['worst']:+.1f}" if other else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    results = results[str(RATE)]
    errors = {name: _errors(results, name, EQUAL).mean() for name in sets}
    tuned = "; ".join(
        f"{name} {', '.join(f'{w:g}' for w in results[name]['weights'])}"
        for name in sets
    )
    lines += [
        "",
        "**Mean**: over targets, then data sets, ± the standard deviation over the "
        f"{len(SEEDS)} seeds of the difference from equal weights' run of the same "
        "seed. **Worst target**: each target's change is averaged over the seeds, the "
        "largest of a data set is taken, and averaged over the data sets; the rows are "
        "in this order. **Worst target of a run**: the largest of each run, against "
        "the mean of equal weights' runs, averaged over seeds and data sets; chance "
        "alone makes it positive, as the row of equal weights shows. A data set's "
        "column has its mean, ± the same over seeds, and its worst target in brackets.",
        "",
        "## How to read it",
        "",
        reading(rows, low),
        "",
        "## Settings",
        "",
        "- Rows split 60/20/20 into training, validation and test by one fixed "
        "permutation; features and targets standardised by the training rows.",
        f"- Two hidden layers of {UNITS} units with relu, one linear head a target, "
        f"mean squared errors; Adam, learning rate {RATE:g}, batches of "
        f"{BATCH}, {EPOCHS} epochs. Each seed sets the initial parameters and the "
        "order of the batches, the same for all methods.",
        "- The learning rate is the best for equal weights of the four in the table, "
        "by the test rows: if that favours anything, it favours them.",
        f"- Tested are the parameters of the epoch, of every {VALIDATE_EVERY}nd, with "
        "the least `val_unweighted_loss`.",
        "- Each method with its defaults, but where the name says otherwise; nothing "
        "but the fixed weights is tuned.",
        f"- Tuned fixed weights: the best on the validation rows of {TRIALS} trials, "
        "the first with equal weights, the others drawn log-normal and scaled to a "
        f"mean of 1, over {len(TRIAL_SEEDS)} seeds of their own: {len(TRIAL_SEEDS)} x "
        f"{TRIALS} trainings for one. Chosen: {tuned}.",
        "- Equal weights' test error, 1 being about that of the mean: "
        + ", ".join(f"{name} {error:.3f}" for name, error in errors.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def reading(rows, low):
    """One paragraph, from the numbers."""
    methods = [method for method in rows if method not in BASELINES]
    # Student's t for five seeds, 95%, two-sided.
    margin = {m: 2.776 * rows[m]["spread"] / len(SEEDS) ** 0.5 for m in methods}
    by_mean = sorted(methods, key=lambda method: rows[method]["mean"])
    by_worst = sorted(methods, key=lambda method: rows[method]["worst"])
    better = [m for m in by_mean if rows[m]["mean"] < -margin[m]]
    worse = [m for m in by_mean if rows[m]["mean"] > margin[m]]
    lists = [", ".join(f"`{m}`" for m in some) or "none" for some in (better, worse)]
    best, least, last = by_mean[0], by_worst[0], by_worst[-1]
    tuned, literal = rows[TUNED], rows["LossWeighter(barrier=0)"]
    low_best = min(methods, key=lambda method: low[method]["mean"])
    slow = rows[next(m for m, factor in OTHER_RATES.items() if factor == 0.25)]
    return (
        "The targets are standardised, so equal weights are a strong baseline here: no "
        "loss is larger than another by its unit alone. Of the "
        f"{len(methods)} methods and variants beside the baselines, {len(better)} "
        "are better than equal weights in the mean by more than the seeds' noise (95%, "
        f"for each alone): {lists[0]}. Worse by as much: {lists[1]}. "
        "The order of the rest is not to be relied on. "
        f"The best mean is `{best}`'s ({rows[best]['mean']:+.1f}%), the mildest worst "
        f"target `{least}`'s ({rows[least]['worst']:+.1f}%), the hardest `{last}`'s "
        f"({rows[last]['worst']:+.1f}%). Tuning fixed weights gave "
        f"{tuned['mean']:+.1f}% in the mean and {tuned['worst']:+.1f}% for the worst "
        f"target, for {len(TRIAL_SEEDS) * TRIALS} more trainings a data set. The "
        "literal trainable weight, `LossWeighter(barrier=0)`, costs the worst target "
        f"{literal['worst']:+.1f}%, though the best epoch is kept. **The learning rate "
        "matters more than most methods**: at a quarter of it equal weights are "
        f"{slow['mean']:.1f}% worse, and there `{low_best}` seems to gain "
        f"{-low[low_best]['mean']:.1f}% on them (the last columns, each against equal "
        "weights at that rate). Methods that divide by the loss keep the gradient from "
        "shrinking with it, which under Adam acts as a higher rate, so what they gain "
        "at a low one isn't all balance. These are four small data sets, one split "
        "each and one network: they show which methods do harm more surely than which "
        "is best, and where losses differ in unit or kind the order may be another."
    )


def main():
    options = arguments()
    results = {}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text(encoding="utf-8"))
    weighters = {
        name
        for name in lw.__all__
        if isinstance(getattr(lw, name), type)
        and issubclass(getattr(lw, name), lw.Weighter)
        and name != "Weighter"
    }
    covered = {type(make()).__name__ for make in METHODS.values()}
    if weighters != covered:
        raise SystemExit(f"Not in the table: {weighters ^ covered}")
    sets = run_all(options, results)
    text = page(results, sets)
    if options.short:
        print(text)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
