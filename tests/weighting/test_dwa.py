import keras
import numpy as np
import pytest
from methods import array, rows, step, weights

import lossweigh as lw

EPOCHS = [(1.0, 3.0, 2.5), (0.9, 1.8, 2.0)]


@pytest.mark.smoke
def test_numbers():
    """Ones for two epochs; then the ratio of their means."""
    weighter = lw.DWA()
    for epoch in EPOCHS:
        assert step(weighter, *epoch) == pytest.approx(sum(epoch), abs=1e-5)
        np.testing.assert_array_equal(weights(weighter), 1)
        weighter.end_epoch()
    expected = (1.066880, 0.918272, 1.014848)
    total = step(weighter, 1, 2, 4)
    np.testing.assert_allclose(weights(weighter), expected, atol=1e-5)
    assert total == pytest.approx(np.dot(expected, (1, 2, 4)), abs=1e-4)


def test_an_epoch_is_the_mean_of_its_batches():
    weighter = lw.DWA()
    for epoch in EPOCHS:
        for factor in (0.5, 1.5, 0.8, 1.2):
            step(weighter, *np.multiply(epoch, factor))
        weighter.end_epoch()
    np.testing.assert_allclose(array(weighter.last), EPOCHS[1], rtol=1e-6)
    np.testing.assert_allclose(array(weighter.before_last), EPOCHS[0], rtol=1e-6)


def test_evaluation_does_not_count():
    weighter = lw.DWA()
    step(weighter, 1, 2, 4)
    step(weighter, 100, 100, 100, training=False)
    weighter.end_epoch()
    np.testing.assert_array_equal(array(weighter.last), [1, 2, 4])


def test_an_epoch_without_a_branch_leaves_its_means():
    weighter = lw.DWA()
    for epoch in EPOCHS:
        step(weighter, *epoch)
        weighter.end_epoch()
    step(weighter, 0.5, 1, 0)
    weighter.end_epoch()
    np.testing.assert_allclose(array(weighter.last), [0.5, 1, 2])
    np.testing.assert_allclose(array(weighter.before_last), [0.9, 1.8, 2.5])


def test_an_epoch_that_was_frozen_does_not_count():
    weighter = lw.DWA()
    step(weighter, 1, 2, 4)
    weighter.freeze()
    step(weighter, 9, 9, 9)
    weighter.end_epoch()
    weighter.unfreeze()
    weighter.end_epoch()
    np.testing.assert_array_equal(array(weighter.last), [1, 2, 4])


@pytest.mark.compiled
def test_it_advances_by_itself():
    """Over real epochs, against the logged losses, with several steps at once."""
    x = keras.Input((2,), name="x")
    heads = {name: keras.layers.Dense(1, name=name)(x) for name in ("b", "a")}
    model = lw.build_training_model(
        keras.Model(x, heads), dict.fromkeys(heads, "mse"), lw.DWA()
    )
    several = 1 if keras.backend.backend() == "torch" else 2
    model.compile(keras.optimizers.SGD(0.05), steps_per_execution=several)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 2)).astype("float32")
    targets = {name: rng.normal(size=(8, 1)).astype("float32") for name in heads}
    logs = model.fit(
        data,
        targets,
        batch_size=2,
        epochs=4,
        verbose=0,
        validation_data=(data, targets),
        callbacks=[
            lw.callbacks.AdvanceWeighters()
        ],  # told twice: the second is no epoch
    ).history
    losses = np.array([logs["b_loss"], logs["a_loss"]])
    got = np.array([logs["b_weight"], logs["a_weight"]])
    np.testing.assert_array_equal(got[:, :2], 1)
    for epoch in (2, 3):
        rates = losses[:, epoch - 1] / losses[:, epoch - 2]
        expected = 2 * np.exp(rates / 2) / np.exp(rates / 2).sum()
        np.testing.assert_allclose(got[:, epoch], expected, rtol=1e-4)
    np.testing.assert_allclose(array(model.weighter.last), losses[:, -1], rtol=1e-4)


def test_a_ratio_is_bounded():
    weighter = lw.DWA()
    for epoch in [(1e-30, 1.0), (1e10, 1.0), (1.0, 1.0)]:
        weighter(rows(*epoch), training=True)
        weighter.end_epoch()
    np.testing.assert_allclose(weights(weighter), [2, 0])
