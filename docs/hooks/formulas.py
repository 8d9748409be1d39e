"""Typesets formulas: the indented blocks of docstrings and pages that are formulas.

`help` and a terminal show them well as they are, in plain text. The site shows them as
MathML (see `mathml.py`). A block that isn't a formula stays the code block that it was.
"""

import html
import re

from mathml import Reader
from notation import NotAFormula

BLOCK = re.compile(
    r'<div class="(?:language-text )?highlight"><pre>(?:<span></span>)?<code>(.*?)'
    r"</code></pre></div>",
    re.S,
)


def typeset(text):
    """The HTML of a formula's lines. Raises NotAFormula if it isn't one."""
    # A line that begins with a fraction stroke goes on with the line above.
    text = re.sub(r"\n +/ ", " / ", text.rstrip("\n"))
    if not re.search(r"=|<-|~|_[a-z]", text):
        raise NotAFormula(text)
    lines = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        # Two formulas on a line are separated by a comma and more than one space.
        formulas = re.split(r"(?<=,) {2,}", line.strip())
        lines.append(
            f'<div class="formula-line" style="margin-left: {indent / 2}em">'
            f"{' '.join(map(one, formulas))}</div>"
        )
    return f'<div class="formula">{"".join(lines)}</div>'


def one(text):
    pieces = Reader(re.sub(" +", " ", text)).pieces()
    maths = "".join(
        f'<math><mstyle displaystyle="true">{piece}</mstyle></math>' for piece in pieces
    )
    return f"<span>{maths}</span>"


def replaced(match):
    try:
        return typeset(html.unescape(match.group(1)))
    except NotAFormula:
        return match.group()


def on_page_content(content, **kwargs):
    return BLOCK.sub(replaced, content)
