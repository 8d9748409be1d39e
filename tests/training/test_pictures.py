"""What Keras draws and prints of a training model shows the weighting as layers."""

import keras
from nets import LOSSES, two_heads

import lossweigh as lw


def test_summary_and_plot_show_losses_and_weighter():
    training = lw.build_training_model(two_heads(), LOSSES, lw.Uncertainty(name="u"))
    lines = []
    training.summary(print_fn=lines.append)
    summary = "\n".join(lines)
    dot = keras.utils.model_to_dot(training).to_string()
    for word in ("zeta_loss", "alpha_loss", "zeta_target", "Uncertainty"):
        assert word in summary
        assert word in dot or word == "Uncertainty"
    assert "BranchLoss" in dot
