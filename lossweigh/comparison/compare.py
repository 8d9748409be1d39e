"""`compare`: which weighting, and does it help, on one's own model and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from lossweigh import _backend
from lossweigh._version import __version__
from lossweigh.comparison.arguments import (
    as_learning_rates,
    as_n_jobs,
    as_optimizer,
    as_seeds,
    described_optimizer,
    optimizer_name,
    whole,
)
from lossweigh.comparison.candidates import candidates_by_name
from lossweigh.comparison.comparison import Comparison
from lossweigh.comparison.extras import need
from lossweigh.comparison.metrics import metrics_by_output, output_names
from lossweigh.comparison.parts import digest, parts_of
from lossweigh.comparison.progress import Progress
from lossweigh.comparison.rehearsal import rehearse
from lossweigh.comparison.results import opened
from lossweigh.comparison.rows import rows_of
from lossweigh.comparison.runs import Protocol
from lossweigh.comparison.schedule import Schedule
from lossweigh.comparison.twice import build_twice, outline


def compare(
    build: Callable[[], tuple[keras.Model, Any]],
    data: Any,
    candidates: Mapping[str, Any] | None = None,
    *,
    metric: Mapping[str, Any],
    seeds: int | Sequence[int] = 5,
    budget: int = 20,
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3),
    optimizer: Any = "adam",
    batch_size: int = 32,
    folder: Any = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Compares weightings on your model and data with equal weights.

    Each candidate is trained from the same initial weights, on batches in the same
    order, for the same number of epochs. The model after the last epoch counts. For
    each candidate one *setting*, a learning rate and, in a search over fixed weights,
    one set of these, is chosen on validation data: the one with the highest

        score = 1/K sum_k s_k (M_k - R_k) / |R_k|

    where `M_k` is the k-th of the K metrics on validation data, its mean over the
    seeds; `s_k` is 1 where more of it is better and -1 where less is; and `R_k` is the
    same metric of equal weights (at their chosen learning rate; where theirs is to be
    chosen, at the first with which all runs finished). It is the measure of Maninis
    2019 with equal weights as the reference in place of models for one task each. A
    setting of which a run fails or diverges isn't chosen.

    Then the chosen models, and only these, are measured on test data. A *change* of a
    candidate is how much better than equal weights it is: in each seed
    `s_k (T_k - E_k) / |E|`, with the test metrics `T_k` of the candidate and `E_k` of
    equal weights, and `E` the mean of `E_k` over the seeds; also the mean over the
    metrics. Its interval is a paired t interval over the seeds, corrected after Holm
    for the number of candidates. The interval tells of the noise of initial weights and
    of the order of batches, not of the choice of the test samples.

    A candidate beats equal weights if its mean change is at least 0.1% and its interval
    leaves out 0. `print(comparison)` says so, or says that none does.

    Runs go through `joblib`: with `n_jobs=4` four processes of this machine, and within
    `joblib.parallel_config(backend="dask")` a cluster. A process of its own needs
    functions that can be pickled, and sees `KERAS_BACKEND` of the environment. The
    random seeds of this process are changed. Dropout draws from the seed too, but not
    always the same numbers in a process with other threads, as Dask's are.

    Args:
        build: Returns a new prediction model and its losses, as
            `build_training_model` takes them. Each call makes new layers. It is called
            twice before the first run, once for each seed, whose runs all start from
            the weights that it made, and once in each run.
        data: A dict `{"train": (x, y), "validation": (x, y), "test": (x, y)}`, or a
            function that returns one. Each is what `fit` takes, arrays or dicts or
            lists of arrays, with one row a sample; a third element is `sample_weight`.
        candidates: A dict by name. Each is a weighter, a balancer, a pair
            (weighter, balancer), or a search over fixed weights: `Grid`,
            `RandomSearch`, or a list of dicts with a weight for each branch. A search
            is one candidate. Equal weights, under the name `"equal"`, are always
            there. Objects are copied for each run. Default: fixed weights,
            `RevisedUncertainty`, `Uncertainty`, a calibrated `CAGrad`, and `UPGrad` at
            the parameters every 10 steps.
        metric: A dict from an output's name to the metric of its predictions: the name
            of a Keras metric, a `keras.metrics.Metric`, or a function
            `(y_true, y_pred) -> float` of all targets and predictions; before the
            first run it is tried with those of an untrained model. A pair with
            `"max"` or `"min"` says whether more is better; a function needs it. Outputs
            that only help others to train are left out. Changes are parts of a
            metric's value, so take one that doesn't come close to 0, such as an error
            or an accuracy.
        seeds: How many seeds, from 0 on, or a list of them. Differences between
            candidates are seen from 5 on; with one there is no interval.
        budget: Int of at least 1: the epochs of each run.
        learning_rates: Those to choose from.
        optimizer: A name, a Keras optimizer, whose learning rate is replaced, or a
            function from a learning rate to a new optimizer.
        batch_size: Int of at least 1.
        folder: Where runs are kept, a file each. A comparison that was interrupted goes
            on from there, and a run that failed is tried again. One with more seeds,
            candidates or learning rates takes over the runs that it has in common. The
            trained weights are kept there too, until the test data have been measured.
            Default: a folder that is removed in the end.
        n_jobs: How many runs at a time, as in joblib. Default: joblib's, which is one,
            in this process.
        progress: Whether to show a progress bar on the standard error stream.

    Returns:
        A `Comparison`, which prints, plots and writes the table.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument can't be used, `build` returns the same model twice,
            `folder` holds something else (nothing in it is changed), joblib or SciPy,
            the extra `compare`, isn't installed, or all runs failed.

    Examples:
        >>> import keras, numpy as np
        >>> def build():
        ...     x = keras.Input((4,))
        ...     shared = keras.layers.Dense(8, activation="relu")(x)
        ...     heads = {n: keras.layers.Dense(1, name=n)(shared) for n in ("a", "b")}
        ...     return keras.Model(x, heads), {"a": "mse", "b": "mse"}
        >>> def rows(seed):
        ...     x = np.random.default_rng(seed).normal(size=(32, 4))
        ...     return x, {"a": x[:, :1], "b": x[:, 1:2]}
        >>> data = {"train": rows(0), "validation": rows(1), "test": rows(2)}
        >>> comparison = compare(
        ...     build, data, {"fixed": [{"a": 1.0, "b": 3.0}]},
        ...     metric={"a": "mae", "b": "mae"}, seeds=2, budget=1,
        ...     learning_rates=[0.01], progress=False,
        ... )
        >>> [(row.name, row.status) for row in comparison.rows]
        [('equal', 'finished'), ('fixed', 'finished')]

    Reference:
        K.-K. Maninis, I. Radosavovic, I. Kokkinos. Attentive single-tasking of multiple
        tasks. CVPR, 2019.
    """
    for module in ("joblib", "scipy.stats"):
        need(module)
    training = build_twice(build)
    model = training.prediction_model
    metrics = tuple(metrics_by_output(metric, output_names(model)))
    by_name = candidates_by_name(candidates, training.branches)
    protocol = Protocol(
        build,
        metrics,
        as_optimizer(optimizer),
        whole("budget", budget),
        whole("batch_size", batch_size),
    )
    rates = as_learning_rates(learning_rates)
    seeds, n_jobs = as_seeds(seeds), as_n_jobs(n_jobs)
    parts = parts_of(data)
    rehearse(training, metrics, parts, protocol.batch_size)
    schedule = Schedule(protocol, parts, by_name, rates, seeds, n_jobs)
    how = {
        "seeds": schedule.seeds,
        "epochs": protocol.budget,
        "batch_size": protocol.batch_size,
        "learning_rates": rates,
        "optimizer": optimizer_name(protocol),
        "samples": {name: part.rows for name, part in parts.items()},
    }
    settings = {
        "epochs": protocol.budget,
        "batch_size": protocol.batch_size,
        "lossweigh": __version__,
        "backend": _backend.NAME,
        "dtype": [keras.config.dtype_policy().name, keras.config.floatx()],
        "optimizer": described_optimizer(protocol),
        "metric": {one.output: one.describe() for one in metrics},
        "samples": how["samples"],
        "model": outline(training),
        "data": {name: digest(tuple(part)) for name, part in parts.items()},
    }
    num_runs = sum(
        len(seeds_of) for one in schedule.runs().values() for seeds_of in one
    )
    with opened(folder, settings) as results:
        chosen = schedule.execute(results, Progress(num_runs, progress))
    return Comparison(rows_of(chosen, metrics), metrics, how)
