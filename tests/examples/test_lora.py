"""LoRA: the tasks' sequences, what is frozen, the saved file, and the short form."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

import lossweigh as lw

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "lora.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_each_sequence_is_of_one_task(example):
    tokens, targets = example["draw_sequences"](60, 0, ["repeat", "add_one", "nines"])
    assert tokens.shape == (60, 8)
    expected = {10: lambda d: d, 11: lambda d: (d + 1) % 10, 12: lambda d: 9 - d}
    for row, sequence in enumerate(tokens.tolist()):
        sign, digits, answer = sequence[0], sequence[1:5], sequence[5:]
        solved = [expected[sign](digit) for digit in digits]
        assert answer == solved[:3]
        for index, target in enumerate(targets.values()):
            mine = index == sign - 10
            assert target[row].tolist() == [-1] * 4 + (solved if mine else [-1] * 4)


def test_no_step_sees_what_comes_after_it(example):
    predictor, _ = example["build"]()
    tokens, _ = example["draw_sequences"](4, 0, ["repeat"])
    other = tokens.copy()
    other[:, 5:] = 0
    before, after = (predictor.predict(t, verbose=0) for t in (tokens, other))
    np.testing.assert_allclose(before[:, :5], after[:, :5], atol=1e-6)
    assert not np.allclose(before[:, 5:], after[:, 5:], atol=1e-6)


def test_only_the_small_parts_and_biases_learn(example, tmp_path):
    predictor, dense = example["build"]()
    example["freeze_all_but_lora"](predictor, dense, rank=2)
    kernels = [layer.weights[0] for layer in dense]
    learns = {id(variable) for variable in predictor.trainable_variables}
    assert not learns & {id(kernel) for kernel in kernels}
    before = {id(v): keras.ops.convert_to_numpy(v) for v in predictor.variables}
    # Two steps: in the first one the second factors are 0, and the first ones stay.
    example["fit"](predictor, lw.FixedWeights(), example["TASKS"], 64, 2, 0.01)
    for variable in predictor.variables:
        same = np.array_equal(
            before[id(variable)], keras.ops.convert_to_numpy(variable)
        )
        assert same != (id(variable) in learns), variable.path
    predictor.save(tmp_path / "predictor.keras")
    loaded = keras.saving.load_model(tmp_path / "predictor.keras")
    tokens, _ = example["draw_sequences"](8, 1, ["nines"])
    said, again = (model.predict(tokens, verbose=0) for model in (predictor, loaded))
    np.testing.assert_allclose(said, again, rtol=1e-4, atol=1e-6)


def test_the_short_form(example, tmp_path, capsys):
    rows = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for name, (trained, values) in rows.items():
        cells = "".join(f"{value:>10.3f}" for value in values)
        assert f"{name:<22}{trained:>8}{cells}" in printed
    full = rows[example["FULL"]][0]
    assert 0 < rows["equal weights"][0] < full / 4
    assert example["in_words"](rows) in printed
    assert "The saved model's accuracies differ by 0.000." in printed
    assert (tmp_path / "lora.png").stat().st_size > 10_000
