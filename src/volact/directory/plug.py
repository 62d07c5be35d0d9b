# SPDX-License-Identifier: Apache-2.0
"""The directory's door as the client finds it (entry point ``volact.doors``): there where the extra is installed, and
this computer is a member of a domain or was told of a directory (``volact directory member``).

A computer without a domain does not pay for importing the rest of the room.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volact.directory.door import DirectoryDoor

CHANNELS, FIRST = ("volume",), True
SETTINGS, SITE = "directory.json", "directory.site"  # what was set, and the site that the computer was found in
SYSTEM_KEYTAB = Path("/etc/krb5.keytab")


def open_door(folder: Path, say: Callable[[str], None]) -> "DirectoryDoor | None":
    """``None`` where this computer takes no part in activation through a directory."""
    told = (folder / SETTINGS).exists()
    if not told and not SYSTEM_KEYTAB.exists():
        return None
    if find_spec("bonsai") is None:
        if told:
            say("note: the directory is not asked, since bonsai is not installed: pip install 'volact[directory]'")
        return None
    from volact.directory.door import DirectoryDoor
    from volact.directory.settings import load_settings

    settings = load_settings(folder / SETTINGS)
    return DirectoryDoor(settings, folder / SITE) if settings is not None else None
