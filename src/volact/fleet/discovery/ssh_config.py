# SPDX-License-Identifier: Apache-2.0
"""Machines that the administrator's OpenSSH knows: ``Host`` lines of its config, and names in known_hosts.

Patterns are no machines, and hashed names (``HashKnownHosts yes``) tell nothing: both are left out.  Where a ``Host``
leads (HostName, Port, User, ProxyJump) stays in the config, which is read again at each connection.
"""

import shlex
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from volact.core.errors import InputError
from volact.fleet.discovery.errors import SourceUnfitError
from volact.fleet.discovery.names import read_source
from volact.fleet.inventory.machines import Found, check_name

MOST_DEPTH = 16  # of Include, as in OpenSSH
DEFAULT_CONFIG, DEFAULT_KNOWN = "~/.ssh/config", "~/.ssh/known_hosts"
_PATTERN = set("*?!")


def from_config(path: Path | str = DEFAULT_CONFIG, depth: int = 0) -> Iterator[Found]:
    """The plain names of every ``Host`` line, those of included files too."""
    if depth > MOST_DEPTH:
        raise SourceUnfitError(source=str(path), where="", why="Include goes too deep")
    for number, line in enumerate(read_source(path).splitlines(), 1):
        keyword, words = _split(line, path, number)
        if keyword == "host":
            for name in words:
                if not set(name) & _PATTERN and (found := _found(name, f"ssh config {path}")):
                    yield found
        elif keyword == "include":
            for pattern in words:
                for file in _included(pattern, Path(path)):
                    yield from from_config(file, depth + 1)


def from_known_hosts(path: Path | str = DEFAULT_KNOWN) -> Iterator[Found]:
    """Every name and address, once; of a host with several the first name."""
    seen: set[str] = set()
    for line in read_source(path).splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith("@"):  # authorities and revoked keys name no machine
            continue
        name, port = _place(words[0].split(",")[0])
        if name.startswith("|") or set(name) & _PATTERN or name in seen:
            continue
        seen.add(name)
        if found := _found(name, f"known_hosts {path}", port):
            yield found


def _split(line: str, path: Path | str, number: int) -> tuple[str, list[str]]:
    text = line.strip()
    if not text or text.startswith("#"):
        return "", []
    keyword, _, rest = text.replace("=", " ", 1).partition(" ")
    try:
        return keyword.lower(), shlex.split(rest)
    except ValueError as exc:
        raise SourceUnfitError(source=str(path), where=f" (line {number})", why=str(exc)) from None


def _included(pattern: str, config: Path) -> list[str]:
    """Relative paths are meant from the folder of the user's config."""
    path = Path(pattern).expanduser()
    return sorted(glob(str(path if path.is_absolute() else config.expanduser().parent / path)))  # noqa: PTH207 - absolute


def _place(text: str) -> tuple[str, int | None]:
    if text.startswith("[") and "]:" in text:
        host, _, port = text[1:].partition("]:")
        return host, int(port) if port.isdecimal() and 0 < int(port[:6]) <= 65_535 else None
    return text, None


def _found(name: str, source: str, port: int | None = None) -> Found | None:
    """Names that are none, such as "github.com-work" of some other use, are still names; what is no name is not."""
    try:
        return Found(check_name(name), source, port=port)
    except InputError:
        return None
