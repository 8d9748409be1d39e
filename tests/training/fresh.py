"""Python in a process of its own, on the backend of this one."""

import os
import subprocess
import sys
from pathlib import Path

import keras

ROOT = Path(__file__).parents[2]


def run(code, *arguments, timeout=300, **environment):
    """Runs code with `sys.argv[1:]` as given; returns what it printed."""
    environment |= {
        "KERAS_BACKEND": keras.backend.backend(),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
