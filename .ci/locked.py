"""Is everything that is installed here the release that constraints.txt names?

Without a pin a dependency of a dependency changes from one day to the next, and with
it what is green. CONTRIBUTING.md says how the file is made.
"""

import importlib.metadata
import re
import sys
from pathlib import Path

NOT_PINNED = {"lossweigh", "pip"}  # what is tested, and what installs it


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


lines = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
pins = {}
for line in lines:
    found = re.match(r"([\w.-]+)==([^\s;]+)", line)
    if found:
        pins.setdefault(normalized(found[1]), set()).add(found[2])

wrong = []
for distribution in importlib.metadata.distributions():
    name = normalized(distribution.metadata["Name"])
    version = distribution.version.split("+")[0]  # 2.13.0+cpu is 2.13.0
    if name not in NOT_PINNED and version not in pins.get(name, ()):
        pinned = ", ".join(sorted(pins.get(name, ["nothing"])))
        wrong.append(f"{name} is {version}, constraints.txt says {pinned}")
if wrong:
    sys.exit("Not what constraints.txt says:\n  " + "\n  ".join(sorted(wrong)))
print(f"{len(pins)} releases are pinned, and what is installed is among them")
