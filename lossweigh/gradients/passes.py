"""The backward passes of a balancer, for each of its levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _compat
from lossweigh.balancing.base import Balancer
from lossweigh.gradients.combining import Arrived, advance, in_float32, look, mix
from lossweigh.gradients.dense import (
    Products,
    kernels_of,
    outputs_of,
    worthwhile,
)
from lossweigh.gradients.exact import at_the_parameters
from lossweigh.gradients.statistics import by_branch


def takes_products(balancer: Balancer, units: Sequence[int], features: int) -> bool:
    """Whether gradients behind `Dense` layers aren't written out, one layer a branch.

    Methods that look at elements know them from products where each layer has one
    unit; a user's own method with a `mix` of its own gets all of them.

    Args:
        balancer: What combines the gradients.
        units: How many each layer has.
        features: How many the shared tensor has.
    """
    mixing = next(kind for kind in type(balancer).__mro__ if "mix" in vars(kind))
    if "_mix_products" not in vars(mixing) or not worthwhile(units, features):
        return False
    by_element = balancer.needs_mean_abs or mixing is not Balancer
    return max(units) == 1 or not by_element


@dataclasses.dataclass(frozen=True)
class _Exits:
    """How the branches leave the shared tensors: with a copy, or by `Dense` layers.

    Attributes:
        owners: For each tensor the branches that take it, as indices.
        dense: The tensors, as indices, that are given out behind a `Dense` layer
            for each owner, without its activation, and these layers.
    """

    owners: Sequence[Sequence[int]]
    dense: Mapping[int, Sequence[keras.layers.Dense]]

    @property
    def copied(self) -> list[Sequence[int]]:
        """For each tensor the branches that take a copy of it."""
        return [
            () if place in self.dense else who for place, who in enumerate(self.owners)
        ]

    @property
    def number(self) -> int:
        """How many tensors are given out."""
        return sum(len(who) for who in self.copied) + len(self.dense)

    def kernels(self) -> list[Any]:
        return [kernels_of(layers) for layers in self.dense.values()]

    def give_out(self, tensors: Sequence[Any], kernels: Sequence[Any]) -> list[Any]:
        """The copies, then the `Dense` layers' products, side by side."""
        copies = [
            tensor
            for tensor, who in zip(tensors, self.copied, strict=True)
            for _ in who
        ]
        return copies + [
            ops.matmul(ops.cast(tensors[place], kernel.dtype), kernel)
            for place, kernel in zip(self.dense, kernels, strict=True)
        ]

    def take_back(
        self,
        balancer: Balancer,
        gradients: Sequence[Any],
        message: Any,
        kernels: Sequence[Any],
        draws: Any,
    ) -> Arrived:
        """What arrives as the gradients of what was given out, and of the messenger."""
        losses, scale = message[:-1], message[-1]
        scale = ops.where(scale > 0, scale, ops.ones_like(scale))  # nobody wrote one
        split = self.number - len(self.dense)
        branches = by_branch(gradients[:split], self.copied, balancer.num_branches)
        products = {
            place: Products(
                tuple(self.owners[place]),
                tuple(layer.units for layer in layers),
                left,
                kernel,
            )
            for (place, layers), left, kernel in zip(
                self.dense.items(), gradients[split:], kernels, strict=True
            )
        }
        return Arrived(branches, self.owners, losses, scale, draws, products)

    def of_the_kernels(self, arrived: Arrived, tensors: Sequence[Any]) -> list[Any]:
        """The gradients of the `Dense` layers' kernels."""
        products = arrived.products.items()
        return [product.of_the_kernel(tensors[place]) for place, product in products]

    def finish(self, given_out: Sequence[Any]) -> list[Any]:
        """What each owner takes, tensor by tensor; here the biases are added."""
        behind = dict(
            zip(self.dense, given_out[self.number - len(self.dense) :], strict=True)
        )
        copies = iter(given_out)
        leaving: list[Any] = []
        for place, who in enumerate(self.owners):
            if place in self.dense:
                leaving += outputs_of(self.dense[place], behind[place])
            else:
                leaving += [next(copies) for _ in who]
        return leaving


def fan_out(
    balancer: Balancer,
    tensors: Sequence[Any],
    owners: Sequence[Sequence[int]],
    dense: Mapping[int, Sequence[keras.layers.Dense]],
) -> tuple[list[Any], Any]:
    """What each branch takes of each shared tensor: a copy, or what a layer makes.

    Args:
        balancer: What combines the branches' gradients.
        tensors: Floating tensors of any rank.
        owners: For each tensor the branches that take it, as indices.
        dense: As `_Exits` has it.

    Returns:
        What is given out, tensor by tensor, and `(K + 1,)` zeros, the messenger:
        what comes back as *its* gradient is taken for the K branch losses and the
        loss scale.
    """
    draws = balancer.draw(tensors)
    exits, number = _Exits(owners, dense), len(tensors)

    def function(*given: Any) -> Any:
        shared, kernels = given[:number], given[number : number + len(dense)]
        *before, canary = given[number + len(dense) :]

        @in_float32()
        def gradient(*upstream: Any) -> tuple[Any, ...]:
            *pieces, message = upstream
            arrived = exits.take_back(balancer, pieces, message, kernels, draws)
            seen, finite = look(balancer, arrived)
            weights, state = advance(balancer, seen, before)
            mixed = mix(balancer, arrived, weights, finite)
            for place in dense:
                mixed[place] = ops.cast(mixed[place], shared[place].dtype)
            own = exits.of_the_kernels(arrived, shared)
            return (*mixed, *own, weights, *state, ops.ones_like(canary))

        return (*exits.give_out(shared, kernels), messenger(balancer)), gradient

    *out, message = _backend.custom_gradient(
        function, [*tensors, *exits.kernels(), *_variables(balancer)]
    )
    return exits.finish(out), message


@_backend.not_compiled
def through(
    balancer: Balancer,
    trunk: keras.Model,
    inputs: Any,
    owners: Sequence[Sequence[int]],
    dense: Mapping[int, Sequence[keras.layers.Dense]],
    masks_of: Callable[[Sequence[Any]], list[Any]],
) -> tuple[list[Any], list[Any], list[Any], list[Any], Any]:
    """Calls the shared layers, and finds the gradients of their parameters.

    Args:
        balancer: What combines the gradients.
        trunk: A functional model to a list of tensors: the shared ones, then
            others that no gradient comes back from.
        inputs: What it takes.
        owners: For each shared tensor the branches that take it, as indices.
        dense: As `_Exits` has it.
        masks_of: The masks of a list of tensors that layers have just made.

    Returns:
        What is given out, as `fan_out` does, the other tensors, the masks of the
        trunk's tensors (`None` where there is none), the losses that its layers
        added, and the messenger.

    Raises:
        ValueError: If a layer assigns trainable weights.
    """
    parameters = [ops.convert_to_tensor(v) for v in trunk.trainable_variables]
    # Read once: TensorFlow would read them anew, some after their assignment.
    others = [ops.copy(v) for v in trunk.non_trainable_variables]
    number, shared, ends = len(parameters), len(owners), len(trunk.outputs)
    exits = _Exits(owners, dense)
    draws = balancer.draw(())
    moved: list[Any] = []  # the variables that the layers assigned
    masked: list[int] = []

    def call(*parameters: Any) -> Any:
        state = [
            *zip(trunk.trainable_variables, parameters, strict=True),
            *zip(trunk.non_trainable_variables, others, strict=True),
        ]
        with _compat.Assignments(state) as scope:
            made = trunk.call(inputs, training=True)
            losses = scope.take_losses(trunk)
        made = tuple(made) if isinstance(made, (list, tuple)) else (made,)
        moved[:] = scope.assigned.values()
        _check_assigned(balancer, moved)
        after = [scope.get_current_value(variable) for variable in moved]
        return (*made, *losses), (after, masks_of(made))

    def function(*given: Any) -> Any:
        kernels = given[number : number + len(dense)]
        *before, canary = given[number + len(dense) :]
        made, (after, masks), pull_back = _backend.vector_jacobian(call, given[:number])
        masked[:] = [i for i, mask in enumerate(masks) if mask is not None]
        tensors, plain, losses = made[:shared], made[shared:ends], made[ends:]

        @in_float32()
        def gradient(*upstream: Any) -> tuple[Any, ...]:
            pieces, message = upstream[: exits.number], upstream[exits.number]
            of_losses = upstream[len(upstream) - len(losses) :]

            def pull(
                several: Iterable[Sequence[Any]], with_losses: bool = False
            ) -> list[list[Any]]:
                rest = [ops.zeros_like(tensor) for tensor in (*plain, *losses)]
                if with_losses:
                    rest[len(plain) :] = of_losses
                return pull_back([*gradients, *rest] for gradients in several)

            arrived = exits.take_back(balancer, pieces, message, kernels, draws)
            found, weights, state = at_the_parameters(
                balancer, arrived, tensors, pull, before, bool(losses)
            )
            own = exits.of_the_kernels(arrived, tensors)
            return (*found, *own, weights, *state, ops.ones_like(canary))

        return (
            *exits.give_out(tensors, kernels),
            messenger(balancer),
            *plain,
            *after,
            *(masks[i] for i in masked),
            *losses,
        ), gradient

    results = _backend.custom_gradient(
        function, [*parameters, *exits.kernels(), *_variables(balancer)]
    )
    out, message = results[: exits.number], results[exits.number]
    rest = iter(results[exits.number + 1 :])
    untouched = [next(rest) for _ in range(ends - shared)]
    for variable in moved:
        variable.assign(next(rest))
    masks: list[Any] = [None] * ends
    for index in masked:
        masks[index] = next(rest)
    return exits.finish(out), untouched, masks, list(rest), message


def _check_assigned(balancer: Balancer, moved: Sequence[Any]) -> None:
    """Refuses what would be trained as something else than in plain training.

    There a gradient is that of the value which a layer assigned. On JAX, where Keras
    drops such values after each step, it is that of the value before, as here.
    """
    trained = [variable.path for variable in moved if variable.trainable]
    if trained and keras.backend.backend() != "jax":
        raise ValueError(
            f'`balancer` with level="{balancer.level}" needs shared layers that leave '
            "their trainable weights to the optimizer. Received layers that assign "
            f"{trained} when they are called, as SpectralNormalization does. Give the "
            'balancer level="representation".'
        )


def _variables(balancer: Balancer) -> list[Any]:
    kept = [] if balancer.state is None else [balancer.state]
    variables = [balancer.weights_now, *kept, balancer.canary]
    return [ops.convert_to_tensor(variable) for variable in variables]


def messenger(balancer: Balancer) -> Any:
    """`(K + 1,)` zeros, whose gradient brings the backward pass its message."""
    return ops.zeros((balancer.num_branches + 1,), "float32")
