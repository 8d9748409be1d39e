"""Weight decay leaves the weighter alone, and the user's exclusions as they are."""

import keras
import numpy as np
import pytest
from keras import ops
from nets import LOSSES, arrays, two_heads

import lossweigh as lw

X, Y = arrays()
OPTIMIZERS = {"AdamW": keras.optimizers.AdamW, "SGD": keras.optimizers.SGD}


def two_steps(optimizer):
    """The training model after two steps, from the same numbers each time."""
    keras.utils.set_random_seed(3)
    training = lw.build_training_model(two_heads(), LOSSES, lw.LossWeighter())
    training.compile(optimizer)
    training.train_on_batch(X, Y)
    training.train_on_batch(X, Y)
    return training


def values(training, layer, index=0):
    return training.prediction_model.get_layer(layer).get_weights()[index]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_weight_does_not_decay(name):
    make = OPTIMIZERS[name]
    plain = two_steps(make(0.01, weight_decay=0.0))
    decayed = two_steps(make(0.01, weight_decay=5.0))
    weights = [
        ops.convert_to_numpy(each.weighter.loss_weight) for each in (plain, decayed)
    ]
    # With decay it would be about 10 % less; the losses themselves differ a little.
    assert weights[1] == pytest.approx(weights[0], abs=5e-3)
    assert abs(values(decayed, "zeta")).sum() < 0.95 * abs(values(plain, "zeta")).sum()


def test_the_users_exclusions_stay():
    keras.utils.set_random_seed(3)
    model = two_heads()
    training = lw.build_training_model(model, LOSSES, lw.LossWeighter())
    optimizer = keras.optimizers.SGD(1e-9, weight_decay=1e8)  # decay is all that shows
    zeta, alpha = (model.get_layer(name) for name in ("zeta", "alpha"))
    optimizer.exclude_from_weight_decay(var_list=[zeta.kernel], var_names=["bias"])
    alpha.bias.assign([1.0] * 4)
    training.compile(optimizer)
    before = [ops.convert_to_numpy(v) for v in (zeta.kernel, alpha.bias, alpha.kernel)]
    training.train_on_batch(X, Y)
    after = [ops.convert_to_numpy(v) for v in (zeta.kernel, alpha.bias, alpha.kernel)]
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)
    np.testing.assert_allclose(after[2], 0.9 * before[2], atol=1e-6)
    assert ops.convert_to_numpy(training.weighter.loss_weight) == pytest.approx(0.5)


def test_a_loaded_model_goes_on_without_decay(tmp_path):
    training = lw.build_training_model(two_heads(), LOSSES, lw.LossWeighter())
    training.compile(keras.optimizers.SGD(1e-9, weight_decay=1e8))
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    before = values(loaded, "zeta")
    loaded.train_on_batch(X, Y)
    np.testing.assert_allclose(values(loaded, "zeta"), 0.9 * before, atol=1e-6)
    assert ops.convert_to_numpy(loaded.weighter.loss_weight) == pytest.approx(0.5)
