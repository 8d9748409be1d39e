"""The notebooks are what their pages say, and what runs them asks for it in words."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def notebooks():
    path = ROOT / ".ci/notebooks.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", ["start", "compare", "physics"])
def test_a_notebook_is_its_page(notebooks, name):
    text = notebooks.path(name).read_text(encoding="utf-8")
    assert text == notebooks.notebook(name), "python .ci/notebooks.py --write"
    first, *cells = json.loads(text)["cells"]
    assert "%pip install" in "".join(first["source"])
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    page = (ROOT / notebooks.PAGES[name][0]).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert code == [block.strip() for block in blocks]


@pytest.mark.parametrize("name", ["start", "compare", "physics"])
def test_the_links_of_a_notebook_lead_somewhere(notebooks, name):
    links = re.findall(r"\]\((\.\./[^)#]+)", notebooks.notebook(name))
    assert links
    for link in links:
        assert (notebooks.NOTEBOOKS / link).resolve().is_file(), link


def test_what_runs_the_notebooks_is_missing_in_words():
    """Without site-packages it is."""
    command = [sys.executable, "-I", "-S", ROOT / ".ci/notebooks.py", "--run"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert "pip install nbclient ipykernel" in run.stderr
