# SPDX-License-Identifier: Apache-2.0
"""DNS publishing: the KMS host's SRV record, added, renewed and withdrawn by dynamic update (RFC 2136).

names      names and records, each checked where it enters
domain     one domain to publish in, its server and key
key_file   TSIG keys in files of BIND's syntax
updates    one question or one update to a zone's primary
publisher  keeps a host's records there while it runs

It is not discovery (that is ``client.discovery.hosts``) and not an event log: outcomes go to a callback.
Spec: docs/spec/discovery.md §2.
"""

from volact.host.dns.domain import DnsDomain
from volact.host.dns.errors import (
    DnsAliasError,
    DnsDomainError,
    DnsDomainUnknownError,
    DnsKeyFileError,
    DnsRangeError,
    DnsServerError,
    DnsServerNotPrimaryError,
    DnsServerUnreachableError,
    DnsTargetError,
    DnsUpdateBadKeyError,
    DnsUpdateClockError,
    DnsUpdateFailedError,
    DnsUpdateRefusedError,
    DnsZoneNotFoundError,
)
from volact.host.dns.key_file import MAX_KEY_FILE, TsigKey, parse_key_file, read_key_file
from volact.host.dns.names import SERVICE, SrvRecord, checked_target
from volact.host.dns.publisher import PUBLISH_INTERVAL, DnsEvent, DnsPublisher, retry_delay
from volact.host.dns.updates import DEFAULT_TTL, Found, Published, Withdrawn, lookup, publish, withdraw

__all__ = [
    "DEFAULT_TTL",
    "MAX_KEY_FILE",
    "PUBLISH_INTERVAL",
    "SERVICE",
    "DnsAliasError",
    "DnsDomain",
    "DnsDomainError",
    "DnsDomainUnknownError",
    "DnsEvent",
    "DnsKeyFileError",
    "DnsPublisher",
    "DnsRangeError",
    "DnsServerError",
    "DnsServerNotPrimaryError",
    "DnsServerUnreachableError",
    "DnsTargetError",
    "DnsUpdateBadKeyError",
    "DnsUpdateClockError",
    "DnsUpdateFailedError",
    "DnsUpdateRefusedError",
    "DnsZoneNotFoundError",
    "Found",
    "Published",
    "SrvRecord",
    "TsigKey",
    "Withdrawn",
    "checked_target",
    "lookup",
    "parse_key_file",
    "publish",
    "read_key_file",
    "retry_delay",
    "withdraw",
]
