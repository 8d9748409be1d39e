"""Runs all tests, in four processes one after the other: one alone would take 5 GB.

    python tests/run.py [OPTION...]

Options are pytest's, and go to all of them.
"""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
TRAINING = sorted((TESTS / "training").glob("test_*.py"))
HALF = len(TRAINING) // 2
AS_USERS_RUN_IT = [TESTS / "examples", TESTS / "test_docs.py"]  # compiled, and large
PARTS = (
    TRAINING[:HALF],
    TRAINING[HALF:],
    AS_USERS_RUN_IT,
    [TESTS, *(f"--ignore={path}" for path in [TESTS / "training", *AS_USERS_RUN_IT])],
)
NO_TESTS = 5  # pytest's exit code where a part has none of those that were asked for

codes = []
for part in PARTS:
    command = [sys.executable, "-m", "pytest", *map(str, part), *sys.argv[1:]]
    print("python", *command[1:], flush=True)
    codes.append(subprocess.run(command, cwd=TESTS.parent, check=False).returncode)
failed = [code for code in codes if code not in (0, NO_TESTS)]
sys.exit(failed[0] if failed else max(codes) if set(codes) == {NO_TESTS} else 0)
