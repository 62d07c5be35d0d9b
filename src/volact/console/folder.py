# SPDX-License-Identifier: Apache-2.0
"""The console's folder: what is its own, and where the folders of the roles are that it manages.

    console.json     the roles' folders, where they are not in the system's place
    console.sqlite   accounts, sessions and the audit, see ``web.schema``
    secret           under which authenticators' secrets are encrypted
    products/        definitions that were given to the wizard, for its test activation
    directory.json   how the directory is reached that the wizard activated, for the dashboard
    probe/           the test machine's own client folder

The folder comes into being whole or not at all.  Guide: docs/guide/console.md.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, InputError
from volact.sealing import keys

FORMAT = 1
FILE, DATABASE, SECRET, PRODUCTS, PROBE, DIRECTORY = (
    "console.json",
    "console.sqlite",
    "secret",
    "products",
    "probe",
    "directory.json",
)
ROLES = ("host", "vm", "fleet", "directory", "client")
MAX_PATH = 4096
_MODE = 0o700


class ConsoleFolderError(ConfigError):
    code = "console-folder-unusable"
    fmt = "the console's folder {path} cannot be used: {why}"
    remedy = "run the command as the user that owns the folder, correct console.json, or restore the folder"


@dataclass(frozen=True, slots=True)
class ConsoleFolder:
    """``roles``: where each role's folder is, where that was told."""

    path: Path
    roles: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder, made where there is none; raises :class:`ConsoleFolderError`."""
        try:
            for name in (path, path / PRODUCTS):
                name.mkdir(mode=_MODE, parents=True, exist_ok=True)
            return cls(path, _read_roles(path / FILE))
        except OSError as exc:
            raise ConsoleFolderError(path=str(path), why=exc.strerror or str(exc)) from None
        except InputError as exc:
            raise ConsoleFolderError(path=str(path), why=str(exc)) from None

    def with_roles(self, roles: Mapping[str, Path]) -> Self:
        """The folder that remembers where these roles are, beside those it knew."""
        if not roles:
            return self
        known = {**self.roles, **{role: path.absolute() for role, path in roles.items()}}
        about = {"format": "volact-console", "v": FORMAT, "folders": {role: str(path) for role, path in known.items()}}
        keys.write_file(self.path / FILE, dump_object(about) + b"\n")
        return type(self)(self.path, known)

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def secret(self) -> Path:
        return self.path / SECRET

    @property
    def products(self) -> Path:
        return self.path / PRODUCTS

    @property
    def probe(self) -> Path:
        return self.path / PROBE

    def keep_directory(self, options: Mapping[str, str]) -> None:
        """How a directory is reached: names and paths, no password."""
        keys.write_file(self.path / DIRECTORY, dump_object(dict(options)) + b"\n")

    def directory(self) -> dict[str, str]:
        """Empty where the wizard has activated none."""
        if not (self.path / DIRECTORY).is_file():
            return {}
        try:
            stored = parse_object(keys.read_file(self.path / DIRECTORY), DIRECTORY)
        except (InputError, OSError) as exc:
            raise ConsoleFolderError(path=str(self.path), why=str(exc)) from None
        return {name: value for name, value in stored.items() if isinstance(value, str)}

    def keep_definition(self, product: str, root: str, token: bytes) -> None:
        """For the test activation: the definition with the root under which it was verified."""
        keys.write_file(self.products / f"{product}.root", root.encode())
        keys.write_file(self.products / f"{product}.volproduct", token.strip() + b"\n")

    def definition(self, product: str) -> tuple[Path, str] | None:
        """Its file and its root."""
        path = self.products / f"{product}.volproduct"
        if os.sep in product or not path.is_file():
            return None
        return path, (self.products / f"{product}.root").read_text(encoding="ascii").strip()


def _read_roles(path: Path) -> dict[str, Path]:
    if not path.is_file():
        return {}
    claim = Fields(parse_object(keys.read_file(path), FILE), FILE)
    claim.integer("v", least=FORMAT, most=FORMAT)
    folders = claim.fields("folders")
    for name in folders.names():
        if name not in ROLES:
            folders.fail(name, "a role")
    return {name: Path(folders.text(name, most=MAX_PATH)) for name in folders.names()}
