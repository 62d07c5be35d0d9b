# SPDX-License-Identifier: Apache-2.0
"""One domain to publish in, with the server and the key that its updates need."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volact.host.dns.errors import DnsDomainError
from volact.host.dns.kerberos import KerberosKey
from volact.host.dns.key_file import TsigKey, read_key_file
from volact.host.dns.names import (
    SERVICE,
    SrvRecord,
    check_range,
    checked_domain,
    checked_server,
    checked_target,
    parse_number,
)


@dataclass(frozen=True, slots=True)
class DnsDomain:
    """One domain to publish in, and how to reach the server that takes its updates.

    ``server`` is an address or a name; without it the primary is found by the zone's SOA record.  ``port`` is that
    of the name server.  The key file is read at each use, so that a changed key needs no restart.  With ``keytab``
    updates are signed by Kerberos, as ``account`` or the first one in it.
    """

    domain: str
    priority: int = 0
    weight: int = 0
    server: str | None = None
    port: int = 53
    key_file: Path | None = None
    key_name: str | None = None
    keytab: Path | None = None
    account: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "domain", checked_domain(self.domain))
        check_range("priority", self.priority, 0, 65535)
        check_range("weight", self.weight, 0, 65535)
        check_range("DNS server port", self.port, 1, 65535)
        if self.server is not None:
            object.__setattr__(self, "server", checked_server(self.server))

    @classmethod
    def parse(cls, text: str, **where: Any) -> "DnsDomain":
        """``example.com[,priority[,weight]]`` as an administrator types it; ``where`` fills the other fields."""
        domain, *numbers = (part.strip() for part in text.split(","))
        if len(numbers) > 2:
            raise DnsDomainError(text=text, why="it has more than a domain, a priority and a weight")
        for setting, number in zip(("priority", "weight"), numbers, strict=False):
            where[setting] = parse_number(setting, number)
        return cls(domain, **where)

    @property
    def owner(self) -> str:
        """The name the record stands under."""
        return f"{SERVICE}.{self.domain}"

    def key(self) -> TsigKey | KerberosKey | None:
        """What updates are signed with, or None.  Raises :class:`DnsKeyFileError`."""
        if self.keytab is not None:
            return KerberosKey(self.keytab, self.account)
        return None if self.key_file is None else read_key_file(self.key_file, self.key_name)

    def record(self, target: str, port: int) -> SrvRecord:
        """What this host publishes here."""
        check_range("port", port, 1, 65535)
        return SrvRecord(self.priority, self.weight, port, checked_target(target))
