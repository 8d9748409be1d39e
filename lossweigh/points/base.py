"""The base of weights for single points: a branch's losses in, weighted ones out."""

from __future__ import annotations

import abc
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _check, _state
from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.points._point_losses import PointLosses, point_losses


class PointWeights(keras.layers.Layer, abc.ABC):
    """A weight for each point of a training set, which the method finds.

    Abstract: a method is a subclass with `weigh` and `loss_weights`. Hand one to a
    branch, `BranchLoss("mse", point_weights=ResidualAttention(10_000))`. The training
    model then multiplies the branch's loss of each row by the weight of the row's
    point, in training only. The weighter and the balancer see the weighted loss. The
    log `<branch>_loss`, evaluation, `inspect` and `suggest` have the loss without
    these weights.

    Which point a row is says the input `<branch>_index` of the training model, whole
    numbers from 0 to `num_points - 1`. `fit` fills in 0, 1, 2, ... for arrays with
    `num_points` rows. A data set yields the index beside the inputs, as in
    `({"x": x, "<branch>_index": index}, y)`.

    A row without a label, with the weight 0 or with a loss that isn't finite doesn't
    move its point's state. Where a point has several rows in a batch, its loss is their
    mean. State is kept in Keras variables, so that it is saved, resumed and jitted by
    Keras. `layer.trainable = False`, before `compile`, stops the weights. They are
    applied as they are.

    Args:
        num_points: How many points there are.
        branch: The name of the branch, set by `build_training_model`.
        **kwargs: Passed to `keras.layers.Layer`. The layer computes in float32.

    Call arguments:
        inputs: `[loss, index]`: the branch's loss `(batch,)`, and each row's point
            `(batch,)`, int. The index may be `None` outside of training.
        valid: 1 where an element of the prediction counts, 0 elsewhere, `(batch, ...)`;
            `None` if each does.
        sample_weight: The branch's sample weights, `(batch, ...)`, or `None`.
        training: Bool. Outside of training the loss is returned as it is.

    Returns:
        `(batch,)` float32.

    Raises:
        ValueError: If an argument is out of range, a shape isn't the above, there is no
            index in training, or a file has weights for another number of points.

    Attributes:
        bypassed: Whether a call in training returns the loss as it is too.
    """

    bypassed = False
    _shapes_in_file = "none"

    def __init__(
        self, num_points: int, *, branch: BranchName | None = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_points = _check.whole("num_points", num_points, at_least=1)
        self.branch = branch

    @property
    @abc.abstractmethod
    def loss_weights(self) -> Tensor:
        """`(num_points,)` float32: what each point's loss is multiplied by."""

    @abc.abstractmethod
    def weigh(self, batch: PointLosses) -> Tensor:
        """The weights `(batch,)` of a batch's rows. It moves state with `move`.

        Args:
            batch: What the batch tells of its points.
        """

    def fresh(self) -> PointWeights:
        """One of the same class and arguments, for another training model."""
        return self.from_config({**self.get_config(), "branch": None})

    def has_learned(self) -> bool:
        """Whether a weight has moved since the layer was built."""
        if not self.built:
            return False
        unmoved = self.fresh()
        unmoved.build([(None,), (None,)])
        return _state.differs(self, unmoved)

    def build(self, input_shape: Any) -> None:
        shapes = [None if shape is None else tuple(shape) for shape in input_shape]
        if len(shapes) != 2 or any(s is not None and len(s) != 1 for s in shapes):
            raise ValueError(
                f"{type(self).__name__} must be called on [loss, index], both of shape "
                f"(batch,). Received the shapes {shapes}."
            )
        self.add_states()
        self.built = True

    @abc.abstractmethod
    def add_states(self) -> None:
        """Creates the state, by `add_state`."""

    def add_state(self, name: str, shape: Shape, initial: float = 0.0) -> Any:
        """A variable that the optimizer doesn't train.

        Args:
            name: Name of the variable.
            shape: Shape of the variable.
            initial: The number that it is filled with.
        """
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.Constant(initial),
            trainable=False,
            aggregation="mean",
        )

    def move(self, state: Any, old: Tensor, new: Tensor, batch: PointLosses) -> Tensor:
        """Writes the points of a batch into a state; returns what its rows now have.

        Args:
            state: A variable `(num_points,)` from `add_state`.
            old: The value that this step read. Reading it once orders the read before
                the assignment in a TensorFlow graph.
            new: `(batch,)`, the next values of the rows' points; a point with no row
                that counts keeps its old one.
            batch: What the batch tells of its points.
        """
        # The rows of a point bring the same number: the order of writing is no matter.
        rows = ops.where(batch.rows > 0, new, ops.take(old, batch.index))
        state.assign(ops.scatter_update(old, ops.expand_dims(batch.index, -1), rows))
        return rows

    @_backend.not_compiled  # as `AdaptiveWeighter.combine`: a step moves what it reads
    def call(
        self,
        inputs: Any,
        valid: Mask = None,
        sample_weight: Tensor = None,
        training: bool = False,
    ) -> Tensor:
        loss, index = inputs
        if not training or self.bypassed:
            return loss
        if index is None:
            raise ValueError(
                f"{type(self).__name__}{self._of_branch()} must be called on [loss, "
                "index] in training: which of the "
                f"{self.num_points} points each row is. Received: index=None."
            )
        index = ops.cast(index, "int32")
        in_range = ops.logical_and(index >= 0, index < self.num_points)
        index = ops.where(in_range, index, 0)
        if self.trainable:
            batch, positions = point_losses(loss, index, in_range, valid, sample_weight)
            weights = self.weigh(batch)
            if positions is not None:
                weights = ops.take(weights, positions)
        else:
            weights = ops.take(self.loss_weights, index)
        return loss * ops.stop_gradient(ops.where(in_range, weights, 0.0))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def load_own_variables(self, store: Any) -> None:
        shapes = [tuple(variable.shape) for variable in self.variables]
        saved = [tuple(store[key].shape) for key in sorted(store.keys(), key=int)]
        if saved != shapes:
            # Keras then looks for the layer in other parts of the file, and raises
            # the last error.
            self._shapes_in_file = str(saved) if saved else self._shapes_in_file
            raise ValueError(
                f"The file must have the state of {type(self).__name__}"
                f"{self._of_branch()} for {self.num_points} points, arrays of the "
                f"shapes {shapes}. It has {self._shapes_in_file}. Weights of points "
                "belong to one set of points: build the model with the `num_points` "
                "that it was trained with, or go on from a file of the prediction "
                "model."
            )
        super().load_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_points": self.num_points,
            "branch": self.branch,
        }

    def _of_branch(self) -> str:
        return "" if self.branch is None else f" of the branch {self.branch!r}"
