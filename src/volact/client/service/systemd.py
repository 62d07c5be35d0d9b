# SPDX-License-Identifier: Apache-2.0
"""What a service says to systemd, and takes from it: sd_notify and socket activation.  Standard library only.

Outside of systemd every function does nothing.
"""

import functools
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def is_listening(variables: Mapping[str, str]) -> bool:
    """Does a service manager wait for notices?"""
    return variables.get("NOTIFY_SOCKET", "")[:1] in ("/", "@")


def notify(variables: Mapping[str, str], *lines: str) -> None:
    """``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``, ``STATUS=…``; never fails."""
    if not is_listening(variables):
        return
    address = variables["NOTIFY_SOCKET"]
    where = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(lines).encode(), where)


def when_ready(variables: Mapping[str, str], status: str) -> Callable[[], None] | None:
    """What a server calls once it answers; ``None`` where no service manager waits for that."""
    if not is_listening(variables):
        return None
    return functools.partial(notify, variables, "READY=1", f"STATUS={status}")


def watchdog_seconds(variables: Mapping[str, str]) -> float | None:
    """How often to say that all is well: half of what systemd waits for."""
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = variables.get("WATCHDOG_USEC", "")
    return int(text) / 2_000_000 if text.isdecimal() and int(text) > 0 else None


def given_socket(variables: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that systemd made, where it made one for this process."""
    if variables.get("LISTEN_PID") != str(os.getpid()) or variables.get("LISTEN_FDS") != "1":
        return None
    os.set_inheritable(FIRST_DESCRIPTOR, False)
    return socket.socket(fileno=FIRST_DESCRIPTOR)
