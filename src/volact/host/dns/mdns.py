# SPDX-License-Identifier: Apache-2.0
"""The KMS host on a network without DNS: ``_volact._tcp`` by multicast DNS (RFC 6762, RFC 6763), while it runs.

zeroconf answers; here it is told what.  Off unless the administrator turns it on.  Spec: docs/spec/discovery.md §5.
"""

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from volact.core.errors import ConfigError
from volact.host.dns.names import SERVICE, checked_name
from volact.host.dns.publisher import DnsEvent

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

DOMAIN = "local"
TYPE = f"{SERVICE}.{DOMAIN}."
MOST_INTERFACES = 16


class MdnsInterfaceError(ConfigError):
    code = "mdns-interface"
    fmt = "{text!r} is not an address of an interface of this computer"
    remedy = "give the IPv4 address of the interface whose network should find this host; `ip -4 address` lists them"


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
        from zeroconf import InterfaceChoice, IPVersion, ServiceInfo, Zeroconf

        zeroconf = Zeroconf(interfaces=list(self._interfaces) or InterfaceChoice.All, ip_version=IPVersion.V4Only)
        info = ServiceInfo(
            TYPE,
            f"{self._label}.{TYPE}",
            port=self._port,
            properties={"txtvers": "1"},  # an empty TXT record is malformed (RFC 6763 §6.1)
            server=f"{self._label}.{DOMAIN}.",
            parsed_addresses=list(self._interfaces) or _addresses(),
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
    """IPv4 addresses that this computer has.  Raises :class:`MdnsInterfaceError`."""
    for text in texts:
        try:
            ipaddress.IPv4Address(text)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((text, 0))
        except (ValueError, OSError):
            raise MdnsInterfaceError(text=text) from None
    return tuple(texts)


def _addresses() -> list[str]:
    """Of every interface but loopback."""
    import ifaddr

    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [text for text in found if isinstance(text, str) and not ipaddress.ip_address(text).is_loopback]
