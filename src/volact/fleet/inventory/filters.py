# SPDX-License-Identifier: Apache-2.0
"""The filter language of lists, selections and saved views: parsed here, and made SQL.  Guide: docs/guide/fleet.md.

    state=notification,unlicensed and name~web*          a comma is "any of"; ~ is a pattern with * and ?
    product=acme-cad not tag=lab                         beside each other means and
    (expires<+30d or state=out-of-tolerance-grace)       times: a date, or +30d, -12h from now
    contacted=none                                       nothing there

    filter     = term { "or" term }
    term       = factor { ["and"] factor }
    factor     = "not" factor | "(" filter ")" | comparison
    comparison = field ("=" | "!=" | "~" | "!~" | "<" | "<=" | ">" | ">=") value { "," value }

Any text parses or raises :class:`FilterError`.  ``state`` knows the short word ``unlicensed-any`` for every state but
``licensed``, and ``grace`` for the three graces.  A field of products and one of the machine can be mixed: a row is a
product of a machine, and a machine without products is a row without one.
"""

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select, true

from volact.core.errors import InputError
from volact.core.states import State
from volact.fleet.schema import MACHINES, PRODUCTS, TAGS

MAX_LENGTH, MAX_DEPTH, MAX_COMPARISONS = 4000, 20, 200
DAY = 86_400
UNITS = {"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY, "y": 365 * DAY}
NONE = "none"
ORDERS = ("<", "<=", ">", ">=")

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>!=|!~|<=|>=|=|~|<|>)|(?P<mark>[(),])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()=!~<>,"]+))"""
)
_RELATIVE = re.compile(r"([+-])(\d{1,6})([mhdwy])\Z")
_GRACES = (State.INITIAL_GRACE, State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.EXTENDED_GRACE)
STATE_WORDS = {
    "grace": tuple(map(str, _GRACES)),
    "unlicensed-any": tuple(str(state) for state in State if state != State.LICENSED),
}


class FilterError(InputError):
    code = "filter-unfit"
    fmt = "the filter cannot be read: {why}"
    remedy = (
        "an example: 'state=notification,grace and name~web* not tag=lab'; `volact fleet list --help` has all fields"
    )


@dataclass(frozen=True, slots=True)
class Field:
    """``kind``: text, integer, time, flag.  ``about``: for the documentation."""

    column: ColumnElement[Any]
    kind: str
    about: str


FIELDS: dict[str, Field] = {
    "name": Field(MACHINES.c.name, "text", "the machine's name"),
    "address": Field(MACHINES.c.address, "text", "where it is reached, if not by its name"),
    "account": Field(MACHINES.c.account, "text", "its SSH account"),
    "source": Field(MACHINES.c.source, "text", "how it was found"),
    "os": Field(MACHINES.c.os, "text", "its operating system"),
    "volact": Field(MACHINES.c.volact_version, "text", "the version of its volact"),
    "reach": Field(MACHINES.c.reach_state, "text", "new, reached, failed"),
    "added": Field(MACHINES.c.added_at, "time", "when it was found"),
    "refreshed": Field(MACHINES.c.refreshed_at, "time", "when its products were last asked for"),
    "contacted": Field(MACHINES.c.contacted_at, "time", "when it last gave a sign of life"),
    "action": Field(MACHINES.c.last_action, "text", "the last act on it"),
    "result": Field(MACHINES.c.last_result, "text", "what came of that: ok, or an error's code"),
    "product": Field(PRODUCTS.c.product, "text", "a product on it"),
    "publisher": Field(PRODUCTS.c.publisher, "text", "the product's publisher"),
    "edition": Field(PRODUCTS.c.edition, "text", "the product's edition"),
    "version": Field(PRODUCTS.c.version, "integer", "its definition's version"),
    "group": Field(PRODUCTS.c.product_group, "integer", "its product group"),
    "channel": Field(PRODUCTS.c.channel, "text", "retail, oem, mak, volume, vm"),
    "key": Field(PRODUCTS.c.partial_key, "text", "the last five symbols of its key"),
    "state": Field(PRODUCTS.c.state, "text", "its licence state; also grace, unlicensed-any"),
    "enforcement": Field(PRODUCTS.c.enforcement, "text", "what the product does now"),
    "reason": Field(PRODUCTS.c.reason, "text", "why it is not licensed, a code"),
    "cause": Field(PRODUCTS.c.cause, "text", "what the last attempt ended with, a code"),
    "expires": Field(PRODUCTS.c.expires_at, "time", "when its licence ends"),
    "grace-ends": Field(PRODUCTS.c.grace_ends_at, "time", "when its grace period ends"),
    "attempted": Field(PRODUCTS.c.last_attempt_at, "time", "when it last tried to activate"),
    "activated": Field(PRODUCTS.c.activated_at, "time", "when it was first seen licensed"),
    "host": Field(PRODUCTS.c.last_host, "text", "the last good KMS host"),
    "count": Field(PRODUCTS.c.count, "integer", "the count that host told"),
    "threshold": Field(PRODUCTS.c.threshold, "integer", "the count that is needed"),
    "organisation": Field(PRODUCTS.c.organisation, "text", "whom the licence is made out to"),
}
MACHINE_FIELDS = frozenset(name for name, field in FIELDS.items() if getattr(field.column, "table", None) is MACHINES)


@dataclass(frozen=True, slots=True)
class Filter:
    """``of_products``: whether it asks for anything beyond the machine itself; ``of_machines``: for the machine."""

    text: str
    condition: ColumnElement[bool]
    of_products: bool
    of_machines: bool = True


def parse(text: str, now: int) -> Filter:
    """``now``: what +30d is counted from.  The empty filter lets everything through."""
    if len(text) > MAX_LENGTH:
        raise FilterError(why=f"it is longer than {MAX_LENGTH} characters")
    if not text.replace("\n", " ").replace("\t", " ").isprintable():
        raise FilterError(why="it has characters that cannot be printed")
    if not text.strip():
        return Filter("", true(), False, False)
    parser = _Parser(_tokens(text), now)
    condition = parser.whole()
    return Filter(text.strip(), condition, parser.of_products, parser.of_machines)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # op, mark, word, quoted
    text: str


def _tokens(text: str) -> list[_Token]:
    tokens, place = [], 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            if not text[place:].strip():
                break
            raise FilterError(why=f"at {text[place : place + 20].strip()!r}")
        kind = str(found.lastgroup)
        value = found[kind]
        tokens.append(_Token(kind, re.sub(r"\\(.)", r"\1", value) if kind == "quoted" else value))
        place = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[_Token], now: int) -> None:
        self._tokens, self._now = tokens, now
        self._place = self._depth = self._comparisons = 0
        self.of_products = self.of_machines = False

    def whole(self) -> ColumnElement[bool]:
        condition = self._either()
        if (token := self._peek()) is not None:
            raise FilterError(why=f"{token.text!r} stands where nothing was expected")
        return condition

    def _either(self) -> ColumnElement[bool]:
        terms = [self._both()]
        while self._skip("word", "or"):
            terms.append(self._both())
        return or_(*terms)

    def _both(self) -> ColumnElement[bool]:
        factors = [self._factor()]
        while self._skip("word", "and") or self._begins_factor():
            factors.append(self._factor())
        return and_(*factors)

    def _factor(self) -> ColumnElement[bool]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FilterError(why=f"it is nested deeper than {MAX_DEPTH}")
        try:
            if self._skip("word", "not"):
                return not_(self._factor())
            if self._skip("mark", "("):
                inner = self._either()
                if not self._skip("mark", ")"):
                    raise FilterError(why="a bracket is not closed")
                return inner.self_group()
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> ColumnElement[bool]:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise FilterError(why=f"it has more than {MAX_COMPARISONS} comparisons")
        name = self._take("word", "a field")
        operator = self._take("op", f"one of = != ~ !~ < <= > >= after {name!r}")
        values = [self._value()]
        while self._skip("mark", ","):
            values.append(self._value())
        return self._compare(name, operator, values)

    def _compare(self, name: str, operator: str, values: list[str]) -> ColumnElement[bool]:
        if operator.startswith("!"):
            return not_(self._compare(name, operator[1:], values))
        if operator in ORDERS and len(values) != 1:
            raise FilterError(why=f"{name}{operator} takes one value")
        if name in ("tag", "tags"):
            self.of_machines = True
            return _tagged(operator, values)
        field = FIELDS.get(name)
        if field is None:
            raise FilterError(why=f"there is no field {name!r}")
        self.of_products = self.of_products or name not in MACHINE_FIELDS
        self.of_machines = self.of_machines or name in MACHINE_FIELDS
        if name == "state":
            values = [word for value in values for word in _states(operator, value)]
        return or_(*(_one(name, field, operator, value, self._now) for value in values))

    def _value(self) -> str:
        token = self._peek()
        if token is None or token.kind not in ("word", "quoted"):
            raise FilterError(why="a value is missing")
        self._place += 1
        return token.text

    def _peek(self) -> _Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _begins_factor(self) -> bool:
        token = self._peek()
        if token is None or (token.kind == "word" and token.text == "or"):
            return False
        return token.kind == "word" or token == _Token("mark", "(")

    def _skip(self, kind: str, text: str) -> bool:
        if self._peek() == _Token(kind, text):
            self._place += 1
            return True
        return False

    def _take(self, kind: str, expected: str) -> str:
        token = self._peek()
        if token is None or token.kind != kind:
            raise FilterError(why=f"{expected} is missing")
        self._place += 1
        return token.text


def _states(operator: str, value: str) -> tuple[str, ...]:
    """A state that is none would fit nothing, and nobody would see why."""
    if operator == "=" and value not in (*State, *STATE_WORDS, NONE):
        raise FilterError(why=f"there is no state {value[:40]!r}, only {', '.join((*STATE_WORDS, *State))}")
    return STATE_WORDS.get(value, (value,))


def _one(name: str, field: Field, operator: str, value: str, now: int) -> ColumnElement[bool]:
    """Never NULL, so that ``not`` means what it says where there is nothing."""
    column = field.column
    if value == NONE and operator in ("=", "~"):
        return column.is_(None)
    if field.kind == "text":
        return _text(name, column, operator, value)
    if operator == "~":
        raise FilterError(why=f"{name} is no text: use = or <")
    number = _time(name, value, now) if field.kind == "time" else _integer(name, value)
    if operator == "=" and field.kind == "time":
        return and_(column.is_not(None), column >= number, column < number + DAY)
    return and_(column.is_not(None), _COMPARE[operator](column, number))


_COMPARE: dict[str, Callable[[ColumnElement[Any], int], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


def _text(name: str, column: ColumnElement[Any], operator: str, value: str) -> ColumnElement[bool]:
    if operator in ORDERS:
        raise FilterError(why=f"{name} is a text: use = or ~")
    if operator == "=":
        return and_(column.is_not(None), column == (value.lower() if name == "name" else value))
    return and_(column.is_not(None), like(column, value))


def like(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """A pattern with * and ?, whatever the case."""
    text = re.sub(r"([%_\\])", r"\\\1", pattern.lower()).replace("*", "%").replace("?", "_")
    return func.lower(column).like(text, escape="\\")


def _tagged(operator: str, values: list[str]) -> ColumnElement[bool]:
    mine = select(TAGS.c.tag).where(TAGS.c.machine_id == MACHINES.c.id)
    if operator in ORDERS:
        raise FilterError(why="tag is a text: use = or ~")
    if values == [NONE]:
        return not_(exists(mine))
    wanted = [like(TAGS.c.tag, v) if operator == "~" else TAGS.c.tag == v.lower() for v in values]
    return exists(mine.where(or_(*wanted)))


def _integer(name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d{1,15}", value, re.ASCII):
        raise FilterError(why=f"{name} is a whole number, not {value[:40]!r}")
    return int(value)


def _time(name: str, value: str, now: int) -> int:
    """A day (UTC), or a distance from now."""
    if found := _RELATIVE.match(value):
        return now + int(found[1] + found[2]) * UNITS[found[3]]
    if value == "now":
        return now
    try:
        day = datetime.date.fromisoformat(value)
    except ValueError:
        why = f"{name} is a day such as 2027-01-31 or a time from now such as +30d or -12h, not {value[:40]!r}"
        raise FilterError(why=why) from None
    return int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())
