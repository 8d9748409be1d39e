"""Weightings on four multi-target regressions, by `lossweigh.compare`.

    KERAS_BACKEND=torch python benchmarks/compare_multi_target.py --jobs 2

The folder `--data`, by default `../shared/data/multi_target`, holds the files that
`multi_target.py` needs. Targets are standardised. The metric is
each target's root mean squared error.
"""

import functools

import comparing
import data_files
import multi_target

EPOCHS = {"enb": 40, "jura": 40, "wq": 20, "atp1d": 40}


def build(num_features, names):
    model = multi_target.build_predictor(num_features, names)
    return model, dict.fromkeys(names, "mse")


def experiments(options):
    folder = options.data or data_files.MULTI_TARGET
    for name in EPOCHS:
        if options.only and name not in options.only:
            continue
        parts = multi_target.load(folder, name)
        x, y = parts["train"]
        names = [f"target_{k:02d}" for k in range(y.shape[1])]
        data = {
            part: (x, {n: y[:, k : k + 1] for k, n in enumerate(names)})
            for part, (x, y) in parts.items()
        }
        yield comparing.Experiment(
            name,
            functools.partial(build, x.shape[1], names),
            data,
            dict.fromkeys(names, "root_mean_squared_error"),
            EPOCHS[name],
        )


if __name__ == "__main__":
    comparing.main(experiments, comparing.arguments(__doc__))
