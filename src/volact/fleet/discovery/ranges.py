# SPDX-License-Identifier: Apache-2.0
"""Ranges of addresses and of names, spelled as administrators do.

192.0.2.0/28               the addresses of a network; of IPv4 without its own and the broadcast address
192.0.2.10-192.0.2.20      from … to, or 192.0.2.10-20 for the last number only
web[01-20].example.com     counted with the zeros as given; several brackets multiply
web[a,b,c]                 a list; both can be mixed: web[1-3,7]
"""

import ipaddress
import re
from collections.abc import Iterator
from itertools import product

from volact.fleet.discovery.errors import RangeTooLargeError, SourceUnfitError

MOST = 65_536  # one IPv4 /16: more at once is a mistake, or a matter for several calls
_PART = re.compile(r"\[([^\[\]]*)\]")
_COUNT = re.compile(r"(\d{1,9})-(\d{1,9})\Z", re.ASCII)
_SHORT = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3}\.)(\d{1,3})-(\d{1,3})\Z", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def expand(text: str) -> list[str]:
    """The names and addresses that a word stands for; a plain one stands for itself.

    Raises :class:`SourceUnfitError`, :class:`RangeTooLargeError`.
    """
    if "/" in text:
        return [str(address) for address in _network(text)]
    if (found := _SHORT.match(text)) is not None:
        return _from_to(text, found[1] + found[2], found[1] + found[3])
    first, dash, last = text.partition("-")
    if dash and _is_address(first) and _is_address(last):
        return _from_to(text, first, last)
    return _names(text) if "[" in text or "]" in text else [text]


def _network(text: str) -> Iterator[Address]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise SourceUnfitError(source=repr(text[:80]), where="", why=str(exc)) from None
    if network.num_addresses > MOST:
        raise RangeTooLargeError(text=text, most=MOST)
    yield from network.hosts()


def _from_to(text: str, first: str, last: str) -> list[str]:
    try:
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    except ValueError as exc:
        raise SourceUnfitError(source=repr(text[:80]), where="", why=str(exc)) from None
    if low.version != high.version or int(low) > int(high):
        raise SourceUnfitError(source=repr(text[:80]), where="", why="the second address is not after the first")
    if int(high) - int(low) >= MOST:
        raise RangeTooLargeError(text=text, most=MOST)
    return [str(low + step) for step in range(int(high) - int(low) + 1)]


def _names(text: str) -> list[str]:
    pieces = _PART.split(text)  # plain, bracket, plain, bracket …, plain
    if any("[" in piece or "]" in piece for piece in pieces[::2]):
        raise SourceUnfitError(source=repr(text[:80]), where="", why="a bracket is not closed")
    choices = [_choices(text, piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
    number = 1
    for choice in choices:
        number *= len(choice)
        if number > MOST:
            raise RangeTooLargeError(text=text[:80], most=MOST)
    return ["".join(parts) for parts in product(*choices)]


def _choices(text: str, inside: str) -> list[str]:
    choices: list[str] = []
    for part in inside.split(","):
        part = part.strip().replace(":", "-")  # Ansible writes [01:20]
        if (found := _COUNT.match(part)) is None:
            choices.append(part)
            continue
        low, high, width = int(found[1]), int(found[2]), len(found[1])
        if high < low or not part:
            raise SourceUnfitError(source=repr(text[:80]), where="", why=f"[{part}] counts backwards")
        if high - low >= MOST:
            raise RangeTooLargeError(text=text[:80], most=MOST)
        choices += [str(number).zfill(width) for number in range(low, high + 1)]
    return choices


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
