# SPDX-License-Identifier: Apache-2.0
"""The KMS host on a network without DNS: ``_volact._tcp`` by multicast DNS (RFC 6762, RFC 6763), while it runs.

zeroconf answers; here it is told what.  Off unless the administrator turns it on.  Spec: docs/spec/discovery.md §5.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from volact.core.errors import ConfigError
from volact.host.dns.names import SERVICE, checked_name
from volact.host.dns.publisher import DnsEvent

if TYPE_CHECKING:
    from zeroconf import IPVersion, ServiceInfo, Zeroconf

DOMAIN = "local"
TYPE = f"{SERVICE}.{DOMAIN}."
MOST_INTERFACES = 16


class MdnsInterfaceError(ConfigError):
    code = "mdns-interface"
    fmt = "{text!r} is not an address of an interface of this computer"
    remedy = "give an address of the interface whose network should find this host; `ip address` lists them"


class MdnsPublisher:
    """Answers from :meth:`start` to :meth:`stop`.  ``interfaces``: addresses of this computer; empty: all of them.

    Every attempt ends in one event: ``mdns-published``, ``mdns-publish-failed`` or ``mdns-withdrawn``.  A network that
    does not let it speak never keeps the host from serving.
    """

    def __init__(self, name: str, port: int, interfaces: Sequence[str], on_event: Callable[[DnsEvent], None]) -> None:
        self._label = checked_name(name).partition(".")[0]
        self._port, self._interfaces, self._on_event = port, tuple(interfaces), on_event
        self._running: tuple[Zeroconf, ServiceInfo] | None = None

    def start(self) -> None:
        try:
            self._running = self._publish()
        except Exception as exc:  # whatever the library and the network make of it
            fields = {"cause": "mdns", "remedy": "see that the network allows multicast"}
            self._report("mdns-publish-failed", f"multicast DNS: {exc or type(exc).__name__}", fields)
        else:
            where = ", ".join(self._interfaces) or "every interface"
            record = f"0 0 {self._port} {self._label}.{DOMAIN}."
            self._report("mdns-published", f"answers for {TYPE} on {where}", {"record": record})

    def stop(self) -> None:
        """Says goodbye, so that nobody remembers a host that is gone (RFC 6762 §10.1)."""
        if self._running is None:
            return
        (zeroconf, info), self._running = self._running, None
        try:
            zeroconf.unregister_service(info)
        finally:
            zeroconf.close()
        self._report("mdns-withdrawn", f"no longer answers for {TYPE}", {})

    def _publish(self) -> "tuple[Zeroconf, ServiceInfo]":
        from zeroconf import InterfaceChoice, ServiceInfo, Zeroconf

        addresses = list(self._interfaces) or _addresses()
        interfaces = list(self._interfaces) or InterfaceChoice.All
        zeroconf = Zeroconf(interfaces=interfaces, ip_version=_version(addresses))
        info = ServiceInfo(
            TYPE,
            f"{self._label}.{TYPE}",
            port=self._port,
            properties={"txtvers": "1"},  # an empty TXT record is malformed (RFC 6763 §6.1)
            server=f"{self._label}.{DOMAIN}.",
            parsed_addresses=addresses,
        )
        try:
            zeroconf.register_service(info, allow_name_change=True)
        except BaseException:
            zeroconf.close()
            raise
        return zeroconf, info

    def _report(self, code: str, text: str, fields: Mapping[str, object]) -> None:
        self._on_event(DnsEvent(code, DOMAIN, text, dict(fields)))


def check_interfaces(texts: Sequence[str]) -> tuple[str, ...]:
    """Addresses that this computer has, in their one spelling.  Raises :class:`MdnsInterfaceError`."""
    own = set(_all_addresses())
    for text in texts:
        try:
            known = str(ipaddress.ip_address(text)) in own
        except ValueError:
            known = False
        if not known:
            raise MdnsInterfaceError(text=text)
    return tuple(str(ipaddress.ip_address(text)) for text in texts)


def _addresses() -> list[str]:
    """Of every interface but loopback."""
    return [text for text in _all_addresses() if not ipaddress.ip_address(text).is_loopback]


def _all_addresses() -> list[str]:
    import ifaddr

    found = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for one in ifaddr.get_adapters() for ip in one.ips]
    return list(dict.fromkeys(found))


def _version(addresses: Sequence[str]) -> "IPVersion":
    """Only what this computer speaks: asked for both, the library would fail on a computer without IPv6."""
    from zeroconf import IPVersion

    versions = {ipaddress.ip_address(text).version for text in addresses}
    if versions == {4, 6}:
        return IPVersion.All
    return IPVersion.V6Only if versions == {6} else IPVersion.V4Only
