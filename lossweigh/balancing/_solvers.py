"""Small dense problems that several methods share, in `keras.ops` and float32.

K is small and the same few operations serve K = 2 and K = 32: sets of branches are
masks, not indices, so that every shape is known before it runs. Everything is solved
in lengths and cosines.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from lossweigh._backend import float32_product
from lossweigh.balancing import _cosines

# What counts as negative in a pivot, relative to the right-hand side.
MARGIN = 1e-6
# Rounds of pivots that exchange all the wrong indices though these become no fewer.
CHANCES = 3


def nonnegative(matrix: Any, targets: Any) -> Any:
    """`min 1/2 x' Q x - b' x` over `x >= 0`, exactly, for several `b` at once.

    Principal pivoting: guess which `x` are positive, solve for these, and move
    every index that came out with the wrong sign (of `x`, or of the gradient
    `Q x - b` where `x` is 0) to the other side. One to four rounds are usual.

    Args:
        matrix: `Q`, `(K, K)`, positive definite, with a diagonal of about 1.
        targets: `b`, `(N, K)`.

    Returns:
        `x`, `(N, K)`.

    Reference:
        J. J. Judice, F. M. Pires. A block principal pivoting algorithm for
        large-scale strictly monotone linear complementarity problems. Computers
        and Operations Research 21, 1994.
    """
    num = matrix.shape[0]
    unit = ops.eye(num, dtype="float32")
    nothing = ops.zeros_like(targets)
    margin = MARGIN * ops.max(ops.abs(targets), axis=-1, keepdims=True) + 1e-37

    def solution(free: Any, ridge: Any) -> tuple[Any, Any]:
        inner = free[:, :, None] & free[:, None, :]
        inner = ops.where(inner, matrix + ridge * unit, unit)
        x = ops.solve(inner, ops.where(free, targets, nothing)[:, :, None])[:, :, 0]
        return x, ops.where(free, -x, targets - float32_product(x, matrix)) / margin

    def go_on(free: Any, x: Any, faults: Any, *others: Any) -> Any:
        return ops.any(faults > 1.0) & (others[-1] < 20 + 3 * num)

    def exchange(free: Any, x: Any, faults: Any, *others: Any) -> tuple[Any, ...]:
        swapped, *kept = pivots(faults, *others)
        free = free ^ swapped
        return free, *solution(free, kept[0]), *kept

    free = targets > 0.0
    start = (free, *solution(free, 0.0), *first_pivots(targets))
    return ops.relu(ops.while_loop(go_on, exchange, start)[1])


def first_pivots(like: Any) -> tuple[Any, Any, Any, Any]:
    """What `pivots` keeps: a ridge, the fewest wrong, chances left, and a count."""
    shape = (*like.shape[:-1], 1)
    fewest = ops.full(shape, like.shape[-1] + 1, dtype="int32")
    chances = ops.full(shape, CHANCES, dtype="int32")
    ridge, count = ops.zeros((), dtype="float32"), ops.zeros((), dtype="int32")
    return ridge, fewest, chances, count


def pivots(
    faults: Any, ridge: Any, fewest: Any, chances: Any, count: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Which indices to exchange, `(..., K)` bool, and what to keep.

    All that are wrong, while they become fewer, or failed to only a few times; then
    only the worst, until there are fewer. If gradients depend on each other, rounding
    may prevent an end. So every round gives the matrix a larger ridge: 4e-8 after ten,
    1e-5 after thirty, 2e-3 after fifty.

    Args:
        faults: By how much an index has the wrong sign, wrong if above 1.
        ridge: As kept.
        fewest: As kept.
        chances: As kept.
        count: As kept.
    """
    wrong = faults > 1.0
    number = ops.sum(wrong, axis=-1, keepdims=True)
    chances = ops.where(number < fewest, CHANCES, chances - 1)
    worst = ops.max(faults, axis=-1, keepdims=True)
    swapped = wrong & ((faults == worst) | (chances >= 0))
    ridge = ops.minimum(1.3 * ridge + 1e-9, 1e-2)
    return swapped, ridge, ops.minimum(fewest, number), chances, count + 1


def min_norm(gramian: Any, present: Any = None) -> Any:
    """The weights `a`, on the simplex, of the shortest `sum a_k g_k`.

    With `b_k = a_k d_k` and `p_k = min(d) / d_k`, the shortest solves
    `min 1/2 b' (C + p p') b - p' b` over `b >= 0`, up to a factor: adding `p p'`
    changes nothing where `p' b` is fixed, and bounds `b` where the shortest is 0.
    """
    lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
    num = cosines.shape[0]
    shares = ops.where(nonzero, _cosines.smallest(lengths, nonzero) / lengths, 0.0)
    matrix = _cosines.add_ridge(cosines, nonzero) + shares[:, None] * shares[None, :]
    weights = nonnegative(matrix, shares[None, :])[0] * shares
    total = ops.sum(weights)
    weights = weights / ops.where(total > 0.0, total, 1.0)
    # Where gradients are 0, so is the shortest combination.
    zero = _cosines.presence(present, num) * (1.0 - ops.cast(nonzero, "float32"))
    number = ops.sum(zero)
    return ops.where(number > 0.0, zero / ops.maximum(number, 1.0), weights)


def project_weights(gramian: Any, lower_bounds: Any, present: Any, ridge: float) -> Any:
    """`argmin v' (G + ridge tr(G) I) v` over `v >= u`, for several `u` at once.

    Args:
        gramian: `(K, K)`.
        lower_bounds: `u`, `(N, K)`; 0 for a branch that is absent.
        present: `(K,)` bool, or `None` for all.
        ridge: The part of the trace that is added to the diagonal.

    Returns:
        `v`, `(N, K)`.
    """
    gramian = _cosines.masked(gramian, present)
    num = gramian.shape[0]
    unit = ops.eye(num, dtype="float32")
    squares = ops.diagonal(gramian)
    trace = ops.sum(squares) + 1e-37
    squares = squares / trace + ridge
    squares = ops.where(squares > 0.0, squares, 1.0)
    roots = ops.sqrt(squares)
    # The diagonal is divided out, for float32 and branches of any length. The
    # ridge adds at least as much to 1 as float32 needs.
    lacking = ops.relu(_cosines.RIDGE - ridge / squares)
    matrix = (gramian / trace + ridge * unit) / roots[:, None] / roots[None, :]
    matrix = matrix + lacking[None, :] * unit
    more = nonnegative(matrix, -float32_product(lower_bounds * roots[None, :], matrix))
    return (
        lower_bounds + more / roots[None, :] * _cosines.presence(present, num)[None, :]
    )


def alpha_fair(gramian: Any, power: float, present: Any = None) -> Any:
    """The positive weights `a` with `G a = a^-power`.

    They are the minimum of a convex function, found by Newton's method in the
    relative change of `b_k = a_k d_k`, for which the equations are
    `C b = d^(power - 1) b^-power`.
    """
    lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
    longest = _cosines.largest(lengths, nonzero)
    relative = ops.where(nonzero, lengths / longest, 1.0)
    matrix = _cosines.add_ridge(cosines, nonzero)
    # d^(power - 1), kept in the range of float32.
    log_rates = (power - 1.0) * ops.log(ops.maximum(relative, 1e-12))
    rates = ops.exp(ops.clip(log_rates, -40.0, 40.0))
    unit = ops.eye(cosines.shape[0], dtype="float32")
    damping = max(1.0, 0.5 * (power + 1.0))

    def products(b: Any) -> tuple[Any, Any]:
        return matrix * b[:, None] * b[None, :], rates * b ** (1.0 - power)

    def go_on(b: Any, change: Any, count: Any) -> Any:
        # The bound grows, as opposite gradients leave more to rounding.
        late = ops.cast(ops.maximum(count - 15, 0), "float32")
        bound = 1e-3 * 1.5**late
        return ops.logical_and(change > bound, count < 40)

    def step(b: Any, change: Any, count: Any) -> tuple[Any, Any, Any]:
        inner, pull = products(b)
        residual = pull - ops.sum(inner, axis=-1)
        roots = ops.sqrt(ops.diagonal(inner) + power * pull)
        # The Newton matrix with its diagonal divided out.
        scaled = (inner / roots + unit * (power * pull / roots)) / roots[:, None]
        move = ops.solve(scaled, (residual / roots)[:, None])[:, 0] / roots
        # A step down may go too far: damp it. One up falls short, bar a few.
        size = 1.0 + damping * ops.maximum(-ops.min(move), 0.0)
        size = size + 0.03 * ops.maximum(ops.max(move), 0.0)
        b = ops.clip(b * (1.0 + move / size), 1e-15, 1e15)
        return b, ops.max(ops.abs(move)), count + 1

    # The solution for orthogonal gradients, brought to the best common factor.
    b = rates ** (1.0 / (1.0 + power))
    inner, pull = products(b)
    b = b * (ops.sum(pull) / ops.sum(inner)) ** (1.0 / (1.0 + power))
    start = (b, ops.ones((), dtype="float32"), ops.zeros((), dtype="int32"))
    b = ops.while_loop(go_on, step, start)[0]
    weights = b / relative * longest ** (-2.0 / (1.0 + power))
    return ops.where(nonzero, weights, 0.0)
