"""Every method that TorchJD has, on drawn sets of gradients: 100, and 500 if it's long.

K of 2, 5 and 16, scales from 1e-6 to 1e6; well-conditioned, in conflict, linearly
dependent, of unequal lengths, with a gradient of 0: where a test has fewer of these,
it says why. The combined gradients are
compared in parts of the lengths that go into them, which is what float32 rounds:
weights aren't unique where gradients depend on each other. TorchJD gets float64.

Where TorchJD isn't exact, or follows another definition, an oracle of our own in
float64 decides, and the comment says why.
"""

import sys

import numpy as np
import pytest
import torch
from gramians import array, drawn, parts, solve, walk
from keras import ops
from torchjd import aggregation
from torchjd.linalg import QuadprogProjector

from lossweigh.balancing import GradDrop, GradVac, PCGrad
from lossweigh.gradients.written_out import WrittenOut

drawn_sets = pytest.mark.parametrize(
    "number", [100, pytest.param(500, marks=pytest.mark.long)]
)
PROJECTOR = QuadprogProjector(norm_eps=0.0, reg_eps=1e-4)


def weights_of(weighting, jacobian):
    gramian = torch.tensor(jacobian @ jacobian.T, dtype=torch.float64)
    return weighting(gramian).numpy()


def assert_same_direction(jacobian, weights, expected, tolerance=1e-3):
    """Equal combined gradients, up to the rounding of what they are made of."""
    error = np.linalg.norm((weights - expected) @ jacobian)
    size = max(parts(jacobian, expected), parts(jacobian, weights))
    assert error <= tolerance * size, (error / size, weights, expected)


@drawn_sets
@pytest.mark.parametrize("name", ["UPGrad", "DualProj"])
@pytest.mark.parametrize("preferred", [False, True])
def test_projections(name, preferred, number):
    rng = np.random.default_rng(0)
    weighting = getattr(aggregation, f"{name}Weighting")
    preferences = {num: rng.uniform(0, 2, num) for num in (2, 5, 16)}
    sizes = (5,) if preferred else (2, 5, 16)
    number = number // 2 if preferred else number
    for jacobian in drawn(number, seed=int(preferred), sizes=sizes):
        preference = preferences[len(jacobian)]
        arguments, theirs = {}, None
        if preferred:
            arguments = {"preferences": list(preference)}
            theirs = torch.tensor(preference, dtype=torch.float64)
        expected = weights_of(weighting(theirs, projector=PROJECTOR), jacobian)
        weights = solve(name, jacobian @ jacobian.T, **arguments)
        assert_same_direction(jacobian, weights, expected)
        np.testing.assert_allclose(
            weights, expected, rtol=2e-2, atol=2e-3 * expected.max()
        )


@drawn_sets
def test_mgda(number):
    """TorchJD's Frank-Wolfe steps stop early; ours must be at least as short.

    `test_solvers.py` compares the shortest combination with SciPy's.
    """
    weighting = aggregation.MGDAWeighting(epsilon=1e-3, max_iters=100)
    for jacobian in drawn(number, sizes=(2, 5, 16)):
        longest = np.linalg.norm(jacobian, axis=1).max()
        expected = weights_of(weighting, jacobian) @ jacobian
        found = solve("MGDA", jacobian @ jacobian.T) @ jacobian
        assert np.linalg.norm(found) <= np.linalg.norm(expected) + 1e-4 * longest
        # By convexity nothing on the simplex is nearer to 0 than the shortest.
        close = np.linalg.norm(expected) ** 2 - np.linalg.norm(found) ** 2
        assert np.linalg.norm(found - expected) ** 2 <= close + 1e-3 * longest**2


def draw_as_torchjd(num, generator_seed, others):
    """Draws whose argsort is the order in which TorchJD visits branches."""
    torch.manual_seed(generator_seed)
    draws = np.zeros((num, num))
    for i in range(num):
        if others:
            order = np.delete(np.arange(num), i)[torch.randperm(num - 1).numpy()]
            order = np.append(order, i)
        else:
            order = torch.randperm(num).numpy()
        draws[i, order] = np.arange(num) / num
    torch.manual_seed(generator_seed)
    return draws


@drawn_sets
def test_pcgrad(number):
    weighting = aggregation.PCGradWeighting()
    cases = list(drawn(number, sizes=(2, 5, 16)))
    for num in (2, 5, 16):
        jacobians = [case for case in cases if len(case) == num]
        draws = [draw_as_torchjd(num, i, False) for i in range(len(jacobians))]
        found, _ = walk(
            PCGrad(),
            [
                {"gramian": jacobian @ jacobian.T, "draws": draw}
                for jacobian, draw in zip(jacobians, draws, strict=True)
            ],
        )
        for i, jacobian in enumerate(jacobians):
            draw_as_torchjd(num, i, False)
            # Cosines of -0.0 with a gradient of 0 are no conflict.
            expected = weights_of(weighting, jacobian)
            assert_same_direction(jacobian, found[i], expected)


@drawn_sets
def test_grad_vac(number):
    """Over many steps with one state. Without gradients of 0: TorchJD's average
    moves towards 0 with these, ours waits.
    """
    kinds = ["plain", "conflicting", "deficient", "lengths"]
    cases = list(drawn(number, sizes=(2, 5, 16), kinds=kinds))
    for num in (2, 5, 16):
        jacobians = [case for case in cases if len(case) == num]
        weighting = aggregation.GradVacWeighting(beta=0.5, eps=0.0)
        draws = [draw_as_torchjd(num, i, True) for i in range(len(jacobians))]
        found, _ = walk(
            GradVac(momentum=0.5),
            [
                {"gramian": jacobian @ jacobian.T, "draws": draw}
                for jacobian, draw in zip(jacobians, draws, strict=True)
            ],
        )
        for i, jacobian in enumerate(jacobians):
            draw_as_torchjd(num, i, True)
            expected = weights_of(weighting, jacobian)
            assert_same_direction(jacobian, found[i], expected, 3e-3)


@drawn_sets
def test_cagrad(number):
    """The optimum of the worst branch is compared: where gradients can cancel out
    TorchJD gives weights of 0, and there are many solutions.
    """
    weighting = aggregation.CAGradWeighting(c=0.5, norm_eps=1e-30)
    for jacobian in drawn(number, sizes=(2, 5, 16)):
        unit = np.linalg.norm(jacobian, axis=1).max()
        jacobian = jacobian / unit
        mean = jacobian.mean(axis=0)
        weights = solve("CAGrad", jacobian @ jacobian.T)
        expected = weights_of(weighting, jacobian)
        found = weights @ jacobian
        best = (jacobian @ (expected @ jacobian)).min()
        radius = 0.5 * np.linalg.norm(mean)
        assert (jacobian @ found).min() >= best - 1e-3 * np.linalg.norm(mean)
        assert np.linalg.norm(found - mean) <= radius * (1 + 1e-3) + 1e-5
        added = expected - 1 / len(jacobian)
        if jacobian.any(axis=1).all() and parts(jacobian, added) < 20 * radius:
            error = np.linalg.norm(found - expected @ jacobian)
            assert error < 1e-2 * np.linalg.norm(mean)


@drawn_sets
def test_imtl_g(number):
    """Where more branches than dimensions leave no equal projection, `pinv(G)` is
    what TorchJD has; gradients are compared up to the length, as the weights' sum
    may be near 0.
    """
    weighting = aggregation.IMTLGWeighting()
    for jacobian in drawn(number, sizes=(2, 5, 16)):
        unit = np.linalg.norm(jacobian, axis=1).max()
        jacobian = jacobian / unit
        weights = solve("IMTLG", jacobian @ jacobian.T)
        expected = weights_of(weighting, jacobian)
        size = np.abs(expected).sum()
        assert_same_direction(jacobian, weights, expected, 2e-3 * max(size, 1) ** 2)


@drawn_sets
@pytest.mark.parametrize("preferred", [False, True])
def test_aligned_mtl(preferred, number):
    rng = np.random.default_rng(0)
    preferences = {num: rng.uniform(0, 2, num) for num in (2, 5, 16)}
    sizes = (5,) if preferred else (2, 5, 16)
    number = number // 2 if preferred else number
    for jacobian in drawn(number, seed=int(preferred), sizes=sizes):
        arguments, theirs = {}, None
        if preferred:
            preference = preferences[len(jacobian)]
            arguments = {"preferences": list(preference)}
            theirs = torch.tensor(preference, dtype=torch.float64)
        weights = solve("AlignedMTL", jacobian @ jacobian.T, **arguments)
        expected = weights_of(aggregation.AlignedMTLWeighting(theirs), jacobian)
        assert_same_direction(jacobian, weights, expected, 2e-3)


@drawn_sets
def test_config(number):
    """Where gradients are opposite there is no direction that they agree on. Ours
    gives nothing then; TorchJD gives the rounding of its pseudo-inverse, scaled to
    unit length, which differs from one processor to another.
    """
    aggregator = aggregation.ConFIG()
    opposite = 0
    for jacobian in drawn(number):
        weights = solve("ConFIG", jacobian @ jacobian.T)
        lengths = np.linalg.norm(jacobian, axis=1, keepdims=True)
        units = jacobian / np.where(lengths > 0, lengths, 1.0)
        agreed = np.linalg.pinv(units, rcond=1e-9) @ (lengths[:, 0] > 0)
        if np.linalg.norm(agreed) < 1e-9:
            opposite += 1
            assert not weights.any()
        else:
            expected = aggregator(torch.tensor(jacobian)).numpy()
            error = np.linalg.norm(weights @ jacobian - expected)
            assert error < 1e-3 * parts(jacobian, weights)
    assert 0 < opposite < 0.1 * number


@drawn_sets
def test_grad_drop(number):
    """With TorchJD's random numbers, element by element: all of one K side by side.

    Where such a number is as near to the purity as float32 rounds, either sign may win.
    """
    cases = [jacobian.astype("float32") for jacobian in drawn(number, sizes=(2, 5, 16))]
    for num in (2, 5, 16):
        jacobians = [case for case in cases if len(case) == num]
        uniform, expected = [], []
        for index, jacobian in enumerate(jacobians):
            matrix = torch.tensor(jacobian, dtype=torch.float64)
            torch.manual_seed(index)
            uniform.append(torch.rand(matrix.shape[1], dtype=torch.float64).numpy())
            torch.manual_seed(index)
            expected.append(aggregation.GradDrop()(matrix).numpy())
        rows, uniform = np.concatenate(jacobians, axis=1), np.concatenate(uniform)
        given = [ops.convert_to_tensor(row) for row in rows]
        noise = ops.convert_to_tensor(uniform.astype("float32"))
        site = WrittenOut(tuple(range(num)), given)
        found = array(GradDrop().combine(site, ops.ones(num), noise))
        length = np.abs(rows.astype(float)).sum(0)
        purity = 0.5 * (1 + rows.astype(float).sum(0) / np.where(length, length, 1.0))
        clear = np.abs(purity - uniform) > 1e-5
        assert clear.mean() > 0.99
        error = np.abs(found - np.concatenate(expected))[clear]
        assert (error <= 1e-6 * length[clear]).all()


@drawn_sets
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_fair_grad(alpha, number):
    """TorchJD's least squares end far from a solution unless the scale is 1, so the
    gradients are given to it at that; `test_fair_grad.py` has the equation itself
    for the other scales, which fixes the answer.
    """
    weighting = aggregation.FairGradWeighting(alpha=alpha)
    kinds = ["plain", "conflicting", "lengths"]
    compared = 0
    for jacobian in drawn(number, sizes=(2, 5, 16), kinds=kinds, log_scale=0):
        jacobian = jacobian / np.linalg.norm(jacobian)
        gramian = jacobian @ jacobian.T
        expected = weights_of(weighting, jacobian)
        residual = np.abs(gramian @ expected - expected ** (-1 / alpha))
        if (residual < 1e-4 * (np.abs(gramian) @ expected)).all():
            compared += 1
            weights = solve("FairGrad", gramian, alpha=alpha)
            assert_same_direction(jacobian, weights, expected)
    assert compared > 0.95 * number


@drawn_sets
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="ECOS has no build for it")
@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_nash_mtl(number):
    """TorchJD's constraint and its objective agree where the Gramian's norm is 1, so
    it is given that. Its convex approximations stop before they have a solution for
    some of the others, above all those of unequal lengths; `test_nash_mtl.py` has the
    equation itself, at all scales, which fixes the answer.
    """
    kinds = ["plain", "conflicting", "lengths"]
    compared = 0
    for jacobian in drawn(number * 7 // 5, sizes=(2, 5, 16), kinds=kinds, log_scale=0):
        jacobian = jacobian / np.linalg.norm(jacobian @ jacobian.T) ** 0.5
        gramian = jacobian @ jacobian.T
        weighting = aggregation.NashMTL(len(jacobian), max_norm=0.0).weighting
        expected = weighting(torch.tensor(jacobian)).numpy()
        if (np.abs(gramian @ expected - 1 / expected) < 1e-2 / expected).all():
            compared += 1
            weights = solve("NashMTL", gramian)
            assert_same_direction(jacobian, weights, expected)
            np.testing.assert_allclose(weights, expected, rtol=1e-2)
    assert compared >= number
