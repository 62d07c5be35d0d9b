# SPDX-License-Identifier: Apache-2.0
"""The publisher's HTTP API, as far as an organisation's fleet tool asks it: which agreements there are.

Unlike the activation service (:mod:`volact.fleet.keys.publisher`), whose answers are signed, this one knows whom it
speaks to by a token, so it is asked through TLS, or on this very computer.  ``agreements.parse`` reads what it answers,
as it reads files.  Guide: docs/guide/fleet-reports.md.
"""

import http.client
import ipaddress
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from volact.core.errors import ConfigError, TransportError

BASE = "/api/v1"
SECONDS = 20.0
MOST_ANSWER = 1024 * 1024
MOST_PAGES = 200
MOST_TOKEN = 400
MOST_MESSAGE = 300


class OfficeAddressError(ConfigError):
    code = "publisher-api-address"
    fmt = "{url} is no address that a token may be sent to"
    remedy = "give https://NAME[:PORT] of the publisher's API; http:// only on this computer"


class OfficeTokenError(ConfigError):
    code = "publisher-api-token-unreadable"
    fmt = "no token can be read from {path}: {why}"
    remedy = "put the token that the publisher gave you into the file's first line, readable for you only"


class OfficeUnreachableError(TransportError):
    code = "publisher-api-unreachable"
    fmt = "the publisher's API at {host}, port {port} gives no answer: {why}"
    remedy = "check the address, that it runs, and its certificate: --ca-file for an authority of your own"


class OfficeRefusedError(TransportError):
    code = "publisher-api-refused"
    fmt = "the publisher's API at {host} answered {status}: {message}"
    remedy = "the token must be in force and have the scope agreements:read; its publisher makes another one"


@dataclass(frozen=True, slots=True)
class Office:
    """Where a publisher's API is, and the token it is asked with."""

    host: str
    port: int
    tls: bool
    token: str = field(repr=False)
    authorities: Path | None = None

    @classmethod
    def at(cls, url: str, token: str, authorities: Path | None = None) -> "Office":
        """Raises :class:`OfficeAddressError`: a token does not cross a network in clear text."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise OfficeAddressError(url=url[:MOST_MESSAGE]) from None
        known = parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))
        if not known or not host or parts.username or parts.path.rstrip("/") not in ("", BASE):
            shown = url if parts.username is None else "the address with a login"
            raise OfficeAddressError(url=shown[:MOST_MESSAGE])
        return cls(host, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https", token, authorities)

    def agreements(self) -> list[Any]:
        """As ``volact publisher agreement list --json`` prints them; unread."""
        return list(self._items("/agreements"))

    def _items(self, path: str) -> Iterator[Any]:
        cursor = ""
        for _ in range(MOST_PAGES):
            page = self._get(path + (f"?cursor={quote(cursor, safe='')}" if cursor else ""))
            items, following = page.get("items"), page.get("next")
            if not isinstance(items, list) or not isinstance(following, str | None):
                raise self._refused(200, "what is no list of the publisher's API")
            yield from items
            if not following:
                return
            cursor = following
        raise self._refused(200, "a list without an end")

    def _get(self, path: str) -> dict[str, Any]:
        status, data = self._ask(path)
        try:
            claim = json.loads(data)
        except (ValueError, RecursionError):
            claim = None
        if status != 200 or not isinstance(claim, dict):
            raise self._refused(status, _message(claim))
        return claim

    def _ask(self, path: str) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json", "Connection": "close"}
        try:
            connection = self._connection()
            try:
                connection.request("GET", BASE + path, headers=headers)
                response = connection.getresponse()
                data = response.read(MOST_ANSWER + 1)
            finally:
                connection.close()
        except (http.client.HTTPException, OSError, ValueError) as exc:
            raise OfficeUnreachableError(host=self.host, port=self.port, why=_why(exc)) from None
        if len(data) > MOST_ANSWER:
            raise self._refused(response.status, f"more than {MOST_ANSWER:,} bytes")
        return response.status, data

    def _connection(self) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        context = ssl.create_default_context(cafile=str(self.authorities) if self.authorities else None)
        return http.client.HTTPSConnection(self.host, self.port, timeout=SECONDS, context=context)

    def _refused(self, status: int, message: str) -> OfficeRefusedError:
        return OfficeRefusedError(host=self.host, status=status, message=message)


def read_token(path: Path) -> str:
    """The first line of a file; raises :class:`OfficeTokenError`."""
    try:
        with path.open(encoding="ascii") as file:
            token = file.readline(MOST_TOKEN + 2).strip()
    except (OSError, ValueError) as exc:
        raise OfficeTokenError(path=str(path), why=getattr(exc, "strerror", None) or "it is no text") from None
    if not token or len(token) > MOST_TOKEN or not token.isprintable() or " " in token:
        raise OfficeTokenError(path=str(path), why="its first line is none")
    return token


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _why(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc)[:MOST_MESSAGE] or type(exc).__name__


def _message(claim: Any) -> str:
    """Of a problem document, in letters that a terminal may show."""
    words = claim.get("detail") or claim.get("title") if isinstance(claim, dict) else None
    text = words if isinstance(words, str) else "no words that the publisher's API has"
    return "".join(char for char in text if char.isprintable())[:MOST_MESSAGE]
