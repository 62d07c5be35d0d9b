# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's folder: where its settings, its database, its keys and the host keys it accepted are.

    fleet.json      how machines are reached, and the database's address where it is PostgreSQL
    fleet.sqlite    the database where it is SQLite, see ``schema``
    known_hosts     host keys that were accepted on first use, in OpenSSH's format
    artefacts/      what callers of the HTTP API may bring to machines, where an administrator put something there
    keys/           the vault's key and the signing key of bundles, made when they are first needed

The folder comes into being whole or not at all.  Guide: docs/guide/fleet.md.
"""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, InputError
from volact.fleet.store import FleetStore
from volact.sealing import keys

FORMAT = 1
FILE, DATABASE, KNOWN_HOSTS, KEYS = "fleet.json", "fleet.sqlite", "known_hosts", "keys"
ARTEFACTS = "artefacts"
MAX_TEXT = 400
MOST_PARALLEL, MOST_SECONDS = 1000, 3600
SUDO = ("auto", "always", "never")
FILES = ("identities", "ssh_config", "known_hosts")

_MODE = 0o700
_WORD = re.compile(r"[A-Za-z0-9@%+=:,./_-]+\Z")  # what a POSIX shell takes as it stands


class FleetFolderTakenError(ConfigError):
    code = "fleet-folder-taken"
    fmt = "{path} exists and is not empty"
    remedy = "choose another folder with --dir; an existing one is never overwritten"


class FleetFolderUnwritableError(ConfigError):
    code = "fleet-folder-unwritable"
    fmt = "cannot make the fleet tool's folder {path}: {why}"
    remedy = "choose another folder with --dir, or run the command as a user who may write there"


class NoFleetError(ConfigError):
    code = "fleet-missing"
    fmt = "there is no fleet folder in {path}"
    remedy = "make one with `volact fleet init`, or say where it is with --dir"


class FleetFolderDamagedError(ConfigError):
    code = "fleet-folder-damaged"
    fmt = "the fleet tool's folder {path} cannot be used: {why}"
    remedy = "restore the folder from your backup, or correct its fleet.json"


class FleetDatabaseUnfitError(ConfigError):
    code = "fleet-database-unfit"
    fmt = "{url} is not the address of a PostgreSQL database, or holds a password"
    remedy = "give postgresql://USER@HOST/DATABASE; the password goes into PostgreSQL's own password file (~/.pgpass)"


class FleetSettingUnfitError(InputError):
    code = "fleet-setting-unfit"
    fmt = "{name} is not {expected}"
    remedy = "see `volact fleet set --help`; nothing was changed"


@dataclass(frozen=True, slots=True)
class Settings:
    """How machines are reached, where nothing else is said.  Files and folders are paths of this computer.

    ``account``, ``port``: of SSH; empty and 0 leave them to the administrator's SSH configuration.
    ``ssh_config``, ``known_hosts``, ``identities``: empty means OpenSSH's own places.
    ``gssapi``: log in with a Kerberos ticket too.  ``command``: the remote volact; ``sudo``: before it, "auto" for all
    accounts but root.  ``parallel``: machines at once; ``starts``: of them, connections that are being set up;
    ``timeout``: seconds for one machine.
    """

    account: str = ""
    port: int = 0
    identities: tuple[str, ...] = ()
    ssh_config: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    command: str = "volact"
    sudo: str = "auto"
    parallel: int = 64
    starts: int = 16
    timeout: int = 60
    gssapi: bool = False

    @classmethod
    def from_fields(cls, claim: Fields) -> Self:
        known = asdict(cls())
        values: dict[str, Any] = {}
        for name in claim.names():
            if name not in known:
                claim.fail(name, "a setting of this version")
            default = known[name]
            if isinstance(default, bool):
                values[name] = claim.boolean(name)
            elif isinstance(default, int):
                values[name] = claim.integer(name, most=65535)
            else:
                values[name] = claim.texts(name) if isinstance(default, tuple) else claim.text(name, least=0)
        return cls(**values).check()

    def check(self) -> Self:
        """Itself; raises :class:`FleetSettingUnfitError`."""
        for name, fits, expected in (
            ("sudo", self.sudo in SUDO, "one of " + ", ".join(SUDO)),
            ("command", bool(_WORD.match(self.command)), "a command's name or path, in plain letters"),
            ("parallel", 1 <= self.parallel <= MOST_PARALLEL, f"from 1 to {MOST_PARALLEL}"),
            ("starts", 1 <= self.starts <= MOST_PARALLEL, f"from 1 to {MOST_PARALLEL}"),
            ("timeout", 1 <= self.timeout <= MOST_SECONDS, f"from 1 to {MOST_SECONDS} seconds"),
            ("account", self.account.isprintable() and len(self.account) <= MAX_TEXT, "an account's name"),
        ):
            if not fits:
                raise FleetSettingUnfitError(name=name, expected=expected)
        return self

    def changed(self) -> dict[str, Any]:
        """Only what differs from the defaults, so that a later version's defaults come to effect."""
        default = asdict(type(self)())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


@dataclass(frozen=True, slots=True)
class FleetFolder:
    path: Path
    address: str | None = None
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def create(cls, path: Path, database: str | None = None) -> Self:
        """A new folder with its tables; raises :class:`FleetFolderTakenError` and the like, and leaves nothing then."""
        if database is not None:
            check_database(database)
        path = path.absolute()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FleetFolderTakenError(path=str(path))
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            (temporary / KEYS).mkdir(mode=_MODE, parents=True)
            temporary.chmod(_MODE)
            made = cls(temporary, database)
            made._write()
            made.store().close()
            temporary.rename(path)  # takes the place of an empty folder, and of nothing else
        except OSError as exc:
            raise FleetFolderUnwritableError(path=str(path), why=exc.strerror or str(exc)) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises :class:`NoFleetError`, :class:`FleetFolderDamagedError`."""
        if not (path / FILE).is_file():
            raise NoFleetError(path=str(path))
        try:
            claim = Fields(parse_object(keys.read_file(path / FILE), FILE), FILE)
            claim.integer("v", least=FORMAT, most=FORMAT)
            return cls(path, claim.optional_text("database", most=MAX_TEXT), Settings.from_fields(claim.fields("ssh")))
        except InputError as exc:
            raise FleetFolderDamagedError(path=str(path), why=str(exc)) from None

    @property
    def database(self) -> Path | str:
        """A SQLite file, or a PostgreSQL database's address."""
        return self.address or self.path / DATABASE

    @property
    def keys(self) -> Path:
        return self.path / KEYS

    @property
    def known_hosts(self) -> Path:
        return self.path / KNOWN_HOSTS

    def artefact(self, name: str) -> Path:
        """Of this name in the folder's ``artefacts``; whoever may name a path could bring any file to machines."""
        return self.path / ARTEFACTS / Path(name).name

    def store(self) -> FleetStore:
        return FleetStore.open(self.database)

    def change(self, settings: Mapping[str, Any]) -> Self:
        """The folder with other settings, written; raises :class:`FleetSettingUnfitError`."""
        changed = replace(self, settings=replace(self.settings, **_absolute(settings)).check())
        changed._write()
        return changed

    def _write(self) -> None:
        address = {"database": self.address} if self.address else {}
        about = {"format": "volact-fleet", "v": FORMAT, **address, "ssh": self.settings.changed()}
        keys.write_file(self.path / FILE, dump_object(about) + b"\n")


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Jobs run from schedules and services too, which stand in other folders than who set this."""
    return {
        name: tuple(str(Path(one).expanduser().absolute()) for one in value) if name in FILES else value
        for name, value in settings.items()
    }


def check_database(url: str) -> None:
    """A PostgreSQL address without a password: the folder is backed up, and secrets have their own files."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "postgresql" and bool(parts.path.strip("/")) and parts.password is None
    except ValueError:
        fits = False
    if not fits or "password=" in url or len(url) > MAX_TEXT or not url.isprintable():
        shown = re.sub(r":[^:@/]*@|password=[^&]*", "…", url)[:MAX_TEXT]
        raise FleetDatabaseUnfitError(url=shown)


def who() -> str:
    """Whom the audit names for an act at this computer's command line: the login that became root, where one did."""
    import getpass

    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = f"uid {os.getuid()}"
    return user[:100]
