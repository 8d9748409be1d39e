"""Two processes of the example train as one, to rounding; on torch only."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras

EXAMPLE = Path(__file__).parents[2] / "examples" / "several_processes_torch.py"

if keras.backend.backend() == "torch":

    def test_the_short_form():
        result = subprocess.run(
            [sys.executable, EXAMPLE, "--short"],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-4000:]
        from_one, from_each_other = re.findall(r"\d\.?\d*e[-+]\d+", result.stdout)
        assert float(from_one) < 1e-5
        assert float(from_each_other) == 0.0
