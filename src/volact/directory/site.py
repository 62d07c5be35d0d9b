# SPDX-License-Identifier: Apache-2.0
"""In which site of Active Directory this computer is, by the subnets that administrators gave to sites; and the file
that keeps it, so that the site's controllers are asked first next time, and still when the others are out of reach.

It is a matter of the way, not of trust: whoever is asked must know the key of its name, wherever it stands.
Spec: docs/spec/activation-object.md §6.
"""

import ipaddress
from contextlib import suppress
from pathlib import Path

from volact.directory.connection import LEVEL, Session, escape
from volact.directory.locate import is_site
from volact.directory.place import plain_dn
from volact.sealing import keys

MAX_FILE = 100  # a name of at most 63 characters, and the end of its line


def find_site(session: Session, configuration: str) -> str | None:
    """The site of the narrowest subnet that this computer's address is in, [MS-ADTS] 6.1.1.2.2.2.1; ``None`` where it
    is in none, or may not see it."""
    names = subnets(session.address)
    if not names:
        return None
    condition = f"(&(objectClass=subnet)(|{''.join(f'(cn={escape(name)})' for name in names)}))"
    found = session.search(f"CN=Subnets,CN=Sites,{configuration}", LEVEL, condition, ("cn", "siteObject"))
    by_name = {entry.text("cn").lower(): _first_name(entry.text("siteObject")) for entry in found}
    return next((by_name[name] for name in names if is_site(by_name.get(name, ""))), None)


def subnets(address: str) -> list[str]:
    """The names of all subnets that an address can be in, as their entries are called; the narrowest first."""
    try:
        own = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return []
    own = getattr(own, "ipv4_mapped", None) or own
    return [str(ipaddress.ip_network((own, bits), strict=False)) for bits in range(own.max_prefixlen, -1, -1)]


def load_site(path: Path | None) -> str | None:
    """What was found last; ``None`` where nothing was, or it cannot be read."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if is_site(text) else None


def save_site(path: Path | None, site: str) -> None:
    """Keep it until another one is found.  Whoever may not write there finds it anew each time."""
    if path is not None:
        with suppress(OSError):
            keys.write_file(path, f"{site}\n".encode(), 0o644)


def _first_name(dn: str) -> str:
    """``Branch`` of ``CN=Branch,CN=Sites,…``."""
    return plain_dn(dn).partition(",")[0].partition("=")[2]
