# SPDX-License-Identifier: Apache-2.0
"""Help where one stands: the guides and the reference of errors, as they are in ``docs/``, shown beside a page.

``docs/guide`` and ``docs/reference`` are linked into this package and shipped with it, so that the console, the
desk and the command line explain things in the same words.  A topic is ``guide/telephone``, or a section of it,
``guide/telephone#at-the-desk``.
"""

import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from volact.core.errors import REGISTRY, VolactError

MOST_TOPICS = 1000  # remembered, those that there are not too: whoever asks for many of them fills no memory
_PAGE = re.compile(r"(guide|reference)/[a-z0-9-]+")
_CODE = re.compile(r"[a-z0-9-]+")
_WORD = re.compile(r"[^\w\s-]")
_HEADING = {"h1": 1, "h2": 2, "h3": 3, "h4": 4}


@dataclass(frozen=True, slots=True)
class Topic:
    """``page``: where all of it can be read."""

    title: str
    html: Markup
    page: str


@functools.lru_cache(maxsize=MOST_TOPICS)
def read_topic(topic: str) -> Topic | None:
    """``None`` where there is no such page or section."""
    page, _, anchor = topic.partition("#")
    source = _read(page) if _PAGE.fullmatch(page) else None
    if source is None:
        return None
    tokens = _markdown().parse(source)
    _name_headings(tokens)
    chosen = _section(tokens, anchor) if anchor else tokens
    if not chosen:
        return None
    _turn_links(chosen, page)
    return Topic(_title(chosen), Markup(_markdown().renderer.render(chosen, _markdown().options, {})), page)  # noqa: S704 - rendered with HTML switched off


@functools.lru_cache(maxsize=MOST_TOPICS)
def error_topic(code: str) -> Topic | None:
    """What the reference says of an error: causes and remedy."""
    if not _CODE.fullmatch(code) or code not in REGISTRY:
        return None
    return read_topic(f"reference/errors#{code}") or _from_class(REGISTRY[code])


def topics() -> list[tuple[str, str]]:
    """Every guide, by name and title."""
    names = sorted(entry.name for entry in _docs("guide").iterdir() if entry.name.endswith(".md"))
    pages = [f"guide/{name.removesuffix('.md')}" for name in names]
    return [(page, topic.title) for page in pages if (topic := read_topic(page))]


def _from_class(kind: type[VolactError]) -> Topic:
    html = Markup("<p>{}</p><p><strong>What to do:</strong> {}</p>").format(kind.fmt, kind.remedy)
    return Topic(kind.code, html, "reference/errors")


def _docs(folder: str) -> Any:
    return files("volact.web").joinpath("docs", folder)


def _read(page: str) -> str | None:
    folder, _, name = page.partition("/")
    try:
        text: str = _docs(folder).joinpath(f"{name}.md").read_text(encoding="utf-8")
    except OSError:
        return None
    return re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)


@functools.cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def slug(text: str) -> str:
    """A heading's anchor, as the sites that show Markdown make it."""
    return _WORD.sub("", text.lower()).strip().replace(" ", "-")


def _name_headings(tokens: list[Token]) -> None:
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", "help-" + slug(_plain(tokens[place + 1])))


def _section(tokens: list[Token], anchor: str) -> list[Token]:
    """From a heading to the next of its level or above."""
    start, level = None, 0
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        if start is not None and _HEADING.get(token.tag, 5) <= level:
            return tokens[start:place]
        if start is None and token.attrGet("id") == f"help-{anchor}":
            start, level = place, _HEADING.get(token.tag, 5)
    return tokens[start:] if start is not None else []


def _title(tokens: list[Token]) -> str:
    return next((_plain(tokens[i + 1]) for i, token in enumerate(tokens) if token.type == "heading_open"), "Help")


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def _turn_links(tokens: list[Token], page: str) -> None:
    """Links between our pages lead to them here; pictures and files that are not shipped become plain text."""
    for token in tokens:
        if token.type == "fence":
            token.attrSet("tabindex", "0")  # long lines are scrolled by the keyboard, too
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _target(str(child.attrGet("href") or ""), page.partition("/")[0]))
            elif child.type == "image":
                child.type, child.tag, child.children = "text", "", []


def _target(href: str, folder: str) -> str:
    if href.startswith(("https://", "http://")):
        return href
    if href.startswith("#"):
        return "#help-" + href[1:]
    path, _, anchor = href.partition("#")
    parts = [folder, *path.split("/")] if not path.startswith("../") else path.removeprefix("../").split("/")
    name = "/".join(parts).removesuffix(".md")
    if not _PAGE.fullmatch(name):
        return "/help"
    return f"/help/{name}" + (f"#help-{anchor}" if anchor else "")
