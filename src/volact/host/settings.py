# SPDX-License-Identifier: Apache-2.0
"""A KMS host's settings: raw values in the store, one validated object everywhere else.  All have a default."""

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from volact.core.errors import ConfigError, StoreError
from volact.core.policy import LEAST_INTERVAL, MOST_INTERVAL
from volact.host.dns import DnsDomain
from volact.host.store import HostStore

KEY = "host"  # one row holds them all, so that a change is one write


class SettingError(ConfigError):
    code = "setting-invalid"
    fmt = "{name} is {value}, it must be {expected}"
    remedy = "give one that fits; `volact host status` shows the present settings"


class SettingsDamagedError(StoreError):
    code = "host-settings-damaged"
    fmt = "the settings in the host's database cannot be read: {why}"
    remedy = "stop the host and restore its last backup: `volact host restore`"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """``dns`` holds one table a domain (see :class:`~volact.host.dns.DnsDomain`); intervals ``None``: the policy's.
    ``publishers``: services to use instead of those that the definitions name, by the publisher's root.
    ``mdns``: answers by multicast DNS, on ``mdns_interfaces`` or all of them."""

    port: int = 1688
    address: str = "::"
    activation_minutes: int | None = None
    renewal_minutes: int | None = None
    publishers: Mapping[str, str] = field(default_factory=dict)
    dns_publishing: bool = True
    dns_target: str | None = None
    dns: tuple[Mapping[str, Any], ...] = ()
    mdns: bool = False
    mdns_interfaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _in_range("port", self.port, 1, 65535)
        _check_address(self.address)
        for name in ("activation_minutes", "renewal_minutes"):
            value = getattr(self, name)
            if value is not None:
                _in_range(name, value, LEAST_INTERVAL, MOST_INTERVAL)
        self.dns_domains()

    @classmethod
    def load(cls, store: HostStore) -> "HostSettings":
        try:
            return cls._of(store.setting(KEY, {}))
        except (ValueError, TypeError, AttributeError) as exc:  # no JSON, or JSON of another shape
            raise SettingsDamagedError(why=str(exc)) from None

    @classmethod
    def _of(cls, stored: Mapping[str, Any]) -> "HostSettings":
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        values["dns"] = tuple(values.get("dns", ()))
        values["mdns_interfaces"] = tuple(values.get("mdns_interfaces", ()))
        return cls(**values)

    def save(self, store: HostStore) -> None:
        store.set_setting(KEY, asdict(self))

    def dns_domains(self) -> tuple[DnsDomain, ...]:
        return tuple(dns_domain(table) for table in self.dns)


def dns_domain(table: Mapping[str, Any]) -> DnsDomain:
    """A domain as settings keep it: paths as text."""
    values = dict(table)
    for name in ("key_file", "keytab"):
        if values.get(name):
            values[name] = Path(values[name])
    return DnsDomain(**values)


def _in_range(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise SettingError(name=name, value=value, expected=f"a whole number from {least} to {most}")


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise SettingError(name="address", value=text, expected="an IPv4 or IPv6 address") from None
