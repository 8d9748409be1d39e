"""Liu et al.: conflict-averse gradient descent."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._backend import float32_product
from lossweigh.balancing import _cosines, _solvers
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class CAGrad(Balancer):
    """The best for the worst branch, within a ball about the mean gradient.

        d = argmax { min_k g_k . d : ||d - g_0|| <= c ||g_0|| }
          = g_0 + c ||g_0|| g_a / ||g_a||,
        a = argmin { g_a . g_0 + c ||g_0|| ||g_a|| : a >= 0, sum_k a_k = 1 }

    with `g_k` the gradient of branch k, `g_0` their mean, `g_a = sum_k a_k g_k` and
    `c` how far from the mean to go. With `c = 0` it is the mean; the larger `c`,
    the nearer to the direction of `MGDA`. Below 1 it converges to a minimum of the
    mean loss.

    `w_k = 1/K + z_k` with `z_k >= 0`: the weights sum to at least 1, and the
    combined gradient is at most `1 + c` as long as the mean. A gradient of 0 counts
    in the mean and has the weight 1/K. Identical gradients have equal weights.
    Where gradients can cancel out (`g_a = 0`, for which the formula is not
    defined), a ridge of 1e-5 on the cosines keeps the weights finite and `d` within
    the ball. For K = 1 the weight is `1 + c`.

    Differs from the authors' code, which divides `d` by `1 + c^2`: that is
    `rescale=True`. The problem is solved exactly.

    Args:
        radius: Float of at least 0, `c`: of the ball, in lengths of the mean.
        rescale: Whether to divide the weights by `1 + c^2`.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If `radius` is out of range.

    Examples:
        >>> from keras import ops
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> weights = CAGrad(radius=0.5).solve(gramian)
        >>> print(ops.convert_to_numpy(weights).round(3))
        [0.704 0.5  ]

    Reference:
        B. Liu, X. Liu, X. Jin, P. Stone, Q. Liu. Conflict-averse gradient descent
        for multi-task learning. NeurIPS 2021.
    """

    def __init__(
        self, *, radius: float = 0.5, rescale: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.radius = _check.not_negative("radius", radius)
        self.rescale = bool(rescale)

    def solve(self, gramian: Any, present: Any = None) -> Any:
        lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
        kept = _cosines.presence(present, cosines.shape[0])
        mean = kept / ops.maximum(ops.sum(kept), 1.0)
        if self.radius == 0.0:
            return mean
        longest = _cosines.largest(lengths, nonzero)
        # In parts of the longest, with u_k the gradients' directions:
        # pull_k = u_k . g_0, and mu * shares_k what d . u_k must at least be.
        parts = mean * lengths / longest
        pull = ops.sum(cosines * parts[None, :], axis=-1)
        radius = self.radius * ops.sqrt(ops.maximum(ops.sum(parts * pull), 0.0))
        shares = ops.where(nonzero, _cosines.smallest(lengths, nonzero) / lengths, 0.0)
        factors = _within(_cosines.add_ridge(cosines, nonzero), pull, shares, radius)
        weights = mean + ops.where(nonzero, factors * (longest / lengths), 0.0)
        return weights / (1.0 + self.radius**2) if self.rescale else weights

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "radius": self.radius, "rescale": self.rescale}


def _within(matrix: Any, pull: Any, shares: Any, radius: Any) -> Any:
    """`z >= 0`, `(K,)`, of `d = g_0 + sum_k z_k u_k`.

    The conditions of the optimum, with `C` the cosines: there is a `mu` with

        C z >= mu s - q,  z >= 0,  z' (C z - mu s + q) = 0,  z' C z = r^2

    For a `mu` the first three are a nonnegative quadratic problem, solved by
    pivoting; on the branches with `z > 0` the last is a quadratic equation for
    `mu`. As `sqrt(z' C z)` is convex in `mu`, going from one to the other comes
    down to the solution in a few steps.

    Args:
        matrix: `C`, `(K, K)`.
        pull: `q`, `(K,)`, the products with the mean.
        shares: `s`, `(K,)`, what `mu` is multiplied with.
        radius: `r`, how long `sum_k z_k u_k` is.
    """
    num = matrix.shape[0]
    unit = ops.eye(num, dtype="float32")
    sides = ops.stack([shares, pull], axis=-1)
    margin = _solvers.MARGIN * (ops.max(ops.abs(pull)) + radius) + 1e-37

    def solutions(free: Any, ridge: Any) -> tuple[Any, Any, Any]:
        """What `z` and the slack are, as `mu x[0] - x[1]`, and the root for mu."""
        inner = free[:, None] & free[None, :]
        inner = ops.where(inner, matrix + ridge * unit, unit)
        inside = ops.where(free[:, None], sides, 0.0)
        x = ops.solve(inner, inside)
        values = ops.where(free[:, None], x, float32_product(matrix, x) - sides)
        # z' C z = mu^2 a - 2 mu b + e
        a = ops.maximum(ops.sum(inside[:, 0] * x[:, 0]), 1e-30)
        b = ops.sum(inside[:, 0] * x[:, 1])
        e = ops.sum(inside[:, 1] * x[:, 1]) - radius * radius
        root = (b + ops.sqrt(ops.maximum(b * b - a * e, 0.0))) / a
        return x, values, root

    def look(free: Any, mu: Any, ridge: Any) -> tuple[Any, Any, Any]:
        x, values, root = solutions(free, ridge)
        faults = (values[:, 1] - mu * values[:, 0]) / margin
        mu = ops.where(ops.any(faults > 1.0), mu, root)
        faults = (values[:, 1] - mu * values[:, 0]) / margin
        return ops.where(free, mu * x[:, 0] - x[:, 1], 0.0), mu, faults

    def go_on(free: Any, z: Any, mu: Any, faults: Any, *others: Any) -> Any:
        return ops.any(faults > 1.0) & (others[-1] < 30 + 3 * num)

    def exchange(
        free: Any, z: Any, mu: Any, faults: Any, *others: Any
    ) -> tuple[Any, ...]:
        swapped, *kept = _solvers.pivots(faults, *others)
        free = free ^ swapped
        return free, *look(free, mu, kept[0]), *kept

    # The least that any branch alone allows is no less than the solution.
    nonzero = shares > 0.0
    highest = ops.min(
        ops.where(nonzero, (pull + radius) / ops.where(nonzero, shares, 1.0), 3e38)
    )
    free = nonzero & (highest * shares - pull > 0.0)
    start = (free, *look(free, highest, 0.0), *_solvers.first_pivots(pull))
    z = ops.maximum(ops.while_loop(go_on, exchange, start)[1], 0.0)
    # Within the ball, even if rounding didn't let the pivots end.
    length = ops.sqrt(ops.maximum(ops.sum(matrix * z[:, None] * z[None, :]), 0.0))
    return z * ops.where(length > radius, radius / ops.maximum(length, 1e-30), 1.0)
