# SPDX-License-Identifier: Apache-2.0
"""What every method stands on: the folder and database that are open, whom the audit trail names, the key vault."""

import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from volact.fleet.desk import Desk, SshOptions
from volact.fleet.folder import FleetFolder, who
from volact.fleet.jobs.engine import Progress
from volact.fleet.keys import publisher, vault
from volact.fleet.keys.publisher import KnownDefinition, Service
from volact.fleet.keys.vault import Vault, VaultPassphraseMissingError
from volact.fleet.store import AuditRow, FleetStore, note

T = TypeVar("T")
Names = Sequence[str]
PASSPHRASE_VARIABLE = "VOLACT_FLEET_PASSPHRASE_FILE"  # noqa: S105 - where it is named, not what it is
POLL_SECONDS = 2.0  # how soon a queued job is seen


def _now() -> int:
    return int(time.time())


@dataclass
class Base:
    """One fleet folder, opened.  ``who`` is whom the audit trail names; ``passphrase`` opens the key vault where the
    folder does not keep it; ``reach`` and ``service`` take the place of SSH and of the publisher, in tests."""

    folder: FleetFolder
    store: FleetStore
    who: str
    clock: Callable[[], int] = _now
    passphrase: Callable[[], bytes] | None = field(default=None, repr=False)
    ssh: SshOptions = field(default_factory=SshOptions)
    progress: Callable[[Progress], None] = lambda _: None
    reach: Callable[[], Any] | None = None
    service: Callable[[KnownDefinition, str | None], Service] = publisher.service_of
    random: Callable[[int], bytes] = os.urandom
    mail_tls: ssl.SSLContext | None = None
    poll_seconds: float = POLL_SECONDS

    @classmethod
    def init(cls, path: Path | str, database: str | None = None, **more: Any) -> Self:
        """A new folder, opened; ``database``: a PostgreSQL address instead of a SQLite file."""
        return cls._of(FleetFolder.create(Path(path), database), **more)

    @classmethod
    def open(cls, path: Path | str, **more: Any) -> Self:
        """``more``: the fields of this class."""
        return cls._of(FleetFolder.open(Path(path)), **more)

    @classmethod
    def _of(cls, folder: FleetFolder, **more: Any) -> Self:
        more.setdefault("who", who())
        return cls(folder, folder.store(), **more)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def audit(self, limit: int = 100, before: int | None = None, who: str | None = None) -> Sequence[AuditRow]:
        """Who did what, the newest first."""
        return self.store.audit(limit, before, who)

    def note(self, act: str, object_: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """A row of the audit trail for an act outside of the database."""
        self._write(lambda conn, now: note(conn, now, self.who, act, object_, detail))

    def desk(self, who: str | None = None) -> Desk:
        """Where jobs are made and run, for this caller."""
        return Desk(
            self.folder, self.store, self.clock, who or self.who, self.ssh, self.open_vault, self.progress, self.reach
        )

    def as_(self, who: str) -> Self:
        """The same fleet for another caller."""
        return replace(self, who=who)

    def has_vault(self) -> bool:
        return self._read(vault.exists)

    def open_vault(self, *, create: bool = False) -> Vault:
        """Raises :class:`VaultPassphraseMissingError` where nobody gave it and the folder does not keep it."""
        if create and not self.has_vault():
            made = self.passphrase() if self.passphrase else vault.new_passphrase(self.folder)
            return self._write(lambda conn, now: vault.create(conn, made, now, self.who))
        given = self.passphrase() if self.passphrase else vault.kept_passphrase(self.folder)
        if given is None:
            raise VaultPassphraseMissingError(variable=PASSPHRASE_VARIABLE)
        return self._read(lambda conn: vault.open_vault(conn, given))

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self.store.read() as conn:
            return query(conn)

    def _write(self, change: Callable[[Connection, int], T]) -> T:
        with self.store.write() as conn:
            return change(conn, self.clock())
