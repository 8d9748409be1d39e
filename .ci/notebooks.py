"""The notebooks of examples/notebooks, made from pages of the documentation.

    python .ci/notebooks.py            # is each of them what its page says?
    python .ci/notebooks.py --write    # makes them anew
    python .ci/notebooks.py --run      # executes them, in temporary folders

A notebook has the page's text and code, one cell after the other, and a first cell that
installs lossweigh from the clone that the notebook is in. `--run` needs nbclient and
ipykernel.
"""

import argparse
import importlib.util
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "examples/notebooks"
PAGES = {  # and the extra that each needs
    "start": ("docs/index.md", "plot"),
    "compare": ("docs/guides/compare.md", "compare"),
    "physics": ("docs/guides/physics.md", "plot"),
}
PYTHON = re.compile(r"^```python\n(.*?)^```\n", re.M | re.S)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#]+)")


def cells(page):
    """The page's cells: (kind, source)."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"\A---\n.*?^---\n", "", text, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->\n*", "", text, flags=re.S)
    text = re.sub(r"(\]\([^)]*\))\{[^}]*\}", r"\1", text)  # widths of pictures

    def moved(match):
        """The path of what a link leads to, from the notebook's folder."""
        target = (page.parent / match[1]).resolve().relative_to(ROOT)
        if target.parent.name == "gallery" and target.stem != "index":
            target = Path("examples", f"{target.stem}.py")  # its page is made of it
        return f"../../{target.as_posix()}"

    text = LINK.sub(moved, text)
    pieces = PYTHON.split(text)
    for index, piece in enumerate(pieces):
        if piece.strip():
            yield ("code" if index % 2 else "markdown"), piece.strip()


def notebook(name):
    """The text of a notebook's file."""
    page, extra = PAGES[name]
    # Not with -e: a kernel that runs already wouldn't see it.
    install = (
        "# This notebook is in a clone, and so is what it installs.\n"
        f'%pip install -q "../..[{extra}]"'
    )
    sources = [("code", install), *cells(ROOT / page)]
    content = {
        "cells": [cell(number, *source) for number, source in enumerate(sources)],
        "metadata": {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def cell(number, kind, source):
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {
        "cell_type": kind,
        **code,
        "id": f"cell-{number}",
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }


def path(name):
    return NOTEBOOKS / f"{name}.ipynb"


def run(name):
    """Executes a notebook in its folder. Returns how many cells of code it has."""
    import nbclient
    import nbformat

    content = nbformat.read(path(name), as_version=4)
    nbformat.validate(content)
    client = nbclient.NotebookClient(
        content, timeout=1200, resources={"metadata": {"path": NOTEBOOKS}}
    )
    client.execute()
    return sum(each.cell_type == "code" for each in content.cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--run", action="store_true")
    options = parser.parse_args()
    missing = [
        name
        for name in ("nbclient", "ipykernel")
        if options.run and importlib.util.find_spec(name) is None
    ]
    if missing:
        sys.exit(
            f"To run the notebooks takes {' and '.join(missing)}: pip install "
            f"{' '.join(missing)}"
        )
    for name in PAGES:
        if options.write:
            path(name).write_text(notebook(name), encoding="utf-8")
        elif path(name).read_text(encoding="utf-8") != notebook(name):
            sys.exit(
                f"{path(name).name} isn't what {PAGES[name][0]} says: "
                "python .ci/notebooks.py --write"
            )
        if options.run:
            print(f"{name}: {run(name)} cells ran", flush=True)


if __name__ == "__main__":
    main()
