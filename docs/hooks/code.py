"""Tells the style sheet how far each line of code is indented.

On a phone a line that is too long goes on below, indented further than it begins.
"""

import re

# pymdownx.highlight puts each line into such an element.
LINE = re.compile(
    r'(<span id="__span-[\d-]+")(>(?:<a [^>]*></a>)?(?:<span class="w">)?)( +)'
)


def on_page_content(content, **kwargs):
    def with_indent(match):
        start, inner, spaces = match.groups()
        return f'{start} style="--indent: {len(spaces)}ch"{inner}{spaces}'

    return LINE.sub(with_indent, content)
