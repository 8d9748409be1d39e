"""The base of every gradient balancing: K branch gradients in, one gradient out."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _check, _state

LEVELS = ("representation", "calibrated", "parameters")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a balancer sees of one step, float32, with the loss scale taken out.

    Attributes:
        gramian: `(K, K)`, the inner products of the branch gradients; the row of
            a branch that isn't present is 0. Without `needs_angles`, what isn't on
            the diagonal is 0 too.
        present: `(K,)` bool. A branch whose gradient is exactly 0 (no label was
            there) or isn't finite isn't present.
        losses: `(K,)`, the means of the branch losses.
        mean_abs: `(K,)`, the mean absolute element of each gradient, if the
            method asks for it with `needs_mean_abs`, or `None`.
        draws: `(K, K)` uniform random numbers, if the method asks for them with
            `needs_draws`, or `None`.
    """

    gramian: Any
    present: Any
    losses: Any
    mean_abs: Any = None
    draws: Any = None


class Balancer(keras.layers.Layer, abc.ABC):
    """Combines the branch gradients `g_1 .. g_K` of what the branches share.

    Abstract: a method is a subclass with one method to write, `solve`, from the
    gradients' Gramian to their weights `w`. The shared layers then get
    `sum_k w_k g_k`; the heads get the gradients that they have in plain training.
    A method with state, or one that needs more than the Gramian, overrides
    `advance` too.

    Args:
        level: Where the gradients are taken.
            `"representation"`: at the tensors where the branches leave the shared
            layers. One ordinary backward pass. What is balanced is an upper bound
            of the gradients that the papers balance (Sener & Koltun 2018).
            `"parameters"`: at the shared trainable parameters, as in the papers:
            K backward passes through the shared layers.
            `"calibrated"`: at the representation, each branch's gradient rescaled
            by the ratio of its norms at the parameters and at the representation,
            which an exact pass refreshes every `update_every` steps.
            Default: the method's own; `"representation"` but for those that say so.
        update_every: Int. `"parameters"`: the weights are found anew every so many
            steps and kept in between, in which one backward pass is enough.
            `"calibrated"`: see there. At the representation: 1. Default: 25 for a
            calibrated one, else 1; without a `level` the method's own.
        seed: Optional int, for a method that draws random numbers.
        branches: The branches' names; `build_training_model` fills them in.
        **kwargs: Passed to `keras.layers.Layer`.

    Attributes:
        needs_angles: Whether `advance` uses more of the Gramian than its diagonal.
        needs_mean_abs: Whether `advance` uses `Seen.mean_abs`.
        needs_draws: Whether `advance` uses `Seen.draws`.
        per_branch: Names of the arguments, and attributes, that are lists with one
            number a branch.
        usual: The `level` and `update_every` where no `level` is given.
        refreshes: Whether the step that is being traced makes an exact pass; `None`
            while each step has to see for itself how old the last one is.

    Raises:
        ValueError: If `level` isn't one of these, or `update_every` is less than 1,
            or more at the representation; if `seed` is negative.
        TypeError: If one of these two isn't a number.
    """

    needs_angles = True
    needs_mean_abs = False
    needs_draws = False
    per_branch: tuple[str, ...] = ()
    usual = ("representation", 1)
    in_own_step = False
    refreshes: bool | None = None

    def __init__(
        self,
        *,
        level: str | None = None,
        update_every: int | None = None,
        seed: int | None = None,
        branches: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        asked = (level, 25 if level == "calibrated" else 1)
        level, every = self.usual if level is None else asked
        self.level = _check.one_of("level", level, LEVELS)
        every = every if update_every is None else update_every
        self.update_every = _check.whole("update_every", every, at_least=1)
        if self.level == "representation" and self.update_every > 1:
            raise ValueError(
                "`update_every` must be left out at the representation, where the "
                'weights are found in every step. Give `level="parameters"` or '
                f'"calibrated" with it. Received: update_every={update_every}.'
            )
        self.seed = None if seed is None else _check.whole("seed", seed, at_least=0)
        self.branches = None if branches is None else list(branches)

    @abc.abstractmethod
    def solve(self, gramian: Any, present: Any = None) -> Any:
        """The weights of the branch gradients, a pure function in `keras.ops`.

        Args:
            gramian: `(K, K)` float32, the inner products of the gradients.
            present: `(K,)` bool, the branches to balance; `None` for all. The
                others get the weight 0, and the rest are balanced as if there
                were no others.

        Returns:
            `(K,)` float32.
        """

    def initial_state(self, num_branches: int) -> Sequence[float]:
        """The numbers that the method keeps from step to step; none by default."""
        return ()

    def advance(self, seen: Seen, state: Any) -> tuple[Any, Any]:
        """The weights and the next state.

        Called in the backward pass, so it may not assign variables.

        Args:
            seen: What there is to see of this step.
            state: `(S,)` float32, as `initial_state` or the last step left it.

        Returns:
            `(K,)` and `(S,)`. Whatever is returned for a branch that isn't
            present isn't used as its weight; its part of the state is the
            method's to keep.
        """
        return self.solve(seen.gramian, seen.present), state

    @property
    def loss_weights(self) -> Any:
        """`(K,)` float32: the weights of the last step of training, 1 before it."""
        return ops.convert_to_tensor(self.weights_now)

    def bind(self, branches: Sequence[str]) -> None:
        """Tells the balancer which branch is which; done once, before it is built.

        Args:
            branches: The branches' names in the order of the losses.

        Raises:
            ValueError: If the balancer belongs to other branches already, or has an
                argument for so many branches that isn't for as many.
        """
        if self.branches is not None and self.branches != list(branches):
            raise ValueError(
                f"`balancer` ({self.name!r}) already balances the branches "
                f"{self.branches} and can't balance {list(branches)}. Make a new "
                f"{type(self).__name__}."
            )
        for name in self.per_branch:
            if (values := getattr(self, name)) is not None:
                _check.weights(name, values, len(branches))
        self.branches = list(branches)

    def fresh(self) -> Balancer:
        """One of the same class and arguments, for another training model."""
        return self.from_config({**self.get_config(), "branches": None})

    def has_learned(self) -> bool:
        """Whether weights or other state have moved since the layer was built."""
        if not self.built:
            return False
        unmoved = self.fresh()
        unmoved.build(self.num_branches)
        return _state.differs(self, unmoved)

    def build(self, num_branches: int) -> None:
        """Creates the variables, for K branches.

        What a step finds can leave its backward pass in one way on all backends:
        as the "gradient" of a variable that is overwritten with it.
        """
        self.num_branches = num_branches
        self.weights_now = self._add_state("weights", [1.0] * num_branches)
        kept = [*self.initial_state(num_branches)]
        self.num_kept = len(kept)
        if self.level == "calibrated":
            kept += [1.0] * num_branches  # norm at the parameters / representation
        if self.level != "representation":
            kept += [0.0]  # steps since the last exact pass
        self.state = self._add_state("state", kept) if kept else None
        # Each step overwrites it with 1; what descends on it changes it.
        self.canary = self._add_state("canary", [1.0])
        if self.needs_draws:
            self.generator = keras.random.SeedGenerator(self.seed)
        self.built = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not for a balancer, which is no layer that is called."""
        raise TypeError(
            "A balancer isn't called. Give it to `build_training_model(pred_model, "
            f"losses, balancer={type(self).__name__}())`."
        )

    def _add_state(self, name: str, initial: Sequence[float]) -> Any:
        return self.add_weight(
            name=name,
            shape=(len(initial),),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(
                list(initial), dtype=dtype
            ),
            trainable=True,
            overwrite_with_gradient=True,
            aggregation="mean",
        )

    def draw(self, tensors: Sequence[Any]) -> Any:
        """Random numbers for the backward pass, which can't draw any.

        Args:
            tensors: The shared tensors, at the level of the representation.
        """
        if not self.needs_draws:
            return None
        shape = (self.num_branches, self.num_branches)
        return keras.random.uniform(shape, dtype="float32", seed=self.generator)

    def mix(
        self, gradients: list[Any], weights: list[Any], place: int, draws: Any
    ) -> Any:
        """The weighted sum of some gradients of one shape, in their dtype.

        Not called where gradients are added up as products, behind `Dense` layers;
        a subclass that has a `mix` of its own gets all gradients written out.

        Args:
            gradients: Those of the branches that have one at this place.
            weights: Their weights, scalars.
            place: Which of the shared tensors, or parameters, it is.
            draws: What `draw` gave.
        """
        total = _backend.weighted_sum(gradients, weights)
        return ops.cast(total, gradients[0].dtype)

    def _mix_products(
        self, products: Any, weights: list[Any], place: int, draws: Any
    ) -> Any:
        """As `mix`, float32, of gradients that aren't written out."""
        return products.weighted_sum(_backend.stack(weights))

    # Keras tracks the generator's state and leaves it out of the file.

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.needs_draws:
            store["seed"] = ops.convert_to_numpy(self.generator.state)

    def load_own_variables(self, store: Any) -> None:
        if self.needs_draws:
            self.generator.state.assign(store["seed"][()])
        super().load_own_variables(
            {key: store[key] for key in store.keys() if key != "seed"}  # noqa: SIM118
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "level": self.level,
            "update_every": self.update_every,
            "seed": self.seed,
            "branches": self.branches,
        }
