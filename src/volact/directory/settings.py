# SPDX-License-Identifier: Apache-2.0
"""How a member computer reaches its directory, as a file in the client's folder keeps it; without a file, the domain
of the system's keytab."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import MalformedError, StoreError
from volact.directory.door import DoorSettings
from volact.directory.errors import ServerNameError
from volact.directory.locate import is_site, parse_servers
from volact.sealing import keys

FORMAT = 1
MAX_FILE = 64 * 1024
_PATHS = ("keytab", "ca_file", "password_file")
_TEXTS = ("domain", "site", "server", "base", "user")


class MemberSettingsError(StoreError):
    code = "directory-settings"
    fmt = "cannot use {path}: {why}"
    remedy = "set them again: `volact directory member …`"


def load_settings(path: Path) -> DoorSettings | None:
    """``None``: the directory is not to be asked."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE)
    except FileNotFoundError:
        return DoorSettings()
    except OSError as exc:
        raise MemberSettingsError(path=str(path), why=exc.strerror or str(exc)) from None
    try:
        return read_settings(data)
    except MalformedError as exc:
        raise MemberSettingsError(path=str(path), why=str(exc)) from None


def read_settings(data: bytes) -> DoorSettings | None:
    """Raises ``MalformedError``, nothing else."""
    claim = Fields(parse_object(data, "directory settings"), "directory settings")
    claim.integer("v", least=FORMAT, most=FORMAT)
    if not claim.boolean("enabled"):
        return None
    values: dict[str, Any] = {name: claim.optional_text(name, most=400) for name in _TEXTS}
    if values["site"] is not None and not is_site(values["site"]):
        raise MalformedError(what="directory settings", why="the site is not a name of DNS")
    try:
        parse_servers(values["server"] or "none")
    except ServerNameError as exc:
        raise MalformedError(what="directory settings", why=str(exc)) from None
    for name in _PATHS:
        text = claim.optional_text(name, most=4000)
        if text is not None:
            values[name] = Path(text)
    if "port" in claim:
        values["port"] = claim.integer("port", least=1, most=65535)
    return DoorSettings(**values)


def save_settings(path: Path, settings: DoorSettings | None) -> None:
    values = {name: value for name, value in asdict(settings).items() if value is not None} if settings else {}
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        keys.write_file(path, dump_object({"v": FORMAT, "enabled": settings is not None, **values}) + b"\n", 0o644)
    except OSError as exc:
        raise MemberSettingsError(path=str(path), why=exc.strerror or str(exc)) from None
