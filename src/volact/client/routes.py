# SPDX-License-Identifier: Apache-2.0
"""Routes: the issuers that one activation tries, in order, each with how it was found.

Lazy: no name is looked up before the routes ahead of it have failed.  What an issuer is worth, only its signatures
say (``activation``); a route is a place to ask.  Spec: docs/spec/discovery.md §3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from volact.client.discovery import Candidate, HostMalformedError, Resolver, Settings, candidates, parse_host_port
from volact.client.products import LoadedProduct
from volact.client.store import ClientSettings, KnownIssuer
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
) -> Iterator[Route]:
    """``host`` and ``publisher`` override everything; else the channel decides who is asked."""
    if host is not None:
        return iter([_host_route(Candidate(*parse_host_port(host), GIVEN))])  # type: ignore[arg-type]
    if publisher is not None:
        return iter([_url_route(publisher, GIVEN)])
    if loaded.installation.channel in _OF_PUBLISHER:
        return iter([_publisher_route(loaded, settings)])
    if loaded.installation.channel is Channel.VOLUME:
        return _discovered(settings.discovery, known, resolver, random)
    raise NoRouteError(channel=str(loaded.installation.channel), product=loaded.product)


def _discovered(settings: Settings, known: KnownIssuer | None, resolver: Resolver, random: Random) -> Iterator[Route]:
    for candidate in candidates(settings, resolver, last_good(known), random):
        yield _host_route(candidate)


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


def _host_route(candidate: Candidate) -> Route:
    return Route(Server(candidate.host, candidate.port), str(candidate), str(candidate.source))
