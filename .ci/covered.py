"""Does the suite reach as much of the package as it did? Lines and branches.

    python .ci/covered.py REPORT [--write]

REPORT is what `coverage json` wrote. The floors are in `.ci/covered.json`: the total
must not fall below its floor, and no file may lie more than 5 points under its own (a
file that isn't listed: under the total). With `--write` the report becomes the floors.
"""

import argparse
import json
import sys
from pathlib import Path

FLOORS = Path(__file__).with_suffix(".json")
MARGIN = 5.0  # points that a single file may lose
NOISE = 0.1  # points of the total that not every run reaches


def percentages(report):
    """The covered share of lines and branches: in total, and file by file."""

    def share(summary):
        return round(summary["percent_covered"], 2)

    files = {path: share(file["summary"]) for path, file in report["files"].items()}
    return {"total": share(report["totals"]), "files": dict(sorted(files.items()))}


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("report", type=Path)
parser.add_argument("--write", action="store_true", help="make it the new floors")
options = parser.parse_args()
found = percentages(json.loads(options.report.read_text()))
if options.write:
    FLOORS.write_text(json.dumps(found, indent=1) + "\n")
floors = json.loads(FLOORS.read_text())

under = []
if found["total"] < floors["total"] - NOISE:
    under.append(f"in total {found['total']}%, floor {floors['total']}%")
for path, percent in found["files"].items():
    floor = floors["files"].get(path, floors["total"]) - MARGIN
    if percent < floor:
        under.append(f"{path} {percent}%, floor {floor:.2f}%")
gone = sorted(floors["files"].keys() - found["files"].keys())
if gone:
    under.append(f"no report of {', '.join(gone)} (moved? then --write)")
print(f"Covered: {found['total']}% of lines and branches (floor {floors['total']}%)")
if under:
    sys.exit("Less than before:\n  " + "\n  ".join(under))
