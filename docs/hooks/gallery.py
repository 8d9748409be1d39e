"""Makes the gallery: a page for each script in `examples/`, and cards that lead there.

A script's docstring is its page: the title, a sentence with what came out, then what
it does and the lines that run it. Its picture is `docs/images/<name>.png`. The comments
`<!-- cards: name name -->` of `docs/gallery/index.md` say which scripts there are, and
in which order they follow each other. The notebooks are put beside the pages. On any
page of the site `examples/<name>.py` in code font is a link to the script's page.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
INDEX = ROOT / "docs/gallery/index.md"
CARDS = re.compile(r"<!-- cards: ([\w ]+) -->")
MENTION = re.compile(r"<code>examples/(\w+)\.py</code>")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )?python examples/")


def names():
    """The scripts of the gallery, in its order."""
    text = INDEX.read_text(encoding="utf-8")
    return [name for match in CARDS.finditer(text) for name in match[1].split()]


def source(name):
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def has_picture(name):
    return (ROOT / f"docs/images/{name}.png").is_file()


def parts(code):
    """A script's title, its sentence, the paragraphs that follow, and its commands."""
    title, sentence, *rest = ast.get_docstring(ast.parse(code)).split("\n\n")
    commands = [block for block in rest if COMMAND.match(block.strip())]
    paragraphs = [block for block in rest if block not in commands]
    lines = [line.strip() for block in commands for line in block.splitlines()]
    return title, " ".join(sentence.split()), paragraphs, lines


def short_title(title):
    """For the navigation: up to the first colon, or the end of a question."""
    return re.match(r"[^:?.]+\??", title)[0]


def page(name, code):
    title, sentence, paragraphs, commands = parts(code)
    blocks = [
        "---\nhide: [toc]\n---",
        f"# {title.rstrip('.')}",
        f"**{sentence}**",
        *[f"![What {name}.py draws.](../images/{name}.png)"] * has_picture(name),
        *paragraphs,
        "## Run it",
        'In a clone, with `pip install -e ".[examples]"`:',
        "\n".join(["```bash", *commands, "```"]),
        "`--short` is a trial of seconds, and `--help` lists what can be set.",
        "## The code",
        f'````python title="examples/{name}.py"\n{without_docstring(code)}````',
    ]
    return "\n\n".join(blocks) + "\n"


def without_docstring(code):
    end = ast.parse(code).body[0].end_lineno
    return "".join(code.splitlines(keepends=True)[end:]).lstrip("\n")


def card(name):
    title, sentence, *_ = parts(source(name))
    picture = f"[![](../images/{name}.png)]({name}.md)\n\n" * has_picture(name)
    return (
        f'<div class="card" markdown>\n\n{picture}'
        f"**[{short_title(title)}]({name}.md)**\n\n{sentence}\n\n</div>"
    )


def on_config(config):
    """The pages follow the index in the navigation."""
    for section in config["nav"]:
        if section.get("Gallery") == ["gallery/index.md"]:
            section["Gallery"] += [
                {short_title(parts(source(name))[0]): f"gallery/{name}.md"}
                for name in names()
            ]
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    for name in names():
        text = page(name, source(name))
        files.append(File.generated(config, f"gallery/{name}.md", content=text))
    for notebook in sorted(EXAMPLES.glob("notebooks/*.ipynb")):
        uri = f"gallery/notebooks/{notebook.name}"
        files.append(File.generated(config, uri, abs_src_path=str(notebook)))
    return files


def on_page_markdown(markdown, page, **kwargs):
    if page.file.src_uri != "gallery/index.md":
        return markdown

    def listed(match):
        cards = "\n\n".join(map(card, match[1].split()))
        return f'<div class="gallery" markdown>\n\n{cards}\n\n</div>'

    return CARDS.sub(listed, markdown)


def on_page_content(content, page, **kwargs):
    start = "../" * page.url.count("/")

    def linked(match):
        if match[1] not in names():
            return match[0]
        return f'<a href="{start}gallery/{match[1]}/">{match[0]}</a>'

    return MENTION.sub(linked, content)
