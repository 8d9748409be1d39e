"""The base of every loss-level weighting: K branch losses in, one loss out."""

from __future__ import annotations

import abc
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _replicas, _state
from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.weighting._combining import labelled_branches
from lossweigh.weighting._shown import shown


class Weighter(keras.layers.Layer, abc.ABC):
    """Combines K branch losses, each `(batch,)`, into one `(batch,)`.

    Abstract: a method of weighting is a subclass with one method to write,
    `combine`, and with `loss_weights`, the weights now in force. State is kept
    in Keras variables, so it is saved, resumed, jitted and distributed by Keras.
    A weighter computes in float32 whatever the global policy.

    A branch is *absent* from a batch that has no label of it, or in which its loss
    isn't finite. Then it moves no state and adds no regulariser. A loss that isn't
    finite still shows in the total. A model that was wired by hand doesn't know the
    labels: there a branch is absent if its loss is exactly 0 for every sample.

    `freeze()` stops the weights and `unfreeze()` lets them move again. Call them
    between two steps of training; nothing is compiled anew.

    Call arguments:
        losses: List of K tensors `(batch,)` or `(batch, 1)`.
        valid: List with one tensor a branch, 0 where an element has no label or is
            masked, or `None` if each element counts. `None` for the list if that isn't
            known.
        training: Bool. State changes in training only.

    Returns:
        `(batch,)` float32, whose mean is the weighted loss.

    Attributes:
        branches: The names of the branches in the order of the losses, or
            `None` in a model that was wired by hand.
        inferred_task_types: For each branch `"regression"` or `"classification"`, from
            its loss, or `None` in a model that was wired by hand.
        num_branches: K, known once the layer is built.
        learns: Whether the method computes the weights, rather than the user. If such
            a weight vanishes, the training model warns.
        per_branch: Names of the attributes that hold an argument with one entry a
            branch.
        min_weight: The lower bound of a weight.
        needs_positive_losses: Whether the method takes a logarithm or a ratio of
            the losses. A loss that isn't positive then moves no state, and its branch
            keeps its weight. A training model warns of it.
        warned: The branches about whose vanished weight the user was warned.
    """

    learns = True
    per_branch: tuple[str, ...] = ()
    min_weight = 0.0
    needs_positive_losses = False

    def __init__(
        self,
        *,
        branches: list[BranchName] | None = None,
        inferred_task_types: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.branches = None if branches is None else list(branches)
        self.inferred_task_types = (
            None if inferred_task_types is None else list(inferred_task_types)
        )
        self.num_branches = 0
        self.warned: set[str] = set()

    @property
    @abc.abstractmethod
    def loss_weights(self) -> Tensor:
        """`(K,)` float32: what each branch loss's gradient is multiplied by."""

    @abc.abstractmethod
    def combine(self, losses: Tensor, labelled: Mask, training: bool) -> Tensor:
        """The weighted loss `(batch,)`.

        Args:
            losses: `(K, batch)` float32 branch losses.
            labelled: `(K,)` bool, which branches have a label in the batch; `None` if
                that isn't known. (`present_branches` takes both.)
            training: Whether this is a step of training.
        """

    def bind(self, branches: list[BranchName], task_types: list[str]) -> None:
        """Tells the weighter its branches, once, before it is built.

        Args:
            branches: The branches' names in the order of the losses.
            task_types: `"regression"` or `"classification"` for each.

        Raises:
            ValueError: If the weighter belongs to other branches already.
        """
        if self.branches is not None and self.branches != list(branches):
            raise ValueError(
                f"`weighter` ({self.name!r}) already weighs the branches "
                f"{self.branches} and can't weigh {list(branches)}. Make a new "
                f"{type(self).__name__}."
            )
        self.branches, self.inferred_task_types = list(branches), list(task_types)

    def fresh(self) -> Weighter:
        """One of the same class and arguments, for another training model."""
        config = {**self.get_config(), "branches": None, "inferred_task_types": None}
        return self.from_config(config)

    def has_learned(self) -> bool:
        """Whether a weight or other state has moved since the layer was built."""
        if not self.built:
            return False
        unmoved = self.fresh()
        if self.branches is not None and self.inferred_task_types is not None:
            unmoved.bind(self.branches, self.inferred_task_types)
        unmoved.build([(None,)] * self.num_branches)
        return _state.differs(self, unmoved)

    def count(self, input_shape: Any) -> int:
        """Checks the shapes of the losses and returns K."""
        shapes = _as_shapes(input_shape)
        if not shapes:
            raise ValueError(
                f"{type(self).__name__} must be called on a list of at least one "
                "branch loss. Received an empty list."
            )
        for shape in shapes:
            if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
                raise ValueError(
                    f"{type(self).__name__} must be called on branch losses of shape "
                    "(batch,), one number a sample. Received the shapes "
                    f"{shapes}. A `BranchLoss` layer gives that shape."
                )
        if len({shape[0] for shape in shapes} - {None}) > 1:
            raise ValueError(
                f"{type(self).__name__} must be called on branch losses with the same "
                f"number of samples. Received the shapes {shapes}."
            )
        if self.branches is not None and len(self.branches) != len(shapes):
            raise ValueError(
                f"{type(self).__name__} weighs the branches {self.branches} and "
                f"must be called on {len(self.branches)} losses. "
                f"Received {len(shapes)}."
            )
        return len(shapes)

    def build(self, input_shape: Any) -> None:
        self.num_branches = self.count(input_shape)
        self.frozen = self.add_state("frozen", ())

    def add_state(self, name: str, shape: tuple[int, ...], initial: Any = 0.0) -> Any:
        """A variable that the optimizer doesn't train and `update` moves.

        Args:
            name: Name of the variable.
            shape: Shape of the variable.
            initial: A number, or one for each element of the shape.
        """
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=lambda shape, dtype=None: (
                ops.ones(shape, dtype) * ops.convert_to_tensor(initial, dtype=dtype)
            ),
            trainable=False,
            aggregation="mean",
        )

    def update(self, state: Any, old: Tensor, new: Tensor, where: Mask = True) -> None:
        """Assigns `new` to a state `where` it may move, unless the layer is frozen.

        Args:
            state: A variable from `add_state`.
            old: The value that this step read. Reading it once orders the read before
                the assignment in a TensorFlow graph.
            new: Its next value.
            where: Bool, or bools of the state's shape.
        """
        moving = ops.logical_and(where, ops.equal(self.frozen, 0.0))
        state.assign(ops.where(moving, new, old))

    def freeze(self) -> None:
        """Stops the weights and all other state, from the next step on.

        In a callback call it as `self.model.weighter.freeze()`.
        """
        self.frozen.assign(1.0)

    def unfreeze(self) -> None:
        """Undoes `freeze`."""
        self.frozen.assign(0.0)

    def end_epoch(self) -> None:
        """Called by the training model at the end of each epoch of training."""

    def call(self, losses: Any, valid: Any = None, training: bool = False) -> Tensor:
        if not isinstance(losses, (list, tuple)):
            losses = [losses]
        rows = [
            ops.squeeze(loss, -1) if len(loss.shape) == 2 else loss for loss in losses
        ]
        labelled = labelled_branches(valid)
        if training and labelled is not None:
            labelled = _replicas.on_any(labelled)
        return self.combine(_backend.stack(rows), labelled, training)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None]:
        return (_as_shapes(input_shape)[0][0],)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "branches": self.branches,
            "inferred_task_types": self.inferred_task_types,
        }

    def __repr__(self) -> str:
        return shown(self)

    def name_of(self, index: int) -> str:
        """The name of a branch in messages, or its number in a hand-wired model."""
        return repr(self.branches[index]) if self.branches else f"number {index}"


def _as_shapes(input_shape: Any) -> list[Shape]:
    shapes = list(input_shape or ())
    if shapes and (shapes[0] is None or isinstance(shapes[0], int)):
        return [tuple(shapes)]
    return [tuple(shape) for shape in shapes]
