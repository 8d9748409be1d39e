"""The pages are run: what README.md and docs/ show, works."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# A fence at the start of a line; what follows `python` is for the renderer.
PYTHON_BLOCK = re.compile(r"^```python\b[^\n]*\n(.*?)^```[ \t]*$", re.M | re.S)
ANY_PYTHON_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(?:python|py|pycon)\b", re.M)


def python_blocks(page):
    """The page's Python blocks: (number of the first line, source)."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(1)) + 1, match.group(1))
        for match in PYTHON_BLOCK.finditer(text)
    ]


def relative(page):
    return page.relative_to(ROOT).as_posix()


# What users run first, and what takes many steps.
COMPILED = ("README.md", "docs/index.md", "docs/guides/physics.md")


def pages_that_run():
    for page in PAGES:
        if python_blocks(page):
            everywhere = relative(page) in ("README.md", "docs/concepts/branches.md")
            marks = [] if everywhere else [pytest.mark.once]
            if relative(page) in COMPILED:
                marks.append(pytest.mark.compiled)
            yield pytest.param(page, marks=marks, id=relative(page))


@pytest.mark.parametrize("page", list(pages_that_run()))
def test_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run in order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": f"page_{page.stem.replace('-', '_')}"}
    for line, source in python_blocks(page):
        # Blank lines before it give a traceback the page's own line numbers.
        code = compile("\n" * (line - 1) + source, str(page), "exec")
        exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_python_block_is_found(page):
    """No block escapes by being indented or fenced in another way."""
    text = page.read_text(encoding="utf-8")
    assert len(ANY_PYTHON_FENCE.findall(text)) == len(python_blocks(page))


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=relative)
def test_python_blocks_fit_their_column(page):
    """The site's column has room for 76 characters at 1440 pixels."""
    lines = [line for _, source in python_blocks(page) for line in source.split("\n")]
    assert [line for line in lines if len(line) > 76] == []


def test_pages_with_code():
    with_code = {relative(page) for page in PAGES if python_blocks(page)}
    assert {"README.md", "docs/index.md", "docs/concepts/two-models.md"} <= with_code


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = re.search(r"^nav:\n((?:[ \t]+.*\n|\n)+)", text, re.M).group(1)
    listed = re.findall(r"([\w./-]+\.md)[\"']?[ \t]*$", nav, re.M)
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(pages)


def test_the_files_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(
        re.findall(r"(?:docs|examples|tests)/[\w/.-]*\w\.(?:md|png|py)\b", text)
    )
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
