# SPDX-License-Identifier: Apache-2.0
"""Machines by name: from arguments, files and standard input.

Words are separated by white space, commas and lines; ``#`` begins a comment.  A word is a name, an address or a range
(``ranges``), with an account before it and a port behind it where they differ: ``admin@web[1-20]:2222``.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from volact.core.errors import InputError
from volact.fleet.discovery.errors import RangeTooLargeError, SourceUnfitError, SourceUnreadableError
from volact.fleet.discovery.ranges import expand
from volact.fleet.inventory.machines import Found, check_name

MOST_BYTES = 16 * 1024 * 1024
MOST_MACHINES = 1_000_000
_WORD = re.compile(r"(?:[^\s,\[\]]|\[[^\[\]]*\])+")  # a comma inside brackets belongs to the word
_PLACE = re.compile(r"(?:(?P<account>[A-Za-z0-9._$\\-]{1,64})@)?(?P<host>.+?)(?::(?P<port>\d{1,5}))?\Z", re.ASCII)


def from_words(words: Iterable[str], source: str = "arguments") -> Iterator[Found]:
    number = 0
    for word in words:
        for found in _one(word, source):
            number += 1
            if number > MOST_MACHINES:
                raise RangeTooLargeError(text=source, most=MOST_MACHINES)
            yield found


def from_text(text: str, source: str) -> Iterator[Found]:
    """The words of a file; errors name the line."""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield from from_words(_WORD.findall(line.partition("#")[0]), source)
        except SourceUnfitError as exc:
            raise SourceUnfitError(source=source, where=f" (line {number})", why=exc.why) from None
        except InputError as exc:
            raise SourceUnfitError(source=source, where=f" (line {number})", why=str(exc)) from None


def read_source(path: Path | str, most: int = MOST_BYTES) -> str:
    """A file's text, within bounds."""
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(most + 1)
    except OSError as exc:
        raise SourceUnreadableError(source=str(path), why=exc.strerror or str(exc)) from None
    if len(data) > most:
        raise SourceUnreadableError(source=str(path), why=f"it is longer than {most} bytes")
    return data.decode("utf-8-sig", "replace")


def split_place(word: str) -> tuple[str, int | None, str | None]:
    """Host, port, account of ``account@host:port``; IPv6 addresses take brackets where a port follows."""
    if word.count(":") > 1 and not word.startswith("[") and "@[" not in word:
        account, at, host = word.rpartition("@")
        return host, None, account if at else None
    account, at, rest = word.rpartition("@")
    if rest.startswith("[") and ":" in rest.partition("]")[0]:
        host, _, tail = rest[1:].partition("]")
        return host, _port(tail.removeprefix(":")), account if at else None
    found = _PLACE.match(word)
    if found is None:
        return word, None, None
    return found["host"], _port(found["port"]), found["account"]


def _one(word: str, source: str) -> Iterator[Found]:
    host, port, account = split_place(word)
    for name in expand(host):
        yield Found(check_name(name), source, port=port, account=account)


def _port(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise SourceUnfitError(source=repr(text[:20]), where="", why="it is not a port")
    return int(text)
