"""Whole trainings against a NumPy loop: a toy that another library tests itself with.

`benchmarks/physicsnemo_sym.py` says what the toy is, and compares with that library's
stored numbers.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest

import lossweigh as lw

TOY = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/physicsnemo_sym.py"))
SIGNS = np.array(list(TOY["SIGNS"].values()))
STEPS, RATE, TEMPERATURE = 60, 0.06, 0.1
# Columns of several sizes, so that it matters how the losses are weighed.
POINTS = np.random.default_rng(0).uniform(size=(8, 3)) * [1.0, 0.2, 3.0]


def losses_and_gradients(w, b):
    """`(3,)`, and those of `w` and `b` for each: `(3, n, n)` and `(3, n, 1)`."""
    value = w @ POINTS + b + SIGNS * POINTS**2
    active = (value > 0) / len(w)
    of_w = np.einsum("ik,jk->kij", active, POINTS)
    return (value * (value > 0)).mean(axis=0), of_w, active.T[:, :, None]


def loop(weigh):
    """`w`, `b` and the last weighted loss; `weigh` sees all losses up to this step."""
    number = len(POINTS)
    w, b, lost = np.ones((number, number)), np.ones((number, 1)), []
    weights = np.ones(3)
    for step in range(STEPS):
        losses, of_w, of_b = losses_and_gradients(w, b)
        lost.append(losses)
        weights = weigh(weights, np.array(lost), of_w, of_b)
        rate = RATE / 3 if step < 5 else RATE
        w = w - rate * np.tensordot(weights, of_w, 1)
        b = b - rate * np.tensordot(weights, of_b, 1)
    return {"w_np": w, "b_np": b, "loss_np": weights @ losses}


def plain(weights, lost, of_w, of_b):
    return np.ones(3)


def annealed(weights, lost, of_w, of_b):
    elements = np.concatenate([of_w.reshape(3, -1), of_b.reshape(3, -1)], axis=1)
    sizes = np.abs(elements).mean(axis=1)
    goals = np.divide(sizes[0], sizes, where=sizes > 0, out=np.zeros(3))
    moved = (sizes > 0) & (sizes[0] > 0)
    return np.where(moved, 0.9 * weights + 0.1 * goals, weights)


def relative(look_back):
    """ReLoBRaLo without chance: it looks back in each step, or in none."""

    def weigh(weights, lost, of_w, of_b):
        if len(lost) == 1:
            return weights

        def balance(before):
            exponents = lost[-1] / before / TEMPERATURE
            powers = np.exp(exponents - exponents.max())
            return 3 * powers / powers.sum()

        past = balance(lost[0]) if look_back else weights
        return 0.5 * past + 0.5 * balance(lost[-2])

    return weigh


CASES = {
    "sum": (plain, dict),
    "learning rate annealing": (
        annealed,
        lambda: {
            "balancer": lw.LearningRateAnnealing(level="parameters", momentum=0.9)
        },
    ),
    **{
        f"relative losses, look back {chance}": (
            relative(chance),
            lambda chance=chance: {
                "weighter": lw.ReLoBRaLo(
                    momentum=0.5, keep_probability=1 - chance, temperature=TEMPERATURE
                )
            },
        )
        for chance in (0, 1)
    },
}


@pytest.mark.parametrize("case", CASES)
def test_against_a_loop(case):
    weigh, arguments = CASES[case]
    expected, unweighted = loop(weigh), loop(plain)
    found = TOY["train"](POINTS.astype("float32"), STEPS, RATE, **arguments())
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-5)
    different = np.abs(expected["w_np"] - unweighted["w_np"]).max()
    assert (different > 0.05) == (case != "sum")
