"""Looks at every page of a built site, on a desktop and on a phone.

    python .ci/browser.py [SITE --out FOLDER]

Without arguments it only tells whether there is a browser.

SITE is the folder that mkdocs built, with a report of `compare` in it. Each page is
shown by headless Chromium at 1440 and at 390 pixels; its picture is written to FOLDER.
A page fails if

- it scrolls sideways, or a picture in it doesn't load,
- a code block, a formula or a table is wider than its column (but the tables of the
  pages in WIDE_TABLES, which scroll by themselves),
- its console has an error,
- a link in it leads to a page or a heading of the site that doesn't exist.
"""

import argparse
import functools
import http.server
import shutil
import sys
import threading
import urllib.parse
from pathlib import Path

WIDTHS = (1440, 390)
# Long tables of measurements, by page and width.
WIDE_TABLES = {
    390: {
        "methods/balancers-table",
        "methods/balancing-measured",
        "methods/comparison-table",
        "methods/multi-target-table",
        "methods/two-digits-table",
    },
    1440: set(),
}
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)
FAULTS = """(wideTables) => {
    const faults = [];
    const columns = ["pre > code", ".formula"];
    if (!wideTables) columns.push(".md-typeset__scrollwrap");
    for (const column of columns)
        for (const box of document.querySelectorAll(column)) {
            const over = box.scrollWidth - box.clientWidth;
            const words = box.textContent.trim().replace(/\\s+/g, " ");
            const text = [...words].slice(0, 40).join("");
            if (over > 0) faults.push(`${column} is ${over} pixels too wide: ${text}`);
        }
    const wide = document.documentElement.scrollWidth - window.innerWidth;
    if (wide > 0) faults.push(`scrolls sideways by ${wide} pixels`);
    for (const image of document.images)
        if (image.complete && image.naturalWidth === 0)
            faults.push(`no picture at ${image.src}`);
    return faults;
}"""
LINKS = """() => ({
    ids: [...document.querySelectorAll("[id], [name]")].map(e => e.id || e.name),
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("site", type=Path, nargs="?")
parser.add_argument("--out", type=Path)
options = parser.parse_args()
chromium = next((path for name in NAMES if (path := shutil.which(name))), None)
if chromium is None:
    sys.exit(
        f"This check needs a browser: none of {', '.join(NAMES)} is on PATH. On "
        "Debian: apt-get install chromium"
    )
if options.site is None:
    sys.exit(0)

from playwright.sync_api import sync_playwright  # noqa: E402 (only needed from here)

options.out.mkdir(parents=True, exist_ok=True)
handler = functools.partial(Quiet, directory=options.site)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"


def broken(pages, address):
    """Links to what the site doesn't have, each with the page that it is in."""
    for page, found in pages.items():
        for link in sorted({link for link in found["links"] if address in link}):
            target, _, anchor = urllib.parse.unquote(link).partition("#")
            target = target.removeprefix(address).strip("/")
            if anchor and target in pages:
                fine = anchor in pages[target]["ids"]
            else:
                file = options.site / target
                fine = file.is_file() or (file / "index.html").is_file()
            if not fine:
                yield f"{page or 'start'}: no {target}{'#' if anchor else ''}{anchor}"


failed, said, pages = [], [], {}
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
    for width in WIDTHS:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda m: m.type == "error" and said.append(m.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for path in sorted(options.site.rglob("index.html")):
            name = path.parent.relative_to(options.site).as_posix()
            said.clear()
            page.goto(f"{address}/{name}/", wait_until="networkidle")
            pages[name.strip(".")] = page.evaluate(LINKS)
            faults = page.evaluate(FAULTS, name in WIDE_TABLES[width]) + said
            picture = f"{name.replace('/', '-').strip('.') or 'start'}-{width}.png"
            page.screenshot(path=options.out / picture, full_page=True)
            print(f"{width:5} {name:40} {'; '.join(faults) or 'ok'}", flush=True)
            failed += faults
    browser.close()
server.shutdown()
for link in broken(pages, address):
    print(f"link  {link}")
    failed.append(link)
sys.exit(bool(failed))
