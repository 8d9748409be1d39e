"""Python in a process of its own, on the backend of this one.

Each is a fork of a server that has imported Keras and computed nothing, so that not
each spends five seconds on it. TensorFlow is imported too on each backend:
`keras.utils.set_random_seed` and `Model.save` import it.
"""

import multiprocessing
import os
import sys
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["keras", "tensorflow"])
BACKEND = {"KERAS_BACKEND": keras.backend.backend(), "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(code, *arguments, timeout=300):
    """Runs code with `sys.argv[1:]` as given; returns what it printed."""
    os.environ |= BACKEND  # those of the server, which the first process starts
    with TemporaryDirectory() as folder:
        printed, errors = Path(folder, "printed"), Path(folder, "errors")
        process = SERVER.Process(
            target=execute, args=(code, [*map(str, arguments)], printed, errors)
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"It took more than {timeout} s.\n{code}")
        assert process.exitcode == 0, errors.read_text()[-4000:]
        return printed.read_text()


def execute(code, arguments, printed, errors):
    """Runs code as a program, what it prints in files."""
    for descriptor, path in ((1, printed), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(ROOT)
    sys.argv[1:] = arguments
    warnings.simplefilter("error", UserWarning)
    try:
        exec(compile(code, "<fresh>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        raise
