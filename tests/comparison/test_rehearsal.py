"""Data that can't be measured are refused before anything is trained."""

import keras
import numpy as np
import pytest
from problems import QUICK, data, shared

import lossweigh as lw

pytestmark = pytest.mark.once


def error(y_true, y_pred):
    return float(np.abs(y_true - y_pred).mean())


class Refuses(keras.metrics.MeanAbsoluteError):
    def update_state(self, *args, **kwargs):
        raise ValueError("not the output")


def compared(parts, build=shared, **given):
    calls = []

    def counted():
        calls.append(1)
        return build()

    candidates = {"fixed": [{"a": 1.0, "b": 3.0}]}
    given = {**QUICK, "budget": 1, "seeds": 1, **given}
    try:
        return lw.compare(counted, parts, candidates, **given)
    except ValueError:
        assert len(calls) == 2  # to see that it is a new model, and no run
        raise


def with_targets(name, change):
    """The data with the targets of a part changed."""
    parts = data()
    x, y = parts[name]
    parts[name] = x, change(y)
    return parts


def with_nan(y):
    b = y["b"].copy()
    b[1::2] = np.nan
    return {**y, "b": b}


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_target_that_is_missing(name):
    parts = with_targets(name, lambda y: {"a": y["a"]})
    with pytest.raises(ValueError, match=rf"`data\['{name}'\]` can't .*'b'"):
        compared(parts)


def test_the_target_of_a_function_that_is_missing():
    parts = with_targets("test", lambda y: {"a": y["a"]})
    given = {"metric": {"a": "mae", "b": (error, "min")}}
    with pytest.raises(ValueError, match=r"`data\['test'\]` can't be measured by"):
        compared(parts, **given)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_metric_that_cannot_take_the_output(name):
    def strict(y_true, y_pred):
        assert y_pred.shape == (20, 1), "not the output"
        return 0.0

    parts = {**data(), name: tuple(data(number=21)[name])}
    other = "test" if name == "validation" else "validation"
    parts[other] = data(number=20)[other]
    words = rf"`data\['{name}'\]` can't .*strict of the output 'b'.*not the output"
    with pytest.raises(ValueError, match=words):
        compared(parts, metric={"a": "mae", "b": (strict, "min")})


def test_a_metric_of_keras_that_cannot_take_the_output():
    given = {"metric": {"a": "mae", "b": Refuses()}}
    with pytest.raises(ValueError, match=r"`data\['train'\]` can't .* output 'b'"):
        compared(data(), **given)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_nan_in_labels_is_told_from_nan_of_the_model(name):
    parts = with_targets(name, with_nan)
    words = rf"'b', .*error, is nan on `data\['{name}'\]` .* 24 of 48 rows"
    with pytest.raises(ValueError, match=words):
        compared(parts, metric={"b": (error, "min")})


def test_nan_that_a_function_or_keras_leaves_out_is_no_error():
    def of_labelled(y_true, y_pred):
        return float(np.nanmean(np.abs(y_true - y_pred)))

    parts = with_targets("test", with_nan)
    metric = {"a": (of_labelled, "min"), "b": (of_labelled, "min")}
    assert compared(parts, metric=metric).rows[1].is_finished


def test_nan_of_an_untrained_model_is_no_error():
    """The predictions of `shared` are all 0 before it is trained."""

    def correlation(y_true, y_pred):
        with np.errstate(invalid="ignore"):
            return float(np.corrcoef(y_true[::2, 0], y_pred[::2, 0])[0, 1])

    parts = {**data(), "test": with_targets("test", with_nan)["test"]}
    comparison = compared(parts, metric={"b": (correlation, "max")})
    assert comparison.rows[1].is_finished


def test_a_function_gets_a_target_of_another_name():
    def renamed():
        losses = {"a": lw.BranchLoss("mse", target="c"), "b": "mse"}
        return shared()[0], losses

    parts = {name: (x, {"c": y["a"], "b": y["b"]}) for name, (x, y) in data().items()}
    comparison = compared(parts, renamed, metric={"a": (error, "min")})
    assert comparison.rows[1].is_finished
