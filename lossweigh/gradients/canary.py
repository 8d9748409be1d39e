"""Who has changed a balancer's state: the step that may, or another optimizer?"""

from __future__ import annotations

from typing import Any

from keras import ops

from lossweigh import _backend
from lossweigh.balancing.base import Balancer


def check_canary(balancer: Balancer, canary: Any) -> None:
    """Refuses a state that an optimizer descended on instead of overwriting it.

    Args:
        balancer: For the message.
        canary: The variable that each step of the training model overwrites with 1.
    """
    canary = ops.convert_to_tensor(canary)
    _backend.raise_unless(
        ops.all(ops.equal(canary, 1.0)),
        f"The state of the balancer {type(balancer).__name__} was changed by another "
        "optimizer than Keras's. A training loop of your own takes its steps by "
        "`training.optimizer.apply(gradients, training.trainable_variables)`, which "
        "writes that state as the backward pass gives it. Make a new balancer: this "
        "one's state is lost.",
    )
