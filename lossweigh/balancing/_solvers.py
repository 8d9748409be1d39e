"""Small dense problems that several methods share, in `keras.ops` and float32.

K is small and the same few operations serve K = 2 and K = 32: sets of branches
are masks, not indices, so that every shape is known before it runs. Everything is
solved in lengths and cosines, `g_k . g_j = d_k d_j c_kj`: cosines are of the order
of 1 whatever the gradients' scale, and a product of two elements of the Gramian,
which float32 may not hold, never arises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from lossweigh import _check
from lossweigh._backend import float32_product

# Added to the diagonal of the cosines where a matrix must be invertible. Float32
# Gramians are exact to about 1e-6, and weights in the null space of identical or
# opposite gradients stay below 1 / sqrt(1e-5) times those of a single branch.
RIDGE = 1e-5
# Eigenvalues below this part of the largest count as 0.
RANK = 3e-6
# What counts as negative in a pivot, relative to the right-hand side.
MARGIN = 1e-6
# Rounds of pivots that exchange all the wrong indices though these become no fewer.
CHANCES = 3


def as_matrix(gramian: Any) -> Any:
    """The Gramian as a float32 tensor."""
    return ops.convert_to_tensor(gramian, dtype="float32")


def ones(present: Any, num_branches: int) -> Any:
    """`(K,)` float32: 1 for a branch that is present, 0 for the others."""
    if present is None:
        return ops.ones((num_branches,), dtype="float32")
    return ops.cast(present, "float32")


def masked(gramian: Any, present: Any) -> Any:
    """The Gramian with 0 in the rows and columns of absent branches."""
    gramian = as_matrix(gramian)
    if present is None:
        return gramian
    present = ops.convert_to_tensor(present, dtype="bool")
    return ops.where(present[:, None] & present[None, :], gramian, 0.0)


def split(gramian: Any, present: Any = None) -> tuple[Any, Any, Any]:
    """Lengths and cosines of the branch gradients.

    Args:
        gramian: `(K, K)`.
        present: `(K,)` bool, or `None` for all.

    Returns:
        The lengths `(K,)`, 1 for a gradient that is absent or 0; the cosines
        `(K, K)`, 0 for these; and which gradients are present and not 0, `(K,)`
        bool.
    """
    gramian = masked(gramian, present)
    squares = ops.diagonal(gramian)
    here = squares > 0.0
    lengths = ops.sqrt(ops.where(here, squares, 1.0))
    # Two divisions: the product of two lengths may be out of range.
    cosines = gramian / lengths[:, None] / lengths[None, :]
    return lengths, ops.where(here[:, None] & here[None, :], cosines, 0.0), here


def regular(cosines: Any, here: Any, ridge: float = RIDGE) -> Any:
    """Cosines that can be inverted; the branches that aren't here stand alone."""
    unit = ops.eye(cosines.shape[0], dtype="float32")
    return cosines + ops.where(here[None, :], ridge * unit, unit)


def smallest(values: Any, here: Any) -> Any:
    """The smallest of the values that are here; 3e38 if there are none."""
    return ops.min(ops.where(here, values, 3e38))


def largest(values: Any, here: Any) -> Any:
    """The largest of the (positive) values that are here; 1 if there are none."""
    found = ops.max(ops.where(here, values, 0.0))
    return ops.where(found > 0.0, found, 1.0)


def preferred(
    preferences: Sequence[float] | None, num_branches: int, present: Any
) -> Any:
    """The preferences, `(K,)`: 1 / K each by default.

    Those of the branches that are present are scaled to the sum of all.
    """
    if preferences is None:
        shares = ops.ones((num_branches,), dtype="float32") / num_branches
    else:
        _check.weights("preferences", preferences, num_branches)
        shares = ops.convert_to_tensor(list(preferences), dtype="float32")
    if present is None:
        return shares
    kept = shares * ones(present, num_branches)
    total = ops.sum(kept)
    return kept * (ops.sum(shares) / ops.where(total > 0.0, total, 1.0))


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

    All that are wrong, as long as these become fewer and fewer, or but a few times
    didn't; then only the worst, until there are fewer. Where gradients depend on
    each other rounding may keep that from ending: with every round the matrix gets
    a larger ridge, 4e-8 after ten, 1e-5 after thirty, 2e-3 after fifty.

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


def shortest(gramian: Any, present: Any = None) -> Any:
    """The weights `a`, on the simplex, of the shortest `sum a_k g_k`.

    With `b_k = a_k d_k` and `p_k = min(d) / d_k`, the shortest is that of
    `min 1/2 b' (C + p p') b - p' b` over `b >= 0`, up to a factor: adding `p p'`
    changes nothing where `p' b` is fixed, and bounds `b` where the shortest is 0.
    """
    lengths, cosines, here = split(gramian, present)
    num = cosines.shape[0]
    shares = ops.where(here, smallest(lengths, here) / lengths, 0.0)
    matrix = regular(cosines, here) + shares[:, None] * shares[None, :]
    weights = nonnegative(matrix, shares[None, :])[0] * shares
    total = ops.sum(weights)
    weights = weights / ops.where(total > 0.0, total, 1.0)
    # Where gradients are 0, so is the shortest combination.
    zero = ones(present, num) * (1.0 - ops.cast(here, "float32"))
    number = ops.sum(zero)
    return ops.where(number > 0.0, zero / ops.maximum(number, 1.0), weights)


def projected(gramian: Any, wishes: Any, present: Any, ridge: float) -> Any:
    """`argmin v' (G + ridge tr(G) I) v` over `v >= u`, for several `u` at once.

    Args:
        gramian: `(K, K)`.
        wishes: `u`, `(N, K)`; 0 for a branch that is absent.
        present: `(K,)` bool, or `None` for all.
        ridge: The part of the trace that is added to the diagonal.

    Returns:
        `v`, `(N, K)`.
    """
    gramian = masked(gramian, present)
    num = gramian.shape[0]
    unit = ops.eye(num, dtype="float32")
    squares = ops.diagonal(gramian)
    trace = ops.sum(squares) + 1e-37
    squares = squares / trace + ridge
    squares = ops.where(squares > 0.0, squares, 1.0)
    roots = ops.sqrt(squares)
    # The diagonal is divided out, for float32 and branches of any length. What the
    # ridge adds to 1 is made as much as float32 needs.
    lacking = ops.relu(RIDGE - ridge / squares)
    matrix = (gramian / trace + ridge * unit) / roots[:, None] / roots[None, :]
    matrix = matrix + lacking[None, :] * unit
    more = nonnegative(matrix, -float32_product(wishes * roots[None, :], matrix))
    return wishes + more / roots[None, :] * ones(present, num)[None, :]


def spectrum(matrix: Any) -> tuple[Any, Any, Any]:
    """Eigenvalues `(..., K)`, eigenvectors in columns, and which aren't 0."""
    values, vectors = ops.eigh(matrix)
    limit = RANK * ops.max(values, axis=-1, keepdims=True)
    kept = values > ops.maximum(limit, 0.0)
    return ops.where(kept, values, 0.0), vectors, kept


def applied(vectors: Any, factors: Any, vector: Any) -> Any:
    """`V diag(f) V' x`, `(..., K)`."""
    inner = ops.sum(vectors * vector[..., :, None], axis=-2)
    return ops.sum(vectors * (factors * inner)[..., None, :], axis=-1)


def inverted(values: Any, kept: Any) -> Any:
    """`1 / values` where kept, 0 elsewhere."""
    return ops.where(kept, 1.0 / ops.where(kept, values, 1.0), 0.0)


def fair(gramian: Any, power: float, present: Any = None) -> Any:
    """The positive weights `a` with `G a = a^-power`.

    They are the minimum of a convex function, found by Newton's method in the
    relative change of `b_k = a_k d_k`, for which the equations are
    `C b = d^(power - 1) b^-power`.
    """
    lengths, cosines, here = split(gramian, present)
    longest = largest(lengths, here)
    relative = ops.where(here, lengths / longest, 1.0)
    matrix = regular(cosines, here)
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
    return ops.where(here, weights, 0.0)


def turns(order: Any, unit: Any) -> list[Any]:
    """For each turn, which branch each branch meets: `(K, K)`, 1 for that one.

    A row is 0 where a branch would meet itself.

    Args:
        order: `(K, K)` int, row i the order of branch i; `None` for 0 .. K - 1.
        unit: The `(K, K)` unit matrix.
    """
    num = unit.shape[0]
    others = 1.0 - unit
    if order is None:
        return [unit[turn : turn + 1] * others for turn in range(num)]
    chosen = ops.one_hot(ops.transpose(order), num, dtype="float32") * others[None]
    return list(ops.unstack(chosen, num=num, axis=0))
