"""Renders pages/*.txt to dist/*.html: enough of a site generator to be a real build, with nothing to download.

A page is a title, an empty line, and paragraphs; a paragraph that starts with "- " is a list.
"""

import html
import pathlib
import shutil
import string
import sys
import time

HERE = pathlib.Path(__file__).parent
OUTPUT = HERE / "dist"


def paragraphs(text: str) -> str:
    """The blocks of a page, between empty lines, as HTML."""
    blocks = (html.escape(block.strip()) for block in text.split("\n\n") if block.strip())
    return "\n".join(as_list(block) if block.startswith("- ") else f"<p>{block}</p>" for block in blocks)


def as_list(block: str) -> str:
    items = "".join(f"<li>{line.removeprefix('- ')}</li>" for line in block.splitlines())
    return f"<ul>{items}</ul>"


def main() -> None:
    sources = sorted((HERE / "pages").glob("*.txt"))
    if not sources:
        sys.exit("error: there are no pages in pages/")
    layout = string.Template((HERE / "layout.html").read_text())
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    links = "".join(f'<a href="{source.stem}.html">{source.stem}</a> ' for source in sources)
    for number, source in enumerate(sources, 1):
        title, _, text = source.read_text().partition("\n\n")
        page = layout.substitute(title=html.escape(title), links=links, body=paragraphs(text))
        (OUTPUT / f"{source.stem}.html").write_text(page)
        print(f"[{number}/{len(sources)}] {source.name}: {len(page)} bytes", flush=True)
        time.sleep(0.3)  # so that there is something to watch
    shutil.copy(HERE / "style.css", OUTPUT)
    print(f"{len(sources)} pages in {OUTPUT.name}/")


if __name__ == "__main__":
    main()
