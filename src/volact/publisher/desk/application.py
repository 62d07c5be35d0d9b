# SPDX-License-Identifier: Apache-2.0
"""The desk as an ASGI application, over an opened publisher.  Its accounts are in the publisher's database, the key of
their authenticators in ``web.key`` beside it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from volact.publisher.administration import Publisher
from volact.publisher.desk import customers, keys, overview, phone, products, rows
from volact.publisher.desk.state import ROLES, Desk
from volact.publisher.folder import PublisherFolder, PublisherKeys
from volact.web import credentials
from volact.web.accounts import Accounts
from volact.web.app import build_app
from volact.web.logins import open_logins
from volact.web.site import Site, WebListener
from volact.web.store import WebStore

SITE = "desk"
SUBTITLE = "Publisher's desk"
MAX_UPLOAD = 4 * 1024 * 1024
PAGES = [*overview.PAGES, *phone.PAGES, *customers.PAGES, *keys.PAGES, *products.PAGES, *rows.PAGES]
MENU = {"": "", "Customers": "", "Licensing": "", "Records": "", "Administration": ""}


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
) -> Any:
    secret = credentials.read_secret(publisher.folder.path / "web.key")
    accounts, single_sign_on = open_logins(logins, open_accounts(publisher.folder, clock, key=secret))
    site = Site(
        SITE,
        publisher.folder.name,
        SUBTITLE,
        accounts,
        listener.hosts,
        proxies=frozenset(listener.proxies),
        secure=listener.secure,
        state=Desk(publisher, keys, clock),
        packages=("volact.publisher.desk",),
        menu=MENU,
        max_body=MAX_UPLOAD,
        single_sign_on=single_sign_on,
    )
    return build_app(site, PAGES)
