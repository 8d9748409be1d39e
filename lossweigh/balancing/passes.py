"""The backward passes of a balancer, for each of its levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
from keras import ops

from lossweigh import _backend
from lossweigh.balancing._dense import Products, kernels_of, outputs_of
from lossweigh.balancing._statistics import (
    by_branch,
    finite_ones,
    gramian_of,
    mean_abs_of,
    squares_of,
)
from lossweigh.balancing.base import Balancer, Seen


def takes_products(balancer: Balancer) -> bool:
    """Whether the gradients of branches that leave by `Dense` aren't written out.

    That needs a method that looks at inner products and adds up, and no more.
    """
    return (
        balancer.level == "representation"
        and not balancer.needs_mean_abs
        and type(balancer).mix is Balancer.mix
    )


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
        dense: The tensors, as indices, that are given out behind a `Dense` layer
            for each owner, without its activation, and these layers.

    Returns:
        What is given out, tensor by tensor, and `(K + 1,)` zeros, the messenger:
        what comes back as *its* gradient is taken for the K branch losses and the
        loss scale.
    """
    draws = balancer.draw(tensors)
    number = len(tensors)
    kernels = [kernels_of(layers) for layers in dense.values()]
    copied = [() if place in dense else who for place, who in enumerate(owners)]

    def function(*given: Any) -> Any:
        copies = [t for t, who in zip(given, copied, strict=False) for _ in who]
        taken = dict(zip(dense, given[number:], strict=False))
        before = list(given[number + len(dense) :])
        behind = [
            ops.matmul(ops.cast(given[place], kernel.dtype), kernel)
            for place, kernel in taken.items()
        ]

        def gradient(*upstream: Any) -> tuple[Any, ...]:
            *pieces, message = upstream
            branches = by_branch(pieces, copied, balancer.num_branches)
            products = {
                place: Products(
                    tuple(owners[place]),
                    tuple(layer.units for layer in dense[place]),
                    piece,
                    taken[place],
                )
                for place, piece in zip(dense, pieces[len(copies) :], strict=True)
            }
            losses, scale = _read_message(message)
            seen, finite = _look(balancer, branches, losses, scale, draws, products)
            weights, state = _advance(balancer, seen, before)
            mixed = _mix(
                balancer, branches, owners, weights, finite, scale, draws, products
            )
            for place in dense:
                mixed[place] = ops.cast(mixed[place], given[place].dtype)
            own = [p.of_the_kernel(given[place]) for place, p in products.items()]
            return (*mixed, *own, weights, *state)

        return (*copies, *behind, messenger(balancer)), gradient

    *out, message = _backend.custom_gradient(
        function, [*tensors, *kernels, *_variables(balancer)]
    )
    behind = dict(zip(dense, out[len(out) - len(dense) :], strict=True))
    copies = iter(out)
    leaving: list[Any] = []
    for place, who in enumerate(owners):
        if place in dense:
            leaving += outputs_of(dense[place], behind[place])
        else:
            leaving += [next(copies) for _ in who]
    return leaving, message


@_backend.not_compiled
def through(
    balancer: Balancer,
    trunk: keras.Model,
    inputs: Any,
    owners: Sequence[Sequence[int]],
    masks_of: Callable[[Sequence[Any]], list[Any]],
) -> tuple[list[Any], list[Any], list[Any], Any]:
    """Calls the shared layers, and finds the gradients of their parameters.

    Args:
        balancer: What combines the gradients.
        trunk: A functional model to a list of tensors: the shared ones, then
            others that no gradient comes back from.
        inputs: What it takes.
        owners: For each shared tensor the branches that take it, as indices.
        masks_of: The masks of a list of tensors that layers have just made.

    Returns:
        The copies of the shared tensors, the other tensors, the masks of the
        trunk's tensors (`None` where there is none), and the messenger, as
        `fan_out` has it.
    """
    parameters = [ops.convert_to_tensor(v) for v in trunk.trainable_variables]
    # Read once: TensorFlow would read them anew, some after their assignment.
    others = [ops.copy(v) for v in trunk.non_trainable_variables]
    number, shared = len(parameters), len(owners)
    draws = balancer.draw(())
    moved: list[int] = []  # which of the other variables the layers assigned
    masked: list[int] = []

    def call(*parameters: Any) -> Any:
        made, after = trunk.stateless_call(parameters, others, inputs, training=True)
        made = tuple(made) if isinstance(made, (list, tuple)) else (made,)
        return made, (after, masks_of(made))

    def function(*given: Any) -> Any:
        before = list(given[number:])
        made, (after, masks), pull_back = _backend.vector_jacobian(call, given[:number])
        moved[:] = [i for i, old in enumerate(others) if after[i] is not old]
        masked[:] = [i for i, mask in enumerate(masks) if mask is not None]
        copies = [t for t, who in zip(made, owners, strict=False) for _ in who]

        def pull(several: Sequence[Sequence[Any]]) -> list[list[Any]]:
            rest = [ops.zeros_like(tensor) for tensor in made[shared:]]
            return pull_back([[*gradients, *rest] for gradients in several])

        def gradient(*upstream: Any) -> tuple[Any, ...]:
            pieces, message = upstream[: len(copies)], upstream[len(copies)]
            losses, scale = _read_message(message)
            branches = by_branch(pieces, owners, balancer.num_branches)
            zeros = [ops.zeros_like(tensor) for tensor in made[:shared]]
            found, weights, state = _pull(
                balancer, pull, branches, zeros, owners, losses, scale, draws, before
            )
            return (*found, weights, *state)

        return (
            *copies,
            messenger(balancer),
            *made[shared:],
            *(after[i] for i in moved),
            *(masks[i] for i in masked),
        ), gradient

    copied = sum(len(who) for who in owners)
    results = _backend.custom_gradient(function, [*parameters, *_variables(balancer)])
    copies, message = list(results[:copied]), results[copied]
    rest = list(results[copied + 1 :])
    plain = rest[: len(trunk.outputs) - shared]
    rest = rest[len(plain) :]
    for index, value in zip(moved, rest, strict=False):
        trunk.non_trainable_variables[index].assign(value)
    masks: list[Any] = [None] * len(trunk.outputs)
    for index, mask in zip(masked, rest[len(moved) :], strict=True):
        masks[index] = mask
    return copies, plain, masks, message


def _pull(
    balancer: Balancer,
    pull: Callable[[Sequence[Sequence[Any]]], list[list[Any]]],
    branches: list[dict[int, Any]],
    zeros: list[Any],
    owners: Sequence[Sequence[int]],
    losses: Any,
    scale: Any,
    draws: Any,
    before: list[Any],
) -> tuple[list[Any], Any, list[Any]]:
    """The parameters' gradients, the weights and the state of one step."""
    age = before[1][-1]
    calibrated = balancer.level == "calibrated"
    factors = before[1][balancer.num_kept : balancer.num_kept + balancer.num_branches]

    def aged(state: list[Any], exact: bool, factors: Any) -> Any:
        """The method's state, the factors and the age in one vector."""
        now = 1.0 if exact else age + 1.0
        now = ops.where(now >= balancer.update_every, 0.0, now)
        parts = [state[0][: balancer.num_kept]] if state else []
        parts += [factors] if calibrated else []
        return ops.concatenate([*parts, ops.reshape(now, (1,))])

    def pull_each() -> list[dict[int, Any]]:
        """Each branch's gradients of the parameters, by parameter."""
        pulled = pull(
            [
                [mine.get(place, zero) for place, zero in enumerate(zeros)]
                for mine in branches
            ]
        )
        return [dict(enumerate(gradients)) for gradients in pulled]

    def exactly(found: list[dict[int, Any]]) -> Any:
        seen, finite = _look(balancer, found, losses, scale, draws)
        weights, state = _advance(balancer, seen, before)
        new = factors
        if calibrated:
            near, _ = _look(balancer, branches, losses, scale, draws)
            norms = ops.sqrt(ops.diagonal(seen.gramian))
            known = ops.logical_and(seen.present, near.present)
            below = ops.where(known, ops.sqrt(ops.diagonal(near.gramian)), 1.0)
            new = ops.where(known, norms / below, factors)
        return weights, aged(state, True, new), finite

    def cheaply() -> Any:
        finite = finite_ones(branches)
        weights, state = before[0], before[1:]
        if calibrated:
            seen, finite = _look(balancer, branches, losses, scale, draws)
            outer = ops.expand_dims(factors, 0) * ops.expand_dims(factors, 1)
            seen = dataclasses.replace(
                seen,
                gramian=seen.gramian * outer,
                mean_abs=None if seen.mean_abs is None else seen.mean_abs * factors,
            )
            weights, state = _advance(balancer, seen, before)
        return weights, aged(state, False, factors), finite

    if balancer.update_every == 1:
        found = pull_each()
        weights, state, finite = exactly(found)
        everyone = [tuple(range(balancer.num_branches))] * len(found[0])
        mixed = _mix(balancer, found, everyone, weights, finite, scale, draws)
        return mixed, weights, [state]
    # The gradient itself is found outside: what is inside a branch can't be fused
    # with the rest, and a convolution's is many times slower there on JAX.
    weights, state, finite = ops.cond(
        ops.equal(age, 0.0), lambda: exactly(pull_each()), cheaply
    )
    mixed = _mix(balancer, branches, owners, weights, finite, scale, draws)
    return pull([mixed])[0], weights, [state]


def _variables(balancer: Balancer) -> list[Any]:
    variables = [balancer.weights_now] + (
        [] if balancer.state is None else [balancer.state]
    )
    return [ops.convert_to_tensor(variable) for variable in variables]


def messenger(balancer: Balancer) -> Any:
    """`(K + 1,)` zeros, whose gradient brings the backward pass its message."""
    return ops.zeros((balancer.num_branches + 1,), "float32")


def _look(
    balancer: Balancer,
    branches: list[dict[int, Any]],
    losses: Any,
    scale: Any,
    draws: Any,
    products: Mapping[int, Products] = MappingProxyType({}),
) -> tuple[Seen, Any]:
    """What there is to see, and which branches' gradients are finite."""
    if balancer.needs_angles:
        gramian = gramian_of(branches, products.values()) / (scale * scale)
        norms = ops.diagonal(gramian)
    else:
        norms = squares_of(branches, products.values()) / (scale * scale)
        gramian = ops.diag(norms)
    finite = ops.isfinite(norms)
    present = finite & (norms > 0)
    both = present[None, :] & present[:, None]
    mean_abs = None
    if balancer.needs_mean_abs:
        mean_abs = ops.where(present, mean_abs_of(branches) / scale, 0.0)
    seen = Seen(ops.where(both, gramian, 0.0), present, losses, mean_abs, draws)
    return seen, finite


def _advance(
    balancer: Balancer, seen: Seen, before: list[Any]
) -> tuple[Any, list[Any]]:
    """Weights and state, finite, and unmoved for branches that aren't present."""
    kept = before[1][: balancer.num_kept] if balancer.num_kept else ops.zeros((0,))
    weights, state = balancer.advance(seen, kept)
    usable = ops.logical_and(seen.present, ops.isfinite(weights))
    weights = ops.where(usable, weights, before[0])
    if not balancer.num_kept:
        return weights, before[1:]
    return weights, [ops.where(ops.isfinite(state), state, kept)]


def _mix(
    balancer: Balancer,
    branches: list[dict[int, Any]],
    owners: Sequence[Sequence[int]],
    weights: Any,
    finite: Any,
    scale: Any,
    draws: Any,
    products: Mapping[int, Products] = MappingProxyType({}),
) -> list[Any]:
    """`sum_k w_k g_k` at each place, without the branches that aren't finite.

    Under loss scaling they are left in: the optimizer sees them, skips the
    step and lowers the scale.
    """
    isolate = ~ops.all(finite) & (scale < 1.5)

    def mixed(of: list[dict[int, Any]], products: Mapping[int, Products]) -> list[Any]:
        return [
            products[place].weighted_sum(_backend.stack([weights[k] for k in who]))
            if place in products
            else balancer.mix(
                [of[k][place] for k in who], [weights[k] for k in who], place, draws
            )
            for place, who in enumerate(owners)
        ]

    def the_finite() -> list[Any]:
        keep = ops.logical_or(finite, ops.logical_not(isolate))
        clean = [
            {place: ops.where(keep[k], g, ops.zeros_like(g)) for place, g in mine}
            for k, mine in enumerate(m.items() for m in branches)
        ]
        return mixed(
            clean,
            {
                place: product.only(_backend.stack([keep[k] for k in product.who]))
                for place, product in products.items()
            },
        )

    if keras.backend.backend() == "jax":
        return the_finite()  # XLA selects in passing; a branch would stop it
    return list(ops.cond(isolate, the_finite, lambda: mixed(branches, products)))


def _read_message(message: Any) -> tuple[Any, Any]:
    """The branch losses and the loss scale; 1 if nobody wrote one."""
    scale = message[-1]
    return message[:-1], ops.where(scale > 0, scale, ops.ones_like(scale))
