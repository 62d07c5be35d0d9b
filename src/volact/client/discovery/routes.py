# SPDX-License-Identifier: Apache-2.0
"""Routes: the issuers that one activation tries, in order, each with how it was found.

Lazy: no name is looked up before the routes ahead of it have failed.  What an issuer is worth, only its signatures
say (``activation``); a route is a place to ask.  Spec: docs/spec/discovery.md §3.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Protocol

from volact.client.discovery.hosts import Browse, Candidate, LookupFailedError, Resolver, candidates
from volact.client.discovery.resolver import DnsResolver
from volact.client.folder.records import ClientSettings, KnownIssuer
from volact.client.folder.settings import HostMalformedError, Settings, parse_host_port
from volact.client.products.loading import LoadedProduct
from volact.core.errors import ConfigError
from volact.core.product_key import Channel
from volact.wire.client import Server

GIVEN, PUBLISHER = "given", "publisher"  # sources beside those of discovery
_OF_PUBLISHER = (Channel.MAK, Channel.RETAIL)


class NoRouteError(ConfigError):
    code = "no-route"
    fmt = "this machine knows no issuer for the {channel} channel of {product}"
    remedy = "name one: `volact client activate {product} --publisher URL`, or --host NAME:PORT"


class IssuerServer(Protocol):
    """What an activation needs of a server; :class:`volact.wire.client.Server` is the one over the network."""

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str: ...

    def activate(self, issuer: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Route:
    """A server to ask; ``address`` and ``source`` are for people."""

    server: IssuerServer
    address: str
    source: str


def find_routes(
    loaded: LoadedProduct,
    settings: ClientSettings,
    known: KnownIssuer | None,
    resolver: Resolver,
    random: Random,
    *,
    host: str | None = None,
    publisher: str | None = None,
    browse: Browse | None = None,
) -> Iterator[Route]:
    """``host`` and ``publisher`` override everything; else the channel decides who is asked."""
    if host is not None:
        given = Candidate(*parse_host_port(host), GIVEN)  # type: ignore[arg-type]
        return iter([_host_route(given, settings.discovery)])
    if publisher is not None:
        return iter([_url_route(publisher, GIVEN)])
    if loaded.installation.channel in _OF_PUBLISHER:
        return iter([_publisher_route(loaded, settings)])
    if loaded.installation.channel is Channel.VOLUME:
        return _discovered(settings.discovery, known, resolver, random, browse)
    raise NoRouteError(channel=str(loaded.installation.channel), product=loaded.product)


class LookedUpServer:
    """A host whose address the name server that the administrator set tells; for what it does not know, the system is
    asked.  Both only when the host is asked something."""

    def __init__(self, host: str, port: int, resolver_address: str) -> None:
        self._host, self._port, self._resolver = host, port, DnsResolver(resolver_address)
        self._server: Server | None = None

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        return self._found().get_issuer(root, product, group, nonce)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        return self._found().activate(issuer, sealed)

    def _found(self) -> Server:
        if self._server is None:
            address = self._host
            with suppress(LookupFailedError):
                address = self._resolver.addresses(self._host)[0]
            self._server = Server(address, self._port)
        return self._server


def _discovered(
    settings: Settings, known: KnownIssuer | None, resolver: Resolver, random: Random, browse: Browse | None
) -> Iterator[Route]:
    for candidate in candidates(settings, resolver, last_good(known), random, browse=browse):
        yield _host_route(candidate, settings)


def last_good(known: KnownIssuer | None) -> tuple[str, int] | None:
    if known is None or known.source == PUBLISHER:
        return None
    try:
        return parse_host_port(known.address)
    except HostMalformedError:
        return None


def _publisher_route(loaded: LoadedProduct, settings: ClientSettings) -> Route:
    url = settings.publisher or loaded.definition.url
    if url is None:
        raise NoRouteError(channel=str(loaded.installation.channel), product=loaded.product)
    return _url_route(url, PUBLISHER)


def _url_route(url: str, source: str) -> Route:
    return Route(Server.from_url(url), url, source)


def _host_route(candidate: Candidate, settings: Settings) -> Route:
    server: IssuerServer = Server(candidate.host, candidate.port)
    if settings.resolver_address is not None and not is_address(candidate.host):
        server = LookedUpServer(candidate.host, candidate.port, settings.resolver_address)
    return Route(server, str(candidate), str(candidate.source))


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
