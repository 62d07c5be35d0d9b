# SPDX-License-Identifier: Apache-2.0
"""Templates: Jinja with everything escaped, undefined names an error, and what every page needs at hand."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import segno
from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

from volact import __version__
from volact.web.pages import help as web_help
from volact.web.pages.gate import TOKEN_FIELD, is_full
from volact.web.pages.visit import Page, Visit, hidden
from volact.web.site import Site

OURS: Final = "volact.web"
# What a User-Agent holds, the first that fits: each browser also claims to be those below it.
BROWSERS: Final = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
SYSTEMS: Final = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


class Renderer:
    """``web/…`` are the templates of this room; a room's own come from its package's ``templates``."""

    def __init__(self, site: Site, pages: Sequence[Page]) -> None:
        self._site, self._pages = site, pages
        own = [PackageLoader(package, "templates") for package in site.packages]
        loader = ChoiceLoader([*own, PrefixLoader({"web": PackageLoader(OURS, "templates")})])
        self._jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, auto_reload=False)
        self._jinja.trim_blocks = self._jinja.lstrip_blocks = True
        self._jinja.globals.update(
            site=site, static=Static((*site.packages, OURS)).url, icon=icon, version=__version__, chart_json=chart_json,
            zip=zip, qr=qr,
        )  # fmt: skip
        self._jinja.filters.update(when=when, day=day, number=number, iso=iso, initials=initials)
        self._jinja.filters.update(browser=browser, commands=commands, capital=capital)

    def render(self, visit: Visit, template: str, context: dict[str, Any]) -> str:
        given = self._context(visit)
        taken = (given.keys() | self._jinja.globals.keys()) & context.keys()
        if taken:
            raise RuntimeError(f"{template} was given names that every page has already: {sorted(taken)}")
        return self._jinja.get_template(template).render({**given, **context})

    def part(self, visit: Visit, template: str, macro: str, arguments: Iterable[Any]) -> str:
        module = self._jinja.get_template(template).make_module(self._context(visit))
        return str(getattr(module, macro)(*arguments))

    def _context(self, visit: Visit) -> dict[str, Any]:
        topic = visit.page.help
        return {
            "visit": visit,
            "page": visit.page,
            "account": visit.session.account if visit.session and is_full(visit.session) else None,
            "menu": self._menu(visit),
            "csrf": hidden(TOKEN_FIELD, visit.csrf),
            "form_token": visit.csrf,
            "flashes": visit.take_flashes,
            "topic": web_help.read_topic(topic) if topic else None,
            "error_topic": web_help.error_topic,
        }

    def _menu(self, visit: Visit) -> list[tuple[str, str, list[Page]]]:
        """Group, icon, pages; only what the role may open."""
        if not is_full(visit.session):
            return []
        shown = [page for page in self._pages if page.menu and visit.allows(page.needs)]
        names = [*self._site.menu, *dict.fromkeys(page.group for page in shown)]
        groups = [(name, [page for page in shown if page.group == name]) for name in dict.fromkeys(names)]
        return [(name, self._site.menu.get(name, ""), pages) for name, pages in groups if pages]


class Static:
    """Addresses of static files: they change with the bytes, so that browsers may keep each for ever."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages
        self.url: Callable[[str], str] = cache(self._url)

    def folders(self) -> list[Path]:
        return [folder for package in self._packages if (folder := Path(str(files(package))) / "static").is_dir()]

    def _url(self, path: str) -> str:
        file = next(folder / path for folder in self.folders() if (folder / path).is_file())
        return f"/static/{path}?v={hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


@cache
def icon(name: str) -> Markup:
    """A picture that is read by nobody: what it means is said beside it."""
    file = files(OURS).joinpath("static", "vendor", "icons", f"{name}.svg")
    svg = file.read_text(encoding="utf-8").replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    return Markup(svg)  # noqa: S704 - a file of this package


def qr(text: str, label: str) -> Markup:
    """A QR code, drawn by attributes alone: inline style is not allowed here."""
    code = segno.make(text, error="m", micro=False)
    svg = code.svg_inline(scale=4, border=2, dark="#000", light="#fff", omitsize=True, title=label, svgclass="qr")
    return Markup(svg).replace("<svg ", Markup('<svg role="img" '), 1)  # noqa: S704 - made from a code's modules


def chart_json(chart: Any) -> str:
    return json.dumps(chart.to_json(), separators=(",", ":"))


def iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(second: int | None, *, empty: str = "–") -> Markup:
    """A time: the script shows it in the reader's zone, the tooltip in UTC."""
    if second is None:
        return Markup('<span class="text-body-secondary">{}</span>').format(empty)
    text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}" title="{}" data-time="minute">{}</time>').format(iso(second), text, text)


def day(second: int | None, *, empty: str = "–") -> Markup:
    """A day that was agreed on: the same in every zone."""
    if second is None:
        return Markup('<span class="text-body-secondary">{}</span>').format(empty)
    text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")
    return Markup('<time datetime="{}">{}</time>').format(text, text)


def number(value: float | None) -> str:
    """As reports and charts have it: 100,000."""
    return "–" if value is None else f"{value:,}"


def capital(line: object) -> str:
    """The class of an error's line that begins with a word, and so with a capital; a name stays as it is written."""
    return "capital" if str(line).partition(" ")[0].rstrip(",;:").isalpha() else ""


def commands(text: str) -> Markup:
    """A sentence in which commands stand between backticks, as remedies have them."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # one without its other half
        return Markup("{}").format(text)
    plain, code = Markup("{}"), Markup("<code>{}</code>")
    return Markup("").join((code if at % 2 else plain).format(part) for at, part in enumerate(parts))


def browser(agent: str) -> str:
    """What calls itself by this User-Agent, in words: ``Firefox on Windows``; the text itself where nobody knows it."""
    name = next((name for mark, name in BROWSERS if mark in agent), "")
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    return f"{name} on {system}" if name and system else name or agent


def initials(name: str) -> str:
    parts = [part for part in name.replace(".", " ").replace("@", " ").split() if part]
    return "".join(part[0] for part in parts[:2]).upper() or "?"
