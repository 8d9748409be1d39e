"""The dummy loss: the model's output already is the loss."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="lossweigh")
def ignoreLoss(y_true: Any, y_pred: Any) -> Any:
    """Returns the prediction: the model's output is the loss to minimise.

    A loss that isn't a function of one output and one target is computed by a
    layer and becomes the output of a training model. This function passes it
    on to the optimizer. `build_training_model` sets it by itself; compile a training
    model that you wire by hand with it.

    Args:
        y_true: Ignored; whatever dummy target `fit` was given.
        y_pred: The loss, of shape `(batch,)` or `(batch, 1)`. Not a scalar:
            Keras divides a loss by the number of replicas under
            `tf.distribute` unless it is one.

    Returns:
        `y_pred`.

    Examples:
        >>> from keras import ops
        >>> loss = ignoreLoss(None, ops.convert_to_tensor([1.0, 2.0]))
        >>> print(ops.convert_to_numpy(loss))
        [1. 2.]
    """
    return y_pred


ignore_loss = ignoreLoss


def check_no_loss(loss: Any, loss_weights: Any) -> None:
    """Refuses losses and loss weights in `compile`: the model has its own already.

    Raises:
        ValueError: If there is a loss other than `ignoreLoss`, or loss weights.
    """
    if loss is not None and loss is not ignoreLoss:
        raise ValueError(
            "`loss` must be left out: this model's losses were given to "
            "`build_training_model` and its output is the loss. "
            f"Received: loss={loss!r}."
        )
    if loss_weights is not None:
        raise ValueError(
            "`loss_weights` must be left out: the weights are the weighter's. Give "
            "`build_training_model(..., weighter=FixedWeights([...]))`. "
            f"Received: loss_weights={loss_weights!r}."
        )
