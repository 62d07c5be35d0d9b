# SPDX-License-Identifier: Apache-2.0
"""The machines of the inventory: found, changed, tagged, removed.  Every function is part of a transaction.

Finding adds machines and nothing else; what is on them is told by ``refresh``.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from volact.core.errors import InputError
from volact.fleet.schema import MACHINES, TAGS
from volact.fleet.store import batches, names_of, note

MAX_NAME, MAX_TAG = 253, 60
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\Z|[0-9a-f:.]+(?:%[a-z0-9._-]+)?\Z")
_TAG = re.compile(r"[a-z0-9][a-z0-9._:/-]*\Z")
_ACCOUNT = re.compile(r"[A-Za-z0-9._$][A-Za-z0-9._$@\\-]{0,99}\Z")


class MachineNameUnfitError(InputError):
    code = "machine-name-unfit"
    fmt = "{name} is not a machine's name or address"
    remedy = "give DNS names, IPv4 or IPv6 addresses, or ranges such as 192.0.2.0/28 and web[1-20].example.com"


class TagUnfitError(InputError):
    code = "tag-unfit"
    fmt = "{tag} is not a tag"
    remedy = "a tag is one word of up to 60 lower-case letters, digits and . _ : / -"


class MachineAccountUnfitError(InputError):
    code = "machine-account-unfit"
    fmt = "{account} is not the name of an account"
    remedy = "give the account that SSH logs in with, as in admin, admin@example.com or EXAMPLE\\admin"


class MachineMissingError(InputError):
    code = "machine-not-in-fleet"
    fmt = "there is no machine {name} in the inventory"
    remedy = "`volact fleet list --machines` shows what there is; `volact fleet discover {name}` adds it"


@dataclass(frozen=True, slots=True)
class Found:
    """A machine that discovery found.  ``source``: where, as in "ldap dc1.example.com"."""

    name: str
    source: str
    address: str | None = None
    port: int | None = None
    account: str | None = None
    os: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Added:
    """``new``, ``known``: the names, in the order in which they were found."""

    new: tuple[str, ...]
    known: tuple[str, ...]


def check_name(name: str) -> str:
    """The name as the inventory keeps it: lower case, without a final dot."""
    text = name.strip().rstrip(".").lower()
    if not _NAME.match(text) or len(text) > MAX_NAME:
        raise MachineNameUnfitError(name=repr(name[:80]))
    return text


def check_account(account: str) -> str:
    """It can reach the words of a ``ProxyCommand``, as the name does: it is none of its options, and is one word."""
    if not _ACCOUNT.match(account):
        raise MachineAccountUnfitError(account=repr(account[:80]))
    return account


def check_tag(tag: str) -> str:
    text = tag.strip().lower()
    if not _TAG.match(text) or len(text) > MAX_TAG:
        raise TagUnfitError(tag=repr(tag[:80]))
    return text


def add(conn: Connection, found: Iterable[Found], now: int, who: str) -> Added:
    """Adds what is new.  What is known gets the tags, and the address where it had none; nothing is overwritten."""
    by_name: dict[str, Found] = {}
    for one in found:
        by_name.setdefault(check_name(one.name), one)
    known = ids(conn, by_name)
    new = {name: one for name, one in by_name.items() if name not in known}
    for part in batches(new.items()):
        conn.execute(insert(MACHINES), [_row(name, one, now) for name, one in part])
    everyone = known | ids(conn, new)
    _fill_in(conn, {known[name]: one for name, one in by_name.items() if name in known})
    _tag(conn, [(everyone[name], check_tag(tag)) for name, one in by_name.items() for tag in one.tags])
    if new:
        sources = sorted({one.source for one in new.values()})
        note(conn, now, who, "discover", ", ".join(sources), names_of(list(new)))
    return Added(tuple(new), tuple(name for name in by_name if name in known))


def ids(conn: Connection, names: Iterable[str]) -> dict[str, int]:
    """The IDs of those names that are there."""
    found: dict[str, int] = {}
    for part in batches(names):
        rows = conn.execute(select(MACHINES.c.name, MACHINES.c.id).where(MACHINES.c.name.in_(part)))
        found.update({row.name: row.id for row in rows})
    return found


def named(conn: Connection, names: Sequence[str]) -> list[int]:
    """The IDs of exactly these; raises :class:`MachineMissingError` for the first that is not there."""
    wanted = [check_name(name) for name in names]
    found = ids(conn, wanted)
    for name in wanted:
        if name not in found:
            raise MachineMissingError(name=name)
    return list(dict.fromkeys(found[name] for name in wanted))


def remove(conn: Connection, machines: Collection[int], now: int, who: str) -> int:
    """Removes machines with everything that is known of them; the machines themselves notice nothing."""
    names = names_by_id(conn, machines)
    for part in batches(machines):
        conn.execute(delete(MACHINES).where(MACHINES.c.id.in_(part)))
    if names:
        note(conn, now, who, "remove", "", names_of(list(names.values())))
    return len(names)


def change(conn: Connection, machines: Collection[int], values: Mapping[str, Any], now: int, who: str) -> int:
    """Sets ``address``, ``port``, ``account``; ``None`` leaves them to SSH's configuration again."""
    assert set(values) <= {"address", "port", "account"}, "the other columns are what was seen"
    if values.get("address") is not None:
        check_name(values["address"])
    if values.get("account") is not None:
        check_account(values["account"])
    for part in batches(machines):
        conn.execute(update(MACHINES).where(MACHINES.c.id.in_(part)).values(dict(values)))
    note(conn, now, who, "set-machine", "", {**names_of(list(names_by_id(conn, machines).values())), **values})
    return len(machines)


def tag(conn: Connection, machines: Collection[int], tags: Iterable[str], now: int, who: str) -> None:
    words = sorted({check_tag(one) for one in tags})
    _tag(conn, [(machine, word) for machine in machines for word in words])
    note(conn, now, who, "tag", " ".join(words), names_of(list(names_by_id(conn, machines).values())))


def untag(conn: Connection, machines: Collection[int], tags: Iterable[str], now: int, who: str) -> None:
    words = sorted({check_tag(one) for one in tags})
    for part in batches(machines):
        conn.execute(delete(TAGS).where(TAGS.c.machine_id.in_(part), TAGS.c.tag.in_(words)))
    note(conn, now, who, "untag", " ".join(words), names_of(list(names_by_id(conn, machines).values())))


def names_by_id(conn: Connection, machines: Collection[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in batches(machines):
        rows = conn.execute(select(MACHINES.c.id, MACHINES.c.name).where(MACHINES.c.id.in_(part)))
        found.update({row.id: row.name for row in rows})
    return found


def _row(name: str, one: Found, now: int) -> dict[str, Any]:
    return {
        "name": name,
        "address": one.address,
        "port": one.port,
        "account": one.account,
        "source": one.source[:200],
        "os": one.os and one.os[:200],
        "reach_state": "new",
        "added_at": now,
    }


def _fill_in(conn: Connection, known: Mapping[int, Found]) -> None:
    for machine, one in known.items():
        if one.address is not None:
            mine = update(MACHINES).where(MACHINES.c.id == machine, MACHINES.c.address.is_(None))
            conn.execute(mine.values(address=one.address, port=one.port))


def _tag(conn: Connection, pairs: Sequence[tuple[int, str]]) -> None:
    """Adds what is not there yet."""
    there: set[tuple[int, str]] = set()
    for part in batches({machine for machine, _ in pairs}):
        rows = conn.execute(select(TAGS).where(TAGS.c.machine_id.in_(part)))
        there.update((row.machine_id, row.tag) for row in rows)
    new = [{"machine_id": machine, "tag": tag} for machine, tag in dict.fromkeys(pairs) if (machine, tag) not in there]
    for rows_ in batches(new):
        conn.execute(insert(TAGS), rows_)
