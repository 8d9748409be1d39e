"""Reads a formula, in the notation of `notation.py`, and gives its MathML.

`Reader(text).pieces()` are the pieces between which a line may break. Browsers typeset
them without a script and without a font from elsewhere.
"""

import html
import re

from notation import (
    BREAK,
    CLOSING,
    FENCES,
    GREEK,
    LARGE,
    OPERATORS,
    PREFIXES,
    THIN,
    NotAFormula,
    tokens_of,
)


def row(items):
    items = list(items) or [""]
    return items[0] if len(items) == 1 else f"<mrow>{''.join(items)}</mrow>"


def subscript(text):
    """`ij` is two indices, `max` is a word."""
    if len(text) < 3:
        return row(f"<mi>{letter}</mi>" for letter in text)
    return f"<mi>{text}</mi>"


class Term:
    """A factor of a product: its MathML, and what its neighbours have to know of it."""

    def __init__(self, mathml, *, inner=None, kind="", index=""):
        self.mathml, self.inner = mathml, inner  # inner: without its parentheses
        self.kind = kind  # "prefix", "function" or "word"
        self.index = index


class Reader:
    """Reads one formula from left to right."""

    def __init__(self, text):
        self.tokens, self.at, self.depth = tokens_of(text), 0, 0

    @property
    def token(self):
        return self.tokens[self.at]

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def pieces(self):
        items = self.items(None)
        if self.token[0] != "end":
            raise NotAFormula(self.token[1])
        return [piece for piece in "".join(items).split(BREAK) if piece]

    def items(self, closing):
        """Products and the operators between them, up to `closing`."""
        items = []
        while self.token[0] != "end" and self.token[1] != closing:
            sign = self.token[1]
            if self.token[0] == "sign" and not self.opens():
                if sign not in OPERATORS:
                    raise NotAFormula(sign)
                form = ' form="infix"' if items and not self.depth else ""
                sign = html.escape(OPERATORS[self.take()[1]])
                items.append(f"{'' if self.depth else BREAK}<mo{form}>{sign}</mo>")
            else:
                items += self.product(closing, first=not items)
        return items

    def inside(self, opening):
        """What is between brackets, where a fraction stays on the line."""
        self.depth += 1
        inner = row(self.items(CLOSING[opening]))
        self.depth -= 1
        if self.take()[1] != CLOSING[opening]:
            raise NotAFormula(opening)
        return inner

    def opens(self):
        """Does a bracket begin? `<x, y>` does, `x < y` doesn't."""
        sign, after = self.token[1], self.tokens[self.at + 1]
        return sign in CLOSING and not (sign == "<" and after[2])

    def product(self, closing, first):
        factors = []
        while self.token[0] != "end" and self.token[1] != closing:
            if self.token[0] != "sign" or self.opens():
                factors.append(self.factor())
            elif self.token[1] == "/" and factors:
                tight = not self.token[2]
                self.take()
                below = [self.factor()]
                while below[-1].kind == "prefix":
                    below.append(self.factor())
                if self.depth:
                    factors += [Term("<mo>/</mo>", kind="sign"), *below]
                else:
                    factors = self.fraction(factors, below, tight)
            else:
                break
        return self.spaced(factors, first, "" if self.depth else BREAK)

    @staticmethod
    def fraction(above, below, tight):
        bottom = row(term.mathml for term in below)
        if len(below) == 1:
            bottom = below[0].inner or bottom
        bound = re.findall(r"</m[io]><mi>(\w+)</mi></munder>", bottom)
        start = len(above) - 1 if tight else 0
        for number, term in enumerate(above):
            # A sum whose index the denominator has goes over the whole fraction.
            free = term.index not in bound and f"<mi>{term.index}</mi>" in bottom
            if term.kind == "word" or (term.kind == "prefix" and term.index and free):
                start = number + 1
        top = above[start:]
        if not top:
            raise NotAFormula("/")
        upper = row(Reader.spaced(top, True))
        if len(top) == 1:
            upper = top[0].inner or upper
        return [*above[:start], Term(f"<mfrac>{upper}{bottom}</mfrac>")]

    @staticmethod
    def spaced(factors, first, around=""):
        """The factors' MathML, with room around words and functions."""
        items = []
        for number, term in enumerate(factors):
            last = number == len(factors) - 1
            before = factors[number - 1].kind if number else ""
            if term.kind == "word":
                left = "" if before == "word" or (first and not number) else "\u00a0"
                right = "" if last else "\u00a0"
                text = f"<mtext>{left}{term.mathml}{right}</mtext>"
                items.append(f"{around}{text}{around}")
                continue
            if number and term.kind in ("prefix", "function") and before != "word":
                items.append(THIN)
            items.append(term.mathml)
            if term.kind == "prefix" and not last:
                items.append(THIN)
        return items

    def factor(self):
        kind, text, _ = self.take()
        if kind == "number":
            term = Term(f"<mn>{text}</mn>")
        elif kind == "name":
            term = self.named(text)
        elif text in CLOSING:
            inner = self.inside(text)
            alone = inner if text == "(" else None
            term = Term(self.fenced(text, inner), inner=alone)
        else:
            raise NotAFormula(text)
        return term if term.kind == "word" else self.scripted(term, text)

    def named(self, text):
        sign, after = self.token[1], self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        called = sign == "(" and not self.token[2]
        if text in LARGE and sign == "_":
            return Term(f"<mo>{LARGE[text]}</mo>", kind="prefix")
        if text in PREFIXES and not called:
            return Term(f"<mi>{text}</mi>", kind="prefix")
        if sign == "_" and min(len(text), len(after[1])) > 2 and after[0] == "name":
            self.at += 2
            return Term(f"{text}_{after[1]}", kind="word")
        if text in GREEK or len(text) == 1:
            return Term(f"<mi>{GREEK.get(text, text)}</mi>")
        if called or sign in ("_", "^", "'"):
            return Term(f"<mi>{text}</mi>", kind="function")
        return Term(text, kind="word")

    def scripted(self, term, text):
        """The term with its indices, powers, primes and arguments."""
        under, over, primes = None, None, ""
        while self.token[1] in ("_", "^", "'"):
            sign = self.take()[1]
            if sign == "'":
                primes += "\u2032"
            elif sign == "_":
                under, term.index = self.script(), self.tokens[self.at - 1][1]
            else:
                over = self.script()
        if primes:
            over = row([f"<mo>{primes}</mo>", *([over] if over else [])])
        large = term.kind == "prefix"
        if under and large:
            term.mathml = f"<munder>{term.mathml}{under}</munder>"
        elif under and over:
            term.mathml = f"<msubsup>{term.mathml}{under}{over}</msubsup>"
        elif under:
            term.mathml = f"<msub>{term.mathml}{under}</msub>"
        if over and (large or not under):
            term.mathml = f"<msup>{term.mathml}{over}</msup>"
        if under or over:
            term.inner = None
        if text[0].isalpha() and self.token[1] == "(" and not self.token[2]:
            self.take()
            arguments = self.inside("(")
            if text == "sqrt":
                return Term(f"<msqrt>{arguments}</msqrt>")
            call = row([term.mathml, self.fenced("(", arguments)])
            return self.scripted(Term(call, kind=term.kind), "(")
        return term

    def script(self):
        kind, text, _ = self.take()
        if kind == "name":
            nested = ""
            if self.token[1] == "_":
                self.take()
                nested = self.script()
            base = f"<mi>{GREEK[text]}</mi>" if text in GREEK else subscript(text)
            return f"<msub>{base}{nested}</msub>" if nested else base
        if kind == "number":
            return f"<mn>{text}</mn>"
        if text == "-":
            sign = "<mo form='prefix'>\u2212</mo>"
            value = self.script()
            if self.token[1] == "/" and not self.token[2]:
                self.take()
                value = row([value, "<mo>/</mo>", self.script()])
            return row([sign, value])
        if text in ("{", "("):
            return self.inside(text)
        raise NotAFormula(text)

    @staticmethod
    def fenced(opening, inner):
        left, right = (FENCES.get(s, s) for s in (opening, CLOSING[opening]))
        return (
            f'<mrow><mo form="prefix" stretchy="true">{left}</mo>{inner}'
            f'<mo form="postfix" stretchy="true">{right}</mo></mrow>'
        )
