# SPDX-License-Identifier: Apache-2.0
"""Machines that announce themselves on the local network by mDNS (RFC 6762): SSH servers, workstations, KMS hosts.

Whoever is on the network can announce anything: what is found is a name to be asked, over SSH with a known host key.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Any

from volact.fleet.discovery.errors import MdnsFailedError
from volact.fleet.inventory.machines import Found

SERVICES = ("_ssh._tcp.local.", "_sftp-ssh._tcp.local.", "_workstation._tcp.local.", "_volact._tcp.local.")
SECONDS = 3.0
MOST = 10_000
SSH_PORT = 22


class _Listener:
    """Remembers who announced what; the details are asked for afterwards."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.names: dict[str, str] = {}

    def add_service(self, _zeroconf: Any, kind: str, name: str) -> None:
        with self._lock:
            if len(self.names) < MOST:
                self.names[name] = kind

    update_service = add_service

    def remove_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        with self._lock:
            self.names.pop(name, None)


def browse(
    seconds: float = SECONDS, interfaces: list[str] | None = None, wait: Callable[[float], None] = time.sleep
) -> Iterator[Found]:
    """Listens so long; each machine once, with the port where it is SSH's own service."""
    import zeroconf

    listening = _listening(interfaces)
    try:
        listener = _Listener()
        browser = zeroconf.ServiceBrowser(listening, list(SERVICES), listener=listener)  # type: ignore[arg-type]
        wait(seconds)
        browser.cancel()
        found: dict[str, Found] = {}
        for name, kind in sorted(listener.names.items()):
            info = listening.get_service_info(kind, name, timeout=1000)
            if info is not None and info.server:
                one = _found(info, kind)
                known = found.get(one.name)
                found[one.name] = one if known is None or known.port is None else known
    finally:
        listening.close()
    yield from found.values()


def _listening(interfaces: list[str] | None) -> Any:
    """By IPv4 and IPv6; by IPv4 alone on a computer without the other."""
    import zeroconf

    chosen = interfaces or zeroconf.InterfaceChoice.All
    try:
        with suppress(OSError):
            return zeroconf.Zeroconf(interfaces=chosen, ip_version=zeroconf.IPVersion.All)
        return zeroconf.Zeroconf(interfaces=chosen)
    except OSError as exc:
        raise MdnsFailedError(why=exc.strerror or str(exc)) from None


def _found(info: Any, kind: str) -> Found:
    name = str(info.server).rstrip(".").lower()
    port = info.port if "ssh" in kind and info.port != SSH_PORT else None
    addresses = info.parsed_scoped_addresses()  # those of IPv4 first
    return Found(name, f"mdns {kind.rstrip('.')}", addresses[0] if addresses else None, port)
