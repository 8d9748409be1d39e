"""The plain notation of formulas, such as `w_k = exp(s_k) / sum_j exp(s_j)`.

`_` and `^` are for indices and powers, `'` for a prime or a transpose, `sum_k` and
`mean_k` have what they run over, `<x, y>` is an inner product, `|x|` and `||x||` are
lengths, `.` between spaces is a product. Other words are text.
"""

import re
import unicodedata

GREEK = {
    name: unicodedata.lookup(f"GREEK SMALL LETTER {name}")
    for name in ("alpha", "beta", "epsilon", "eta", "rho", "sigma", "tau")
}
LARGE = {"sum": "\u2211", "prod": "\u220f"}
# Their index goes below them, and what follows them is their argument.
PREFIXES = {*LARGE, "argmax", "argmin", "exp", "log", "max", "mean", "min", "softmax"}
OPERATORS = {
    "->": "\u2192",
    "<-": "\u2190",
    "<=": "\u2264",
    ">=": "\u2265",
    "!=": "\u2260",
    "-": "\u2212",
    "*": "\u22c5",
    ".": "\u22c5",
    "~": "\u223c",
    **{sign: sign for sign in "+=<>,:/"},
}
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">", "|": "|", "||": "||"}
BREAK = "\0"
THIN = '<mspace width="0.17em"></mspace>'
FENCES = {"<": "\u27e8", ">": "\u27e9", "||": "\u2016"}
TOKEN = re.compile(
    r"(?P<space> +)|(?P<number>\d+(\.\d+)?(e-?\d+)?)|(?P<name>[A-Za-z]+)"
    r"|(?P<sign><-|->|<=|>=|!=|\|\||[-+*/=<>()\[\]{}|,:.~_^'])"
)


class NotAFormula(ValueError):
    """The text isn't written in this notation."""


def tokens_of(text):
    """(kind, text, whether a space is before it) of each token."""
    tokens, position, spaced = [], 0, True
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise NotAFormula(text)
        if match.lastgroup != "space":
            tokens.append((match.lastgroup, match.group(), spaced))
        spaced = match.lastgroup == "space"
        position = match.end()
    return [*tokens, ("end", "", True)]
