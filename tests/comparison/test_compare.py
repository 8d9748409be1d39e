"""Whole comparisons: what is said, chosen, measured and survived."""

import json

import keras
import numpy as np
import pytest
from problems import METRIC, QUICK, apart, data, shared, unequal

import lossweigh as lw
from lossweigh.comparison.metrics import Metric

FIXED = [{"a": 1.0, "b": 3.0}]


class Breaks(lw.Weighter):
    """A weighter that can't be built."""

    @property
    def loss_weights(self):
        return keras.ops.ones(2)

    def combine(self, losses, labelled, training):
        raise ValueError("This weighter\nis broken.")


class Explodes(lw.FixedWeights):
    """A weighter whose loss isn't a number."""

    def combine(self, losses, labelled, training):
        return super().combine(losses, labelled, training) * float("nan")


@pytest.fixture(scope="module")
def nothing_can():
    """Branches that share nothing: Adam's steps don't see the scale of a loss."""
    candidates = {"4 : 1": lw.FixedWeights([4.0, 1.0])}
    return lw.compare(apart, data(), candidates, budget=2, **QUICK)


@pytest.fixture(scope="module")
def something_does():
    """A loss of a thousandth of the other's scale needs a thousand times the weight."""
    weights = [{"a": 1.0, "b": 1.0}, {"a": 1000.0, "b": 1.0}]
    given = {**QUICK, "learning_rates": [0.1], "optimizer": "sgd", "seeds": 3}
    return lw.compare(unequal, data(), {"fixed": weights}, budget=4, **given)


@pytest.mark.once
def test_nothing_beats_equal_weights_where_nothing_can(nothing_can):
    assert nothing_can.verdict.startswith(
        "Nothing beats equal weights by more than the noise of 2 seeds."
    )
    assert "Keep equal weights." in nothing_can.verdict
    for row in nothing_can.rows[1:]:
        assert abs(row.change.mean) < 0.01


@pytest.mark.once
def test_what_beats_equal_weights_is_named(something_does):
    assert something_does.verdict.startswith("`fixed` (+")
    assert "beats equal weights" in something_does.verdict
    _, row = something_does.rows
    assert row.change.low > 0
    assert row.change.p_value < 0.05
    assert row.weights == {"a": 1000.0, "b": 1.0}
    assert row.branches["a"].change.mean > 0.3


def test_the_table_is_what_training_by_hand_gives():
    """Seeds, order, budget, learning rate and metric: a run repeated without `compare`.

    A weighter that draws random numbers doesn't change the order. Changes are worked
    out from the two tables of values.
    """
    parts = data()
    candidates = {"random": lw.RandomWeights()}
    comparison = lw.compare(shared, parts, candidates, budget=2, **QUICK)
    values = {}
    for name, kind in (("equal", lw.FixedWeights), ("random", lw.RandomWeights)):
        for seed in (0, 1):
            keras.utils.set_random_seed(seed)
            model, losses = shared()
            training = lw.build_training_model(model, losses, kind())
            training.compile(keras.optimizers.Adam(0.01))
            for epoch in range(2):
                order = np.random.default_rng([seed, epoch]).permutation(48)
                x, y = parts["train"]
                training.fit(
                    x[order],
                    {name: target[order] for name, target in y.items()},
                    shuffle=False,
                    verbose=0,
                )
            x, y = parts["test"]
            predicted = model.predict(x, verbose=0)
            for branch in ("a", "b"):
                error = np.abs(predicted[branch] - y[branch]).mean()
                values.setdefault((name, branch), []).append(error)
    gains = []
    for row in comparison.rows:
        for branch, result in row.branches.items():
            by_hand = np.array(values[row.name, branch])
            assert result.values == pytest.approx(by_hand, rel=1e-4)
            assert result.mean == pytest.approx(by_hand.mean(), rel=1e-4)
            assert result.spread == pytest.approx(by_hand.std(ddof=1), rel=1e-2)
            if row.name == "random":
                equal = np.array(values["equal", branch])
                gains.append((equal - by_hand) / equal.mean())
                expected = gains[-1].mean()
                assert result.change.mean == pytest.approx(expected, abs=1e-4)
    assert row.change.mean == pytest.approx(np.mean(gains), abs=1e-4)
    worst = min(row.branches, key=lambda name: row.branches[name].change.mean)
    assert row.worst_branch == worst
    assert row.step_cost > 0
    assert comparison.rows[0].step_cost == 1.0


def test_what_fails_or_diverges_is_a_row_with_its_reason():
    candidates = {"breaks": Breaks(), "explodes": Explodes(), "fixed": FIXED}
    given = {**QUICK, "seeds": 1}
    comparison = lw.compare(shared, data(), candidates, budget=1, **given)
    rows = {row.name: row for row in comparison.rows}
    assert list(rows) == ["equal", "breaks", "explodes", "fixed"]
    assert rows["breaks"].status == "failed"
    assert rows["breaks"].reason.startswith("ValueError: This weighter is broken (")
    assert "in 1 of 1 runs" in rows["breaks"].reason
    assert rows["explodes"].status == "diverged"
    assert "the loss was nan in epoch 1" in rows["explodes"].reason
    assert rows["fixed"].status == "finished"
    assert rows["fixed"].step_cost is None  # one epoch, which warms up
    assert rows["fixed"].change is not None
    assert "`explodes` diverged: the loss was nan" in comparison.verdict
    assert "This weighter is broken" in str(comparison)


@pytest.mark.once
def test_the_rate_is_chosen_on_validation_data_and_tested_alone(tmp_path):
    """Test targets that are turned round would choose another learning rate."""
    parts = data()
    x, y = parts["test"]
    parts["test"] = x, {name: -5.0 * target for name, target in y.items()}
    given = {**QUICK, "learning_rates": [1e-6, 0.03], "folder": tmp_path, "seeds": 1}
    comparison = lw.compare(shared, parts, {"fixed": FIXED}, budget=4, **given)
    for row in comparison.rows:
        assert row.learning_rate == 0.03
        slow, quick = (trial.validation for trial in row.trials)
        assert quick["a"] + quick["b"] < slow["a"] + slow["b"]
    kept = [json.loads(path.read_text()) for path in (tmp_path / "tests").iterdir()]
    settings = {(one["candidate"], one["learning_rate"]) for one in kept}
    assert settings == {("equal", 0.03), ("fixed", 0.03)}
    assert len(list((tmp_path / "runs").iterdir())) == 4  # weights are gone
    for path in (tmp_path / "runs").iterdir():
        assert "test" not in json.loads(path.read_text())
    assert "One seed tells nothing about noise." in comparison.verdict


@pytest.mark.once
def test_a_setting_that_diverges_is_not_chosen():
    given = {**QUICK, "learning_rates": [0.01, 1e30], "seeds": 1}
    comparison = lw.compare(shared, data(), {"fixed": FIXED}, budget=2, **given)
    for row in comparison.rows:
        assert row.learning_rate == 0.01
        assert row.trials[1].validation is None
        assert row.trials[1].reason


@pytest.mark.once
def test_metrics_of_all_kinds_and_weights_of_samples():
    """Keras's with weights, a function of all rows; some outputs have none."""

    def largest_error(y_true, y_pred):
        assert y_true.shape == y_pred.shape == (48, 1)
        return np.abs(y_true - y_pred).max()

    parts = data()
    x, y = parts["test"]
    weight = {"a": (np.arange(48) < 5).astype("float32")}
    weighted = {**parts, "test": (x, y, weight)}
    first = {"test": (x[:5], {name: target[:5] for name, target in y.items()})}
    given = {**QUICK, "seeds": 1, "budget": 1}
    mae = {"metric": {"a": keras.metrics.MeanAbsoluteError(name="error")}}
    few = lw.compare(shared, {**parts, **first}, {"x": FIXED}, **{**given, **mae})
    some = lw.compare(shared, weighted, {"x": FIXED}, **{**given, **mae})
    assert few.metrics == {"a": {"metric": "error", "direction": "min"}}
    for one, other in zip(few.rows, some.rows, strict=True):
        assert one.branches["a"].mean == pytest.approx(other.branches["a"].mean)
    function = {"metric": {"b": (largest_error, "min")}}
    comparison = lw.compare(shared, parts, {"x": FIXED}, **{**given, **function})
    assert comparison.rows[1].is_finished
    assert comparison.metrics["b"]["direction"] == "min"


@pytest.mark.once
def test_a_pair_and_an_optimizer_that_a_function_makes():
    def optimizer(rate):
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(rate, 8))

    pair = (lw.IMTLL(), lw.IMTLG())
    given = {**QUICK, "seeds": 1, "budget": 1, "optimizer": optimizer}
    comparison = lw.compare(shared, data, {"IMTL": pair}, **given)
    assert comparison.rows[1].is_finished
    assert "optimizer" in comparison.how["optimizer"]


@pytest.mark.once
def test_better_means_better():
    less, more = Metric("a", "mae", "min"), Metric("a", "accuracy", "max")
    assert less.better(0.8, than=1.0) == pytest.approx(0.2)
    assert more.better(0.8, than=1.0) == pytest.approx(-0.2)
    assert more.better(-1.0, than=-2.0) == pytest.approx(0.5)
    assert more.better(0.3, than=0.0) == pytest.approx(0.3)


@pytest.mark.once
def test_equal_weights_that_fail_leave_nothing_to_compare():
    """The others are there all the same."""

    def error(y_true, y_pred):
        """Two calls try it; then the first run is that of equal weights."""
        calls.append(1)
        return float("nan") if len(calls) == 3 else float(np.abs(y_pred).mean())

    calls = []
    given = {**QUICK, "metric": {"a": (error, "min")}, "budget": 1, "seeds": 1}
    comparison = lw.compare(shared, data(), {"fixed": FIXED}, **given)
    assert comparison.verdict.startswith("Nothing can be compared: equal weights div")
    equal, fixed = comparison.rows
    assert equal.status == "diverged"
    assert "metric of 'a' is nan" in equal.reason
    assert fixed.is_finished
    assert fixed.change is None
    assert set(METRIC) > set(fixed.branches)
    assert "fixed" in str(comparison)
