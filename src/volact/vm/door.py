# SPDX-License-Identifier: Apache-2.0
"""The guest's door to its VM host, for the licensing service: nothing has to be configured, the channel is found."""

import contextlib
import platform

from volact.vm.guest import ADDRESS, GuestChannel
from volact.vm.ports import Finder

__all__ = ["ADDRESS", "SOURCE", "is_guest", "open_door"]

SOURCE = "vm-host"  # how the client says where a licence came from


def open_door(finder: Finder | None = None) -> GuestChannel:
    """The VM host as an issuer; the channel itself is opened when something is asked."""
    return GuestChannel((finder or Finder()).open, os=_system())


def is_guest(finder: Finder | None = None) -> bool:
    """Whether this computer has a channel to a VM host, which may be silent all the same."""
    return (finder or Finder()).present()


def _system() -> str:
    """What this computer runs, in its own words."""
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{platform.system()} {platform.release()}"
