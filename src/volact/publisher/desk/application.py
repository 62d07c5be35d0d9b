# SPDX-License-Identifier: Apache-2.0
"""The desk as an ASGI application, over an opened publisher.  Its accounts are in the publisher's database, the key of
their authenticators in ``web.key`` beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volact.publisher.administration.publisher import Publisher
from volact.publisher.desk import customers, keys, overview, phone, products, rows
from volact.publisher.desk.state import ROLES, Desk
from volact.publisher.folder.opening import PublisherFolder, PublisherKeys
from volact.publisher.folder.renewal import Latest
from volact.web.access import credentials
from volact.web.access.accounts import Accounts
from volact.web.access.store import WebStore
from volact.web.app import build_app
from volact.web.pages.security import App, Receive, Scope, Send
from volact.web.sign_on.logins import open_logins
from volact.web.site import Site, WebListener

SITE = "desk"
SUBTITLE = "Publisher's desk"
MAX_UPLOAD = 4 * 1024 * 1024
PAGES = [*overview.PAGES, *phone.PAGES, *customers.PAGES, *keys.PAGES, *products.PAGES, *rows.PAGES]
MENU = {"": "", "Customers": "", "Licensing": "", "Records": "", "Administration": ""}


@dataclass(frozen=True, slots=True)
class DeskApplication:
    """ASGI 3; ``use`` gives its pages other keys; ``close`` ends its connections to the database."""

    app: App
    store: WebStore
    desk: Latest[Desk]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def use(self, publisher: Publisher, keys: PublisherKeys) -> None:
        self.desk.current = Desk(publisher, keys, self.desk.current.clock)

    def close(self) -> None:
        self.store.close()


def open_accounts(folder: PublisherFolder, clock: Callable[[], int], *, key: bytes | None = None) -> Accounts:
    """The operators; ``key`` is needed where somebody logs in."""
    return Accounts(WebStore.open(folder.database), clock, key, ROLES, title=folder.name)


def build_desk(
    publisher: Publisher,
    keys: PublisherKeys,
    clock: Callable[[], int],
    *,
    listener: WebListener,
    logins: Path | None = None,
) -> DeskApplication:
    secret = credentials.read_secret(publisher.folder.path / "web.key")
    accounts, single_sign_on = open_logins(logins, open_accounts(publisher.folder, clock, key=secret))
    desk = Latest(Desk(publisher, keys, clock))
    site = Site(
        SITE,
        publisher.folder.name,
        SUBTITLE,
        accounts,
        listener.hosts,
        proxies=frozenset(listener.proxies),
        secure=listener.secure,
        state=desk,
        packages=("volact.publisher.desk",),
        menu=MENU,
        max_body=MAX_UPLOAD,
        single_sign_on=single_sign_on,
    )
    return DeskApplication(build_app(site, PAGES), accounts.store, desk)
