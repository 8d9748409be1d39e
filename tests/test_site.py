"""The documentation's own code: formulas and the pages of the reference."""

import re
import sys
from pathlib import Path

import pytest

import lossweigh

ROOT = Path(__file__).parent.parent
HOOKS = ROOT / "docs/hooks"
REFERENCE = ROOT / "docs/reference"
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def hooks():
    sys.path.insert(0, str(HOOKS))
    import formulas
    import reference

    yield formulas, reference
    sys.path.remove(str(HOOKS))


def entries(reference):
    """The entries of each page of the reference."""
    pages = {page.name: page.read_text() for page in REFERENCE.glob("*.md")}
    return {
        name: reference.ENTRY.findall(reference.on_page_markdown(text))
        for name, text in pages.items()
    }


def test_each_public_name_has_one_entry(hooks):
    _, reference = hooks
    listed = [path for paths in entries(reference).values() for path in paths]
    assert len(listed) == len(set(listed))
    modules = {"losses", "metrics", "callbacks", "layers", "points"}
    expected = {f"lossweigh.{name}" for name in set(lossweigh.__all__) - modules}
    for module in modules:
        names = getattr(lossweigh, module).__all__
        expected |= {f"lossweigh.{module}.{name}" for name in names}
    # One entry for a thing with two names.
    expected -= {"lossweigh.ignore_loss", "lossweigh.CollapseWarning"}
    assert set(map(reference.entry, expected)) - set(listed) == set()


def test_a_table_has_a_line_for_each_entry(hooks):
    _, reference = hooks
    for page in REFERENCE.glob("*.md"):
        text = reference.on_page_markdown(page.read_text())
        paths = reference.ENTRY.findall(text)
        assert re.findall(r"^\| \[`\w+`\]\[([\w.]+)\]", text, re.M) == paths


def test_a_name_in_code_is_a_link(hooks):
    _, reference = hooks

    def target(html):
        return re.findall(r'identifier="(.*?)"', reference.on_page_content(html))

    assert target("<code>UPGrad</code>") == ["lossweigh.UPGrad"]
    assert target("<code>lw.losses.Center()</code>") == ["lossweigh.losses.Center"]
    assert target("<code>training.fit</code>") == ["lossweigh.TrainingModel.fit"]
    assert target("<code>lw.suggest</code>") == ["lossweigh.suggestion.suggest.suggest"]
    assert target("<code>fit</code> <pre><code>UPGrad</code></pre>") == []
    assert target('<a href="x"><code>UPGrad</code></a>') == []


@pytest.mark.parametrize(
    ("text", "mathml"),
    [
        ("x = a / b", "<mfrac><mi>a</mi><mi>b</mi></mfrac>"),
        ("x = 1 / (a b)", "<mfrac><mn>1</mn><mrow><mi>a</mi><mi>b</mi></mrow></mfrac>"),
        # The sum is over k, and so is what it is divided by: the fraction is inside.
        ("x = sum_k a_k / b_k", "</munder>{thin}<mfrac>"),
        ("x = sum_k a_k / sum_j b_j", "<mfrac><mrow><munder>"),
        ("x = sqrt(a_k)", "<msqrt><msub><mi>a</mi><mi>k</mi></msub></msqrt>"),
        ("x_ij = a^2", "<msub><mi>x</mi><mrow><mi>i</mi><mi>j</mi></mrow></msub>"),
        ("x = <a, b>", "\u27e8</mo><mrow><mi>a</mi><mo>,</mo><mi>b</mi></mrow>"),
        ("a_k < b", '<mo form="infix">&lt;</mo><mi>b</mi>'),
        ("a_k over b", "</math><math>{style}<mtext>\u00a0over\u00a0</mtext>"),
        ("x = sigma_k", "<msub><mi>\u03c3</mi><mi>k</mi></msub>"),
    ],
)
def test_formula(hooks, text, mathml):
    formulas, _ = hooks
    thin = '<mspace width="0.17em"></mspace>'
    style = '<mstyle displaystyle="true">'
    assert mathml.format(thin=thin, style=style) in formulas.typeset(text)


@pytest.mark.parametrize("text", ['x = f("a")', "pip install x", "x = (a", "x = a_"])
def test_what_is_no_formula_stays_code(hooks, text):
    formulas, _ = hooks
    with pytest.raises(formulas.NotAFormula):
        formulas.typeset(text)
    escaped = text.replace('"', "&quot;")
    block = f'<div class="highlight"><pre><code>{escaped}</code></pre></div>'
    assert formulas.on_page_content(block) == block


def test_the_formulas_of_methods_are_typeset(hooks):
    """None of them is written in a way that the site can't read."""
    formulas, reference = hooks
    packages = {"lossweigh.weighting", "lossweigh.balancing"}
    methods = [path for path, its in reference.public().items() if its in packages]
    checked = 0
    for path in methods:
        text = reference.docstring(path).split("\n\n")
        for block in text[1:3]:
            if block.startswith("    ") and ">>>" not in block:
                formulas.typeset(block)
                checked += 1
    assert checked > 25
