"""Every example has its page, its picture and its sentence."""

import importlib.util
import re
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
pytestmark = pytest.mark.once


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def gallery():
    return module(ROOT / "docs/hooks/gallery.py")


SCRIPT = '''"""What is it? A trial.

It is `x`,
and nothing else.

Some words.

    y = x

    KERAS_BACKEND=jax python examples/trial.py

More words.
"""

import os
'''


def test_a_page_is_the_docstring_and_the_code(gallery):
    name = "inverse"  # which has a picture
    script = SCRIPT.replace("trial.py", f"{name}.py")
    assert gallery.page(name, script).split("\n\n") == [
        "---\nhide: [toc]\n---",
        "# What is it? A trial",
        "**It is `x`, and nothing else.**",
        "![What inverse.py draws.](../images/inverse.png)",
        "Some words.",
        "    y = x",
        "More words.",
        "## Run it",
        'In a clone, with `pip install -e ".[examples]"`:',
        "```bash\nKERAS_BACKEND=jax python examples/inverse.py\n```",
        "`--short` is a trial of seconds, and `--help` lists what can be set.",
        "## The code",
        '````python title="examples/inverse.py"\nimport os\n````\n',
    ]
    assert gallery.short_title("What is it? A trial.") == "What is it?"
    assert gallery.short_title("A trial: of what.") == "A trial"


def test_the_pages_follow_the_index_in_the_navigation(gallery):
    nav = [{"Start": ["index.md"]}, {"Gallery": ["gallery/index.md"]}]
    start, pages = gallery.on_config({"nav": nav})["nav"]
    first, *others = pages["Gallery"]
    assert (start, first) == ({"Start": ["index.md"]}, "gallery/index.md")
    listed = [path for entry in others for path in entry.values()]
    assert listed == [f"gallery/{name}.md" for name in gallery.names()]


@pytest.mark.parametrize(("url", "start"), [("", ""), ("guides/resume/", "../../")])
def test_a_mention_of_an_example_is_a_link_to_its_page(gallery, url, start):
    text = "<p><code>examples/burgers.py</code> <code>examples/none.py</code></p>"
    expected = text.replace(
        "<code>examples/burgers.py</code>",
        f'<a href="{start}gallery/burgers/"><code>examples/burgers.py</code></a>',
    )
    assert gallery.on_page_content(text, SimpleNamespace(url=url)) == expected


def test_a_card_has_picture_title_and_sentence(gallery):
    text = "# Gallery\n\n<!-- cards: inverse answer_ranking -->\n"
    page = SimpleNamespace(file=SimpleNamespace(src_uri="gallery/index.md"))
    cards = gallery.on_page_markdown(text, page).split('<div class="card" markdown>')
    assert len(cards) == 3
    _, sentence, *_ = gallery.parts(gallery.source("inverse"))
    assert cards[1].split("\n\n")[1:4] == [
        "[![](../images/inverse.png)](inverse.md)",
        "**[Which coefficient?](inverse.md)**",
        sentence,
    ]
    other = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert gallery.on_page_markdown(text, other) == text


def test_every_example_is_in_the_gallery_once(gallery):
    assert sorted(gallery.names()) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_second_paragraph_is_one_sentence(gallery, name):
    code = gallery.source(name)
    title, sentence, _, commands = gallery.parts(code)
    assert "\n" not in title
    assert sentence.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", sentence)
    assert 40 < len(sentence) < 250
    assert any(f"python examples/{name}.py" in command for command in commands)
    assert '"--short"' in code


# One draws nothing, and the other's picture is still to be drawn.
WITHOUT_PICTURE = {"several_processes_torch"}


@pytest.mark.parametrize("name", sorted({*EXAMPLES} - WITHOUT_PICTURE))
def test_the_picture_is_small(name):
    """In bytes, and so wide that a phone shows its words."""
    content = (ROOT / f"docs/images/{name}.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, _ = struct.unpack(">II", content[16:24])
    assert width <= 1400
    assert len(content) < 400_000
