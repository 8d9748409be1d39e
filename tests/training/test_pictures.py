"""What Keras draws and prints of a training model shows the weighting as layers."""

import keras
import numpy as np
import pytest
from nets import LOSSES, arrays, two_heads

import lossweigh as lw


class _Mine(lw.UPGrad):
    """A balancer of a user's, whose name isn't one for a layer of TensorFlow."""


def summary_of(model):
    lines = []
    model.summary(line_length=120, print_fn=lines.append)
    return "\n".join(lines)


def test_summary_and_plot_show_losses_and_weighter():
    training = lw.build_training_model(two_heads(), LOSSES, lw.Uncertainty(name="u"))
    summary = summary_of(training)
    dot = keras.utils.model_to_dot(training).to_string()
    for word in ("zeta_loss", "alpha_loss", "zeta_target", "Uncertainty"):
        assert word in summary
        assert word in dot or word == "Uncertainty"
    assert "BranchLoss" in dot


@pytest.mark.once
@pytest.mark.parametrize("balancer", [lw.UPGrad(), lw.CAGrad(level="parameters")])
def test_summary_and_plot_show_the_balancer(balancer):
    name = type(balancer).__name__
    training = lw.build_training_model(two_heads(), LOSSES, balancer=balancer)
    assert f"{name} (BalancedModel)" in summary_of(training)
    dot = keras.utils.model_to_dot(training, show_layer_names=True).to_string()
    assert f"<b>{name}</b> (BalancedModel)" in dot


def test_a_layer_is_named_after_any_balancer(tmp_path):
    training = lw.build_training_model(two_heads(), LOSSES, balancer=_Mine())
    training.compile("sgd")
    x, y = arrays()
    training.fit(x, y, verbose=0)
    assert "_Mine (BalancedModel)" in summary_of(training)


@pytest.mark.once
def test_a_balancers_name_that_is_taken():
    prediction = two_heads()
    prediction.name = "UPGrad"
    losses = {**LOSSES, "zeta": lw.BranchLoss("mse", name="UPGrad_")}
    weighter = lw.IMTLL(name="UPGrad__")
    training = lw.build_training_model(prediction, losses, weighter, lw.UPGrad())
    names = [layer.name for layer in training.layers]
    assert {"UPGrad_", "UPGrad__", "UPGrad___"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.once
def test_the_balancer_is_looked_up_by_its_name_in_a_loaded_model(tmp_path):
    training = lw.build_training_model(two_heads(), LOSSES, balancer=lw.UPGrad())
    training.compile("adam")
    x, y = arrays()
    training.fit(x, y, verbose=0)
    training.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras")
    for model in (training, loaded):
        assert isinstance(model.get_layer("UPGrad").balancer, lw.UPGrad)
    assert loaded.balance == training.balance
    assert loaded.balance != dict.fromkeys(LOSSES, 1.0)
    losses = [
        model.evaluate(x, y, verbose=0, return_dict=True)
        for model in (training, loaded)
    ]
    np.testing.assert_allclose(
        *[[one[key] for key in sorted(one)] for one in losses], rtol=1e-6
    )
