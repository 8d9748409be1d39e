"""What a release has to agree on."""

import re
from pathlib import Path

import pytest

import lossweigh

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("file", "line"),
    [("setup.cfg", "version = {}"), ("CITATION.cff", "version: {}")],
)
def test_the_version_is_one(file, line):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert line.format(lossweigh.__version__) in lines


def test_the_pythons_are_those_of_the_matrix():
    """As classifiers, and in the words that users read."""
    matrix = (ROOT / ".ci/matrix").read_text(encoding="utf-8")
    pythons = re.search(r'^pythons="(.*)"$', matrix, re.M)[1].split()
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    classified = re.findall(r"Python :: (3\.\d+)$", setup, re.M)
    assert classified == pythons
    assert f"python_requires = >={pythons[0]}" in setup
    words = f"Python {', '.join(pythons[:-1])} or {pythons[-1]}"
    for page in ("README.md", "docs/install.md"):
        assert words in (ROOT / page).read_text(encoding="utf-8")


def test_every_row_of_works_with_is_a_test():
    page = (ROOT / "docs/guides/works-with.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*\| `([\w./]+)` \|$", page, re.M)
    tests = re.findall(
        r"^def (test_\w+)", (ROOT / ".ci/works_with.py").read_text("utf-8"), re.M
    )
    assert len(rows) > 10
    for row in rows:
        assert (ROOT / row).is_file() if "/" in row else row in tests
