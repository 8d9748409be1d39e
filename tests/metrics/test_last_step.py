"""LastStep against a loop over sequences."""

import keras
import numpy as np
import pytest
from keras import ops

from lossweigh.metrics import LastStep

B, T, C = 7, 5, 3


def draw(seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random((B, T, C)).astype("float32")
    lengths = np.r_[0, 1, rng.integers(1, T + 1, B - 2)]
    real = np.arange(T) < lengths[:, None]
    return rng, p / p.sum(-1, keepdims=True), real


def at_last(array, real):
    last = [np.flatnonzero(row)[-1] if row.any() else 0 for row in real]
    return array[np.arange(B), last]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["accuracy", "mae", "AUC"])
def test_against_numpy(side, name):
    rng, p, real = draw()
    real = real[:, ::-1].copy() if side == "left" else real
    y = rng.integers(0, C, B)
    target = y if name == "accuracy" else np.eye(C, dtype="float32")[y]
    metric = LastStep(name)
    for weight in (real, real * rng.random((B, 1))):
        metric.reset_state()
        for rows in (slice(0, 4), slice(4, B)):
            metric.update_state(target[rows], p[rows], sample_weight=weight[rows])
        counted = weight.max(axis=1)
        last = at_last(p, real)
        if name == "accuracy":
            each = last.argmax(-1) == y
        elif name == "mae":
            each = np.abs(target - last).mean(-1)
        else:
            inner = keras.metrics.AUC()
            inner.update_state(target, last, sample_weight=counted)
            np.testing.assert_allclose(
                float(metric.result()), float(inner.result()), rtol=1e-6
            )
            continue
        expected = np.sum(each * counted) / np.sum(counted)
        np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)


def test_targets_of_each_step_and_every_kind_of_accuracy():
    rng, p, real = draw(1)
    classes = rng.integers(0, C, (B, T))
    weight = real.astype("float32")
    right = at_last(p, real).argmax(-1) == at_last(classes, real)
    expected = right[real.any(1)].mean()
    one_hot = np.eye(C, dtype="float32")
    for target in (
        classes,
        classes[..., None],
        one_hot[classes],
        at_last(classes, real),
        at_last(classes, real)[:, None],
        one_hot[at_last(classes, real)],
    ):
        got = LastStep("accuracy")(target, p, sample_weight=weight)
        np.testing.assert_allclose(float(got), expected, rtol=1e-6)
    binary = rng.integers(0, 2, B)
    score = p[..., :1] * 1.5
    right = (at_last(score, real)[:, 0] > 0.5) == binary
    for target in (binary, binary[:, None]):
        got = LastStep("accuracy")(target, score, sample_weight=weight)
        np.testing.assert_allclose(float(got), right[real.any(1)].mean(), rtol=1e-6)


def test_without_weights_every_step_is_real():
    rng, p, _ = draw(2)
    y = rng.integers(0, C, B)
    got = LastStep("accuracy")(y, p)
    np.testing.assert_allclose(float(got), (p[:, -1].argmax(-1) == y).mean(), rtol=1e-6)
    weight = rng.random(B).astype("float32")
    got = LastStep("accuracy")(y, p, sample_weight=weight)
    expected = np.average(p[:, -1].argmax(-1) == y, weights=weight)
    np.testing.assert_allclose(float(got), expected, rtol=1e-5)


def test_saved_and_named():
    assert LastStep("accuracy").name == "last_step_accuracy"
    assert LastStep(keras.metrics.AUC(name="auc")).name == "last_step_auc"
    assert LastStep("mae", name="final").name == "final"
    for metric in (LastStep("mae"), LastStep(keras.metrics.AUC(num_thresholds=7))):
        config = keras.saving.serialize_keras_object(metric)
        again = keras.saving.deserialize_keras_object(config)
        assert again.name == metric.name
        if not isinstance(metric.metric, str):
            assert again.inner.num_thresholds == 7


def test_no_time_axis():
    with pytest.raises(ValueError, match="prediction with time steps"):
        LastStep("mae").update_state(ops.ones(3), ops.ones(3))
