# SPDX-License-Identifier: Apache-2.0
"""What a web site is told once: its name, under which hosts it answers, whom it trusts, its limits."""

import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from volact.web.access.accounts import Accounts
from volact.web.access.records import LOCAL, Account
from volact.web.errors import PlainListenerError

MAX_BODY = 1024 * 1024
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Site:
    """``name``: one word, part of the cookie's name, so that two sites on one machine do not share logins.
    ``hosts``: the names it answers to.  ``proxies``: addresses whose ``X-Forwarded-…`` headers are believed.
    ``state``: what the room's pages need; ``packages``: where its ``templates`` and ``static`` folders are.
    ``menu``: the page groups in their order, with an icon each."""

    name: str
    title: str
    subtitle: str
    accounts: Accounts
    hosts: frozenset[str]
    proxies: frozenset[str] = frozenset()
    secure: bool = False
    state: Any = None
    packages: tuple[str, ...] = ()
    menu: Mapping[str, str] = field(default_factory=dict)
    max_body: int = MAX_BODY
    single_sign_on: Any = None

    @property
    def clock(self) -> Callable[[], int]:
        return self.accounts.clock

    def keeper(self, account: Account) -> str:
        """Who checks an account's password, as people call it."""
        others = [one for one in (self.single_sign_on, *self.accounts.backends) if one is not None]
        labels = {LOCAL: "this site", **{one.name: one.label for one in others}}
        return str(labels.get(account.source, account.source))


@dataclass(frozen=True, slots=True)
class WebListener:
    """Where a site listens, as the command line says it.  ``names``: further names it is reached by."""

    address: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    proxies: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def check(self) -> None:
        """Passwords cross no network in clear text: :class:`PlainListenerError`."""
        if not self.secure and not is_loopback(self.address) and not self.proxies:
            raise PlainListenerError(address=self.address)

    @property
    def secure(self) -> bool:
        return self.certificate is not None

    @property
    def url(self) -> str:
        host = "localhost" if is_loopback(self.address) else socket.getfqdn() if is_any(self.address) else self.address
        return f"{'https' if self.secure else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """The names that a browser may ask for: any other is DNS rebinding, or a wrong proxy."""
        own: Iterable[str] = () if is_loopback(self.address) else (self.address, socket.gethostname(), socket.getfqdn())
        return frozenset(name.lower() for name in (*LOOPBACK, *own, *self.names))


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_any(address: str) -> bool:
    try:
        return ip_address(address).is_unspecified
    except ValueError:
        return False
