# SPDX-License-Identifier: Apache-2.0
"""Policy: every figure by which clients, hosts and the publisher decide, as one edition's signed product definition
states it.  Defaults are the field's (functional facts A2, A3, B1, B4).  Spec: docs/spec/product-definition.md §4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from volact.core.encoding import Fields
from volact.core.errors import ConfigError
from volact.core.fingerprint import DEFAULT_TOLERANCE, Tolerance
from volact.core.states import Enforcement, State

MINUTE, HOUR, DAY = 60, 3600, 86400

CLIENT_THRESHOLD, SERVER_THRESHOLD = 25, 5
LEAST_INTERVAL, MOST_INTERVAL = 15, 43200  # minutes: 15 min to 30 days (A3)
MOST_GUESTS, MOST_NAME = 1_000_000, 63
MOST_REMINDERS, MOST_REMINDER_DAYS, MOST_REMINDER_HOURS = 16, 366, 8784
REMINDER_HOURS = ("warn_hours", "limit_hours", "block_hours")

_GRACEFUL = {
    State.LICENSED: Enforcement.COUNT_ONLY,
    State.INITIAL_GRACE: Enforcement.COUNT_ONLY,
    State.EXTENDED_GRACE: Enforcement.WARN,
    State.OUT_OF_TOLERANCE_GRACE: Enforcement.WARN,
    State.NON_GENUINE_GRACE: Enforcement.WARN,
    State.NOTIFICATION: Enforcement.WARN,
    State.UNLICENSED: Enforcement.LIMIT,
}

# name: (least, most) of each whole-number figure; anything outside is refused when a definition is signed or read.
BOUNDS = {
    "threshold": (1, 1_000_000),
    "count_window_days": (1, 366),
    "lease_days": (1, 3660),
    "renewal_interval_minutes": (LEAST_INTERVAL, MOST_INTERVAL),
    "activation_interval_minutes": (LEAST_INTERVAL, MOST_INTERVAL),
    "initial_grace_days": (0, 366),
    "out_of_tolerance_grace_days": (0, 366),
    "non_genuine_grace_days": (0, 366),
    "extended_grace_days": (0, 366),
    "clock_tolerance_minutes": (1, 1440),
    "rearm_limit": (0, 1000),
    "status_max_age_days": (1, 3660),
    "hosts_per_key": (1, 1_000_000),
    "activations_per_host": (1, 1_000_000),
    "forests_per_key": (0, 1_000_000),
    "returns_per_key_year": (0, 1_000_000),
}
FLAGS = ("collapse_identical_hardware", "reactivation_counts", "requires_marker")
# Figures that the format got later, with what a definition from before means; part of the format.
ABSENT: dict[str, Any] = {"returns_per_key_year": 10, "reactivation_counts": False, "requires_marker": False}
WHEN_SET = ("requires_marker",)  # written only where it is true, so that older readers understand all others


class PolicyFigureError(ConfigError):
    code = "policy-figure"
    fmt = "policy figure {name} is {value!r}, it must be {expected}"
    remedy = "correct {name} in the product's TOML file; docs/spec/product-definition.md lists every figure"


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """What a VM host may do for an edition's guests.  ``per_host``: guests of one host, 0 for any number;
    ``nested``: whether a host that is a virtual machine itself may license; ``host_edition``: the edition of the same
    product that the host's own computer must be licensed for, empty for none.  Spec: docs/spec/vm-channel.md §5."""

    per_host: int = 0
    nested: bool = False
    host_edition: str = ""

    def __post_init__(self) -> None:
        if type(self.per_host) is not int or not 0 <= self.per_host <= MOST_GUESTS:
            raise PolicyFigureError(
                name="guests.per_host", value=self.per_host, expected=f"a whole number from 0 to {MOST_GUESTS}"
            )
        if type(self.nested) is not bool:
            raise PolicyFigureError(name="guests.nested", value=self.nested, expected="true or false")
        if type(self.host_edition) is not str or len(self.host_edition) > MOST_NAME:
            raise PolicyFigureError(name="guests.host_edition", value=self.host_edition, expected="an edition's ID")

    def to_claim(self) -> dict[str, Any]:
        return {"per_host": self.per_host, "nested": self.nested, "host_edition": self.host_edition}

    @classmethod
    def from_claim(cls, claim: Fields) -> "GuestPolicy":
        return cls(
            per_host=claim.integer("per_host", most=MOST_GUESTS),
            nested=claim.boolean("nested"),
            host_edition=claim.text("host_edition", least=0, most=MOST_NAME),
        )

    def with_changes(self, changes: Any) -> "GuestPolicy":
        """This policy with a TOML table's entries applied; unknown names are refused."""
        known = {f.name for f in fields(self)}
        if not isinstance(changes, Mapping):
            raise PolicyFigureError(name="guests", value=changes, expected=f"a table of {', '.join(sorted(known))}")
        for name, value in changes.items():
            if name not in known:
                raise PolicyFigureError(
                    name=f"guests.{name}", value=value, expected="a figure that exists; this one does not"
                )
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class ReminderPolicy:
    """When the licensing service tells people: ``days_before`` the end of a grace, and once it is over every so many
    hours by the enforcement of the state, 0 for never.  Spec: docs/spec/states.md §6."""

    days_before: tuple[int, ...] = (14, 7, 3, 2, 1)
    warn_hours: int = 24
    limit_hours: int = 8
    block_hours: int = 4

    def __post_init__(self) -> None:
        days = self.days_before
        good = type(days) is tuple and len(days) <= MOST_REMINDERS and len(set(days)) == len(days)
        if not good or any(type(day) is not int or not 0 <= day <= MOST_REMINDER_DAYS for day in days):
            expected = f"at most {MOST_REMINDERS} different numbers of days from 0 to {MOST_REMINDER_DAYS}"
            raise PolicyFigureError(name="reminders.days_before", value=days, expected=expected)
        for name in REMINDER_HOURS:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MOST_REMINDER_HOURS:
                expected = f"a whole number from 0 to {MOST_REMINDER_HOURS}"
                raise PolicyFigureError(name=f"reminders.{name}", value=value, expected=expected)

    def to_claim(self) -> dict[str, Any]:
        return {"days_before": list(self.days_before), **{name: getattr(self, name) for name in REMINDER_HOURS}}

    @classmethod
    def from_claim(cls, claim: Fields) -> "ReminderPolicy":
        days = claim.integers("days_before", most=MOST_REMINDERS)
        if len(set(days)) != len(days) or any(day > MOST_REMINDER_DAYS for day in days):
            claim.fail("days_before", f"different numbers of days up to {MOST_REMINDER_DAYS}")
        hours = {name: claim.integer(name, most=MOST_REMINDER_HOURS) for name in REMINDER_HOURS}
        return cls(days_before=days, **hours)

    def with_changes(self, changes: Any) -> "ReminderPolicy":
        """This schedule with a TOML table's entries applied; unknown names are refused."""
        known = {f.name for f in fields(self)}
        if not isinstance(changes, Mapping):
            raise PolicyFigureError(name="reminders", value=changes, expected=f"a table of {', '.join(sorted(known))}")
        for name, value in changes.items():
            if name not in known:
                expected = "a figure that exists; this one does not"
                raise PolicyFigureError(name=f"reminders.{name}", value=value, expected=expected)
        values = dict(changes)
        if isinstance(values.get("days_before"), list):
            values["days_before"] = tuple(values["days_before"])
        return replace(self, **values)


@dataclass(frozen=True, slots=True)
class Policy:
    """One edition's figures.  Days and minutes as named; the client clamps whatever a host answers to them."""

    threshold: int = CLIENT_THRESHOLD
    count_window_days: int = 30
    lease_days: int = 180
    renewal_interval_minutes: int = 10080
    activation_interval_minutes: int = 120
    initial_grace_days: int = 30
    out_of_tolerance_grace_days: int = 30
    non_genuine_grace_days: int = 30
    extended_grace_days: int = 0
    clock_tolerance_minutes: int = 240
    rearm_limit: int = 5
    status_max_age_days: int = 365
    hosts_per_key: int = 6
    activations_per_host: int = 10
    forests_per_key: int = 6
    returns_per_key_year: int = 10
    collapse_identical_hardware: bool = False
    reactivation_counts: bool = False
    requires_marker: bool = False
    suites: tuple[str, ...] = ("x25519", "mlkem768-x25519")
    enforcement: Mapping[State, Enforcement] = field(default_factory=lambda: dict(_GRACEFUL))
    tolerance: Tolerance = DEFAULT_TOLERANCE
    guests: GuestPolicy = field(default_factory=GuestPolicy)
    reminders: ReminderPolicy = field(default_factory=ReminderPolicy)

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise PolicyFigureError(name=name, value=value, expected=f"a whole number from {least} to {most}")
        if not self.suites:
            raise PolicyFigureError(name="suites", value=self.suites, expected="at least one suite")

    @property
    def lease(self) -> int:
        """Seconds a lease lasts."""
        return self.lease_days * DAY

    @property
    def clock_tolerance(self) -> int:
        """Seconds by which client and host may differ."""
        return self.clock_tolerance_minutes * MINUTE

    def to_claim(self) -> dict[str, Any]:
        claim: dict[str, Any] = {name: getattr(self, name) for name in BOUNDS}
        claim.update({name: getattr(self, name) for name in FLAGS if name not in WHEN_SET or getattr(self, name)})
        claim["suites"] = list(self.suites)
        claim["enforcement"] = {str(state): str(action) for state, action in self.enforcement.items()}
        claim["tolerance"] = self.tolerance.to_claim()
        if self.guests != GuestPolicy():
            claim["guests"] = self.guests.to_claim()
        if self.reminders != ReminderPolicy():
            claim["reminders"] = self.reminders.to_claim()
        return claim

    @classmethod
    def from_claim(cls, claim: Fields) -> "Policy":
        """Read a signed policy; every figure must be there, so that no default of a reader can change its meaning.

        Only ``guests`` and ``reminders`` may be missing: what that means is part of the format (see
        :class:`GuestPolicy`, :class:`ReminderPolicy`)."""
        values: dict[str, Any] = {name: value for name, value in ABSENT.items() if name not in claim}
        for name, (least, most) in BOUNDS.items():
            if name not in values:
                values[name] = claim.integer(name, least=least, most=most)
        for name in FLAGS:
            if name not in values:
                values[name] = claim.boolean(name)
        values["suites"] = claim.texts("suites", most=8) or claim.fail("suites", "at least one suite")
        values["enforcement"] = _enforcement(claim.mapping("enforcement"), claim)
        values["tolerance"] = Tolerance.from_claim(claim.mapping("tolerance"))
        if "guests" in claim:
            values["guests"] = GuestPolicy.from_claim(claim.fields("guests"))
        if "reminders" in claim:
            values["reminders"] = ReminderPolicy.from_claim(claim.fields("reminders"))
        return cls(**values)

    def with_changes(self, changes: Mapping[str, Any]) -> "Policy":
        """This policy with a TOML table's entries applied; unknown names are refused."""
        known = {f.name for f in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise PolicyFigureError(name=name, value=value, expected="a figure that exists; this one does not")
        values = dict(changes)
        if "enforcement" in values:
            values["enforcement"] = {**self.enforcement, **_plain_enforcement(values["enforcement"])}
        if "suites" in values:
            values["suites"] = _plain_suites(values["suites"])
        if "tolerance" in values:
            values["tolerance"] = Tolerance.from_claim(values["tolerance"])
        if "guests" in values:
            values["guests"] = self.guests.with_changes(values["guests"])
        if "reminders" in values:
            values["reminders"] = self.reminders.with_changes(values["reminders"])
        for name in FLAGS:
            if type(values.get(name, False)) is not bool:
                raise PolicyFigureError(name=name, value=values[name], expected="true or false")
        return replace(self, **values)


def _plain_suites(names: Any) -> tuple[str, ...]:
    if type(names) not in (list, tuple) or any(type(name) is not str for name in names):
        raise PolicyFigureError(name="suites", value=names, expected="a list of suites' names")
    return tuple(names)


def _plain_enforcement(table: Any) -> dict[State, Enforcement]:
    try:
        return {State(state): Enforcement(action) for state, action in table.items()}
    except (ValueError, AttributeError):
        expected = f"a table from states to one of {', '.join(Enforcement)}"
        raise PolicyFigureError(name="enforcement", value=table, expected=expected) from None


def _enforcement(claim: dict[str, Any], where: Fields) -> dict[State, Enforcement]:
    try:
        return {state: Enforcement(claim[state.value]) for state in State}
    except (KeyError, ValueError):
        where.fail("enforcement", f"an action ({', '.join(Enforcement)}) for each state")
