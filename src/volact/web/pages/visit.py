# SPDX-License-Identifier: Apache-2.0
"""One request to a page, as its handler sees it: who asks, what was sent, and how to answer.

A handler is a plain function ``(visit) -> Response``.  It runs in a thread, so it may use the database; the session is
known, the role was checked and the form's token too.  Whatever it does is audited: by ``visit.note``, or else by its
page's name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from volact.web.access.accounts import Caller, Login
from volact.web.access.records import Account, Entry, Session
from volact.web.access.roles import ANYBODY
from volact.web.errors import PageMissingError
from volact.web.pages.listing import Listing
from volact.web.site import Site

FLASHES: Final = "_flashes"
SAFE: Final = ("GET", "HEAD")  # what changes nothing, and so needs no form's token

Handler = Callable[["Visit"], Response]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """``needs``: the one permission it takes, ``ANYBODY`` or ``LOGGED_IN``.  ``group`` and ``title`` place it in the
    menu where ``menu`` is set.  ``help``: a topic of ``help``.  ``acts``: for POST, what the audit calls it.
    """

    path: str
    handler: Handler
    needs: str
    title: str = ""
    methods: tuple[str, ...] = ("GET",)
    group: str = ""
    menu: bool = False
    icon: str = ""
    help: str = ""
    acts: str = ""
    stages: tuple[str, ...] = ("full",)

    @property
    def open_to_all(self) -> bool:
        return self.needs == ANYBODY


@dataclass(slots=True)
class Visit:
    request: Request
    site: Site
    page: Page
    caller: Caller
    session: Session | None
    sent: FormData
    csrf: str
    nonce_cookie: str | None = None
    login: Login | None = field(default=None, init=False)
    logged_out: bool = field(default=False, init=False)
    noted: bool = field(default=False, init=False)
    renderer: Any = None

    # ---- who asks, and what

    @property
    def account(self) -> Account:
        """Whoever is logged in; pages open to all must not ask."""
        assert self.session is not None
        return self.session.account

    @property
    def state(self) -> Any:
        """The room's own, as the site was given it."""
        return self.site.state

    @property
    def now(self) -> int:
        return self.site.clock()

    @property
    def query(self) -> "Query":
        """What the address asks for after ``?``; empty text where a name is not there.  No database takes a NUL."""
        return Query({name: value.replace("\0", "") for name, value in self.request.query_params.items()})

    @property
    def posted(self) -> bool:
        return self.request.method not in SAFE

    @property
    def form(self) -> dict[str, str]:
        """Text fields as they were sent; the last of those with one name."""
        return {name: value for name, value in self.sent.multi_items() if isinstance(value, str)}

    def chosen(self, name: str) -> list[str]:
        """All values of a field: check boxes of a table's rows."""
        return [value for value in self.sent.getlist(name) if isinstance(value, str)]

    def file(self, name: str) -> tuple[str, bytes] | None:
        """An uploaded file's name and bytes; bounded by the site's ``max_body``."""
        upload = self.sent.get(name)
        if not isinstance(upload, UploadFile) or not (upload.filename or upload.size):
            return None
        return upload.filename or "", upload.file.read()

    def part(self, name: str) -> str:
        """A part of the path: ``/keys/{key_id}``."""
        return str(self.request.path_params[name]).replace("\0", "")

    @property
    def live(self) -> bool:
        """htmx asks for a part of a page, not for a page."""
        return self.request.headers.get("hx-request") == "true" and "hx-boosted" not in self.request.headers

    def allows(self, permission: str) -> bool:
        """For showing or hiding; what a page itself needs is checked before it runs."""
        return self.session is not None and self.site.accounts.roles.allows(self.account.role, permission)

    def listing(self, *, sorts: Sequence[str] = (), start: str = "", size: int = 50) -> Listing:
        return Listing.of(self.request.url.path, self.query, sorts=sorts, start=start, size=size)

    def found(self, value: T | None) -> T:
        """The value, or the page that says there is none."""
        if value is None:
            raise PageMissingError()
        return value

    # ---- what it leaves behind

    @property
    def actor(self) -> str:
        """How ledgers and job lists name whoever acts here."""
        return f"{self.site.name}:{self.account.name}"

    def note(self, act: str, subject: str = "", result: str = "done") -> None:
        """Into the audit."""
        self.noted = True
        name = self.session.account.name if self.session else ""
        short = self.session.short if self.session else ""
        entry = Entry(self.now, name, self.caller.address, short, act, subject, result)
        self.site.accounts.store.note(entry)

    def recall(self, key: str, default: Any = None) -> Any:
        """What was remembered in this session."""
        return self.session.data.get(key, default) if self.session else default

    def remember(self, key: str, value: Any) -> None:
        """Keeps something JSON can hold until the session ends; ``None`` forgets it."""
        if self.session is None:
            return
        data = dict(self.session.data) | {key: value}
        if value is None:
            data.pop(key)
        session = self.session
        self.session = Session(
            session.id_hash, session.stage, session.address, session.agent, session.started_at, session.seen_at,
            session.ends_at, data, session.account,
        )  # fmt: skip
        self.site.accounts.store.keep_data(session.id_hash, data)

    def flash(self, text: str, tone: str = "good") -> None:
        """A message at the top of the next page: ``good``, ``warn`` or ``bad``."""
        self.remember(FLASHES, [*self.recall(FLASHES, []), [tone, text]])

    def take_flashes(self) -> list[list[str]]:
        flashes: list[list[str]] = self.recall(FLASHES, [])
        if flashes:
            self.remember(FLASHES, None)
        return flashes

    # ---- answers

    def render(self, template: str, status: int = 200, **context: Any) -> Response:
        return HTMLResponse(self.renderer.render(self, template, context), status)

    def render_part(self, template: str, macro: str, *arguments: Any) -> Response:
        """One macro of a template: what live updates exchange."""
        return HTMLResponse(self.renderer.part(self, template, macro, arguments))

    def redirect(self, path: str, flash: str | None = None) -> Response:
        """To another page of this site, after a form."""
        if flash is not None:
            self.flash(flash)
        return RedirectResponse(path, 303)

    def download(self, name: str, data: bytes, media_type: str = "application/octet-stream") -> Response:
        safe = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name)
        return Response(data, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{safe}"'})


class Query(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return ""


def local_path(wanted: str | None) -> str:
    """Where to go after the login: a path of this site and nothing else."""
    text = wanted or "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    plain = not parts.scheme and not parts.netloc and text.startswith("/") and not text.startswith("//")
    return text if plain and "\\" not in text and text.isprintable() else "/"


def hidden(name: str, value: str) -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(name, value)
