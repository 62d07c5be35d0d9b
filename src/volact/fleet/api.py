# SPDX-License-Identifier: Apache-2.0
"""The fleet tool for programs: a method for each verb of ``volact fleet``, under the same name.

    from volact.fleet.api import Fleet

    with Fleet.open("/var/lib/volact/fleet") as fleet:
        fleet.discover(["web[1-20].example.com"], tags=["web"])
        job = fleet.refresh(filter="tag=web")
        print(fleet.report("overview", filter="tag=web").summary)

Verbs that act on machines make a job and work through it; with ``wait=False`` they only make it, and ``volact fleet
serve``, or ``run_job`` anywhere, does the work.  Everything is written to the audit trail with ``who``.  What is wrong
is a :class:`~volact.core.errors.VolactError` with its code.  Guide: docs/guide/fleet-api.md.
"""

import builtins
import json
import os
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from volact.core.errors import InputError, VolactError
from volact.fleet import (
    acting,
    agreements,
    automation,
    bundle,
    inventory,
    keys,
    machines,
    mail,
    publisher,
    runners,
    schedule,
    transfer,
    vault,
)
from volact.fleet import views as saved_views
from volact.fleet.activate import Options
from volact.fleet.agreements import Bought
from volact.fleet.bundle import Bundle, RequestRow
from volact.fleet.cron import Times, local_zone
from volact.fleet.desk import REFRESH, Desk, Selection, SshOptions
from volact.fleet.discovery import matching
from volact.fleet.discovery.names import from_words
from volact.fleet.folder import FleetFolder, who
from volact.fleet.inventory import Group, Machine, Page, Query
from volact.fleet.jobs import store as job_rows
from volact.fleet.jobs.engine import Progress
from volact.fleet.jobs.records import Job, JobState, Task
from volact.fleet.keys import Asked as AskedKey
from volact.fleet.keys import KeyRow
from volact.fleet.machines import Added, Found
from volact.fleet.mail import MailSettings
from volact.fleet.office import Office
from volact.fleet.publisher import KnownDefinition, Service
from volact.fleet.reach import bootstrap
from volact.fleet.reports.asked import DEFAULT_DAYS, Asked, scope_of
from volact.fleet.reports.catalogue import make_report
from volact.fleet.reports.report import Report
from volact.fleet.runners import Runner
from volact.fleet.schedule import Schedule
from volact.fleet.store import AuditRow, FleetStore, note
from volact.fleet.transfer import Confirmed, Exported, Imported
from volact.fleet.vault import Vault, VaultPassphraseMissingError
from volact.fleet.views import View
from volact.sealing.keys import LocalKey

T = TypeVar("T")
Names = Sequence[str]
PASSPHRASE_VARIABLE = "VOLACT_FLEET_PASSPHRASE_FILE"  # noqa: S105 - where it is named, not what it is
POLL_SECONDS = 2.0  # how soon a queued job is seen


def _now() -> int:
    return int(time.time())


class NothingToSetError(InputError):
    code = "machine-nothing-to-set"
    fmt = "nothing was given that machines could be set to"
    remedy = "give an address, a port or an account"


@dataclass
class Fleet:
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

    # ---- the folder

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

    # ---- machines

    def discover(
        self, words: Iterable[str] = (), *, found: Iterable[Found] = (), match: Names = (), tags: Names = ()
    ) -> Added:
        """Adds machines: names, addresses and ranges as ``words``, and what the modules of
        :mod:`volact.fleet.discovery` found."""
        everything = [*from_words(builtins.list(words)), *found]
        chosen = builtins.list(matching(everything, match, tags))
        return self._write(lambda conn, now: machines.add(conn, chosen, now, self.who))

    def list(
        self, *, filter: str = "", sort: Names = (), columns: Names = (), limit: int = 100, offset: int = 0
    ) -> Page:
        """A row for each product of each machine that fits."""
        query = Query(filter, tuple(sort), tuple(columns), limit, offset)
        return self._read(lambda conn: inventory.products(conn, query, self.clock()))

    def list_machines(
        self, *, filter: str = "", sort: Names = (), columns: Names = (), limit: int = 100, offset: int = 0
    ) -> Page:
        """A row for each machine that fits."""
        query = Query(filter, tuple(sort), tuple(columns), limit, offset)
        return self._read(lambda conn: inventory.machines(conn, query, self.clock()))

    def group(self, by: Names, *, filter: str = "") -> Sequence[Group]:
        """How many machines and products there are with each combination of values."""
        return self._read(lambda conn: inventory.groups(conn, by, filter, self.clock()))

    def show(self, machine: str) -> Machine:
        """One machine in full."""
        return self._read(lambda conn: inventory.machine(conn, machine))

    def history(self, *, since: int = 0, filter: str = "", limit: int = 1000) -> Sequence[Mapping[str, Any]]:
        """What changed, the newest first."""
        return self._read(lambda conn: inventory.history(conn, filter, since, self.clock(), limit))

    def view_save(
        self, name: str, *, filter: str = "", sort: Names = (), columns: Names = (), grouping: Names = ()
    ) -> View:
        """Keeps a list under a name, for everybody, in the place of one of that name."""
        view = View(name, filter, tuple(sort), tuple(columns), tuple(grouping))
        return self._write(lambda conn, now: saved_views.save(conn, view, now, self.who))

    def views(self) -> Sequence[View]:
        return self._read(saved_views.all_views)

    def view(self, name: str) -> View:
        return self._read(lambda conn: saved_views.find(conn, name))

    def view_remove(self, name: str) -> None:
        self._write(lambda conn, now: saved_views.remove(conn, name, now, self.who))

    def tag(self, tags: Names, *, names: Names = (), filter: str = "") -> int:
        """Adds tags to the selected machines; how many they are."""
        return self._on_selected(names, filter, lambda conn, ids, now: machines.tag(conn, ids, tags, now, self.who))

    def untag(self, tags: Names, *, names: Names = (), filter: str = "") -> int:
        return self._on_selected(names, filter, lambda conn, ids, now: machines.untag(conn, ids, tags, now, self.who))

    def set_machine(self, *, names: Names = (), filter: str = "", **values: Any) -> int:
        """``address``, ``port``, ``account`` of the selected machines; ``None`` clears one."""
        if not values:
            raise NothingToSetError()
        return self._on_selected(
            names, filter, lambda conn, ids, now: machines.change(conn, ids, values, now, self.who)
        )

    def remove(self, *, names: Names = (), filter: str = "") -> int:
        """Forgets the selected machines; they notice nothing."""
        return self._on_selected(names, filter, lambda conn, ids, now: machines.remove(conn, ids, now, self.who))

    # ---- acts on machines: each makes a job

    def refresh(self, *, names: Names = (), filter: str = "", wait: bool = True, dry_run: bool = False) -> Job:
        """Asks machines for their products."""
        return self._job(REFRESH, {}, names, filter, wait=wait, dry_run=dry_run)

    def bootstrap(
        self, artefact: Path | str, *, names: Names = (), filter: str = "", upgrade: bool = False,
        prefix: str = bootstrap.PREFIX, link: str = bootstrap.LINK, wait: bool = True, dry_run: bool = False,
    ) -> Job:  # fmt: skip
        """Installs volact on machines that have none: a wheel, a tar.gz of wheels, or a zip application."""
        arguments = bootstrap.artefact_arguments(Path(artefact), prefix=prefix, link=link, upgrade=upgrade)
        return self._job(bootstrap.BOOTSTRAP, arguments, names, filter, wait=wait, dry_run=dry_run)

    def install_key(
        self,
        key: str | None = None,
        *,
        names: Names = (),
        filter: str = "",
        product: str | None = None,
        edition: str | None = None,
        prefer: str = "generic",
        replace: bool = False,
        add: bool = False,
        wait: bool = True,
        dry_run: bool = False,
    ) -> Job:
        """Installs a key of the vault (by its last five symbols or its ID), or the recommended one of each product;
        ``add``: brings the product's definition where it lacks."""
        key_id = None if key is None else self._read(lambda conn: keys.find(conn, key)).key_id
        arguments = {"key_id": key_id, "product": product, "edition": edition, "prefer": prefer, "replace": replace}
        arguments["add"] = add
        return self._job(acting.INSTALL, _given(arguments), names, filter, wait=wait, dry_run=dry_run)

    def activate(
        self, *, names: Names = (), filter: str = "", wait: bool = True, dry_run: bool = False, **options: Any
    ) -> Job:
        """Each product by its own way; ``options``: the fields of :class:`~volact.fleet.activate.Options`."""
        arguments = Options(**options).check().to_arguments()
        return self._job(acting.ACTIVATE, arguments, names, filter, wait=wait, dry_run=dry_run)

    def proxy_collect(
        self, *, names: Names = (), filter: str = "", product: str | None = None, force: bool = False,
        wait: bool = True, dry_run: bool = False,
    ) -> Job:  # fmt: skip
        """Collects machines' requests, to be confirmed elsewhere."""
        arguments = _given({"product": product, "force": force})
        return self._job(acting.COLLECT, arguments, names, filter, wait=wait, dry_run=dry_run)

    def proxy_confirm(self, requests: bytes, url: str | None = None) -> Confirmed:
        """Has the requests of a bundle answered by their publishers; the answers' bundle."""
        parsed = bundle.parse(requests)
        return confirm_bundle(
            parsed, bundle.signing_key(self.folder.keys), self.clock(), self.random, url, self.service
        )

    def proxy_apply(
        self, *, names: Names = (), filter: str = "", keep: bool = False, wait: bool = True, dry_run: bool = False
    ) -> Job:
        """Brings answers that were imported to their machines; ``keep``: which seal a backup to the vault then."""
        return self._job(acting.APPLY, _given({"keep": keep}), names, filter, wait=wait, dry_run=dry_run)

    def backup(self, *, names: Names = (), filter: str = "", wait: bool = True, dry_run: bool = False) -> Job:
        """Lets machines seal their identity and licences to the vault."""
        return self._job(acting.KEEP, {}, names, filter, wait=wait, dry_run=dry_run)

    def restore(self, *, names: Names = (), filter: str = "", wait: bool = True, dry_run: bool = False) -> Job:
        """Re-activates reimaged machines from their backups, without using the pool."""
        return self._job(acting.RESTORE, {}, names, filter, wait=wait, dry_run=dry_run)

    # ---- jobs

    def make_job(
        self, kind: str, arguments: Mapping[str, Any], *, names: Names = (), filter: str = "", who: str | None = None,
        dry_run: bool = False, not_before: int | None = None,
    ) -> int:  # fmt: skip
        """A job that waits; its number."""
        desk, chosen = self.desk(who), Selection(tuple(names), filter)
        return desk.make(kind, chosen, arguments, dry_run=dry_run, not_before=not_before).id

    def run_job(self, job: int) -> Job:
        """Works through a job: a new one, a paused one, or one whose tool died."""
        return self.desk().run(job)

    async def run_job_async(self, job: int) -> Job:
        return await self.desk().run_async(job)

    def jobs(self, limit: int = 50, states: Names = ()) -> Sequence[Job]:
        return self.desk().jobs(limit, states)

    def job(self, job: int) -> Job:
        return self.desk().job(job)

    def job_tasks(self, job: int, *, states: Names = (), limit: int = 100, offset: int = 0) -> Sequence[Task]:
        return self._read(lambda conn: job_rows.tasks(conn, job_rows.job(conn, job).id, states, limit, offset))

    def job_pause(self, job: int) -> Job:
        return self.desk().pause(job)

    def job_resume(self, job: int) -> Job:
        """A paused job waits again; ``run_job`` or the service goes on with it."""

        def change(conn: Connection, now: int) -> Job:
            job_rows.move(conn, job, JobState.QUEUED, {JobState.PAUSED}, now)
            note(conn, now, self.who, "job-resume", f"job {job}")
            return job_rows.job(conn, job)

        return self._write(change)

    def job_cancel(self, job: int) -> Job:
        return self.desk().cancel(job)

    def job_retry(self, job: int, *, uncertain: bool = False, wait: bool = True) -> Job:
        """Tries the failed ones again."""
        self.desk().retry(job, uncertain=uncertain)
        return self.run_job(job) if wait else self.job(job)

    # ---- keys, definitions, agreements

    def keys_add(self, lines: Sequence[str]) -> tuple[Sequence[KeyRow], Sequence[KeyRow]]:
        """One key a line, a description behind a comma; the new ones, and those that were there.  The vault is made
        with the first.  A line that is no key raises its error, and nothing is added."""
        parsed = keys.parse_lines(lines, "the keys")
        if parsed.problems:
            raise parsed.problems[0].error
        opened = self.open_vault(create=True)
        return self._write(lambda conn, now: keys.add(conn, opened, parsed.keys, now, self.who))

    def keys_list(self, product: str | None = None, channel: str | None = None) -> Sequence[KeyRow]:
        return self._read(lambda conn: keys.listed(conn, product, channel))

    def keys_remove(self, key: str) -> KeyRow:
        """From the vault; no machine loses anything."""

        def change(conn: Connection, now: int) -> KeyRow:
            row = keys.find(conn, key)
            keys.remove(conn, row, now, self.who)
            return row

        return self._write(change)

    def keys_refresh(self, names: Names = (), *, url: str | None = None, who: str | None = None) -> Sequence[AskedKey]:
        """Asks the publisher what is left of these keys, or of all."""
        found = self._read(lambda conn: [keys.find(conn, one) for one in names] if names else keys.listed(conn))
        return keys.refresh(self.store, self.open_vault(), found, self.clock, who or self.who, url, self.service)

    def definition_add(self, token: str, root: str) -> KnownDefinition:
        """A signed product definition, under the root that came with the product."""

        def change(conn: Connection, now: int) -> KnownDefinition:
            made = publisher.add_definition(conn, token, root, now, self.who).definition
            return next(one for one in publisher.definitions(conn) if (one.root, one.product) == (root, made.product))

        return self._write(change)

    def definitions(self) -> Sequence[KnownDefinition]:
        return self._read(publisher.definitions)

    def agreements_import(self, data: bytes, source: str = "file") -> Sequence[Bought]:
        """What was bought, from CSV or the publisher's JSON."""
        found = agreements.parse(data)
        self._write(lambda conn, now: agreements.keep(conn, found, source, now, self.who))
        return found

    def agreements_fetch(self, url: str, token: str, *, ca_file: Path | None = None) -> Sequence[Bought]:
        """What was bought, from the publisher's HTTP API, by an organisation's token."""
        items = Office.at(url, token, ca_file).agreements()
        return self.agreements_import(json.dumps(items).encode(), url) if items else ()

    def agreements(self) -> Sequence[Bought]:
        return self._read(agreements.listed)

    def agreements_remove(self, name: str) -> None:
        self._write(lambda conn, now: agreements.remove(conn, name, now, self.who))

    # ---- bundles

    def export(
        self, kind: str = "requests", *, machines: Names | None = None, passphrase: bytes | None = None
    ) -> Exported:
        """``requests`` (no keys, no names: the default), ``inventory``, or ``full``, with keys under ``passphrase``."""
        key, now = bundle.signing_key(self.folder.keys), self.clock()
        if kind == "requests":
            return transfer.export_requests(self.store, key, now, self.who, self.random, machines)
        opened = self.open_vault() if kind == "full" else None
        return transfer.export_inventory(self.store, key, now, self.who, self.random, opened, passphrase)

    def import_bundle(
        self, data: bytes, *, signer: str | None = None, passphrase: bytes | None = None, dry_run: bool = False
    ) -> Imported:
        """Takes a bundle in; the file wins, and what it replaced is listed."""
        own = bundle.fingerprint(bundle.signing_key(self.folder.keys))
        parsed = bundle.parse(data)
        opened = self._vault_for_keys(dry_run=dry_run) if passphrase is not None else None
        return transfer.import_bundle(
            self.store, parsed, self.clock(), self.who, own, signer=signer, opened=opened, passphrase=passphrase,
            dry_run=dry_run,
        )  # fmt: skip

    # ---- reports and schedules

    def report(self, name: str, *, filter: str = "", days: int = DEFAULT_DAYS, since: int = 0) -> Report:
        """See :data:`volact.fleet.reports.catalogue.REPORTS`; ``volact.fleet.reports.render`` makes files of it."""
        now = self.clock()
        asked = Asked(now, days, since, scope_of(filter, now), filter.strip())
        return self._read(lambda conn: make_report(conn, name, asked))

    def take_samples(self) -> int:
        """Writes the day's figures, which trends and forecasts are made of."""
        return automation.take_daily_samples(self)

    def schedule_add(
        self, name: str, cron: str, kind: str, arguments: Mapping[str, Any] | None = None, *, zone: str | None = None
    ) -> Schedule:
        """``kind``: see :data:`volact.fleet.automation.KINDS`; ``zone``: this computer's where none is given."""
        times = Times.of(cron, zone or local_zone())
        given = automation.check(kind, arguments or {})
        return self._write(lambda conn, now: schedule.add(conn, name, times, kind, given, now, self.who))

    def schedules(self) -> Sequence[Schedule]:
        return self._read(schedule.listed)

    def runners(self) -> Sequence[Runner]:
        """Who runs schedules now, or did lately."""
        return self._read(lambda conn: runners.seen(conn, self.clock()))

    def schedule_remove(self, name: str) -> None:
        self._write(lambda conn, now: schedule.remove(conn, name, now, self.who))

    def schedule_enable(self, name: str, *, enabled: bool = True) -> Schedule:
        return self._write(lambda conn, now: schedule.enable(conn, name, now, self.who, enabled=enabled))

    async def schedule_run(self, name: str | None = None) -> Sequence[tuple[Schedule, VolactError | None]]:
        """Everything that is due, or the one that is named, due or not."""
        if name is not None:
            self._write(lambda conn, now: schedule.run_now(conn, name, now, self.who))
        return await automation.Automation(self).run_due(name)

    def set_mail(self, settings: MailSettings) -> MailSettings:
        """Where reports are mailed through."""
        settings.save(self.folder.path)
        about = {"server": settings.server, "from": settings.sender}
        self._write(lambda conn, now: note(conn, now, self.who, "set-mail", settings.server, about))
        return settings

    def mail_settings(self) -> MailSettings:
        return mail.MailSettings.load(self.folder.path)

    # ---- the audit trail

    def audit(self, limit: int = 100, before: int | None = None, who: str | None = None) -> Sequence[AuditRow]:
        """Who did what, the newest first."""
        return self.store.audit(limit, before, who)

    def note(self, act: str, object_: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """A row of the audit trail for an act outside of the database."""
        self._write(lambda conn, now: note(conn, now, self.who, act, object_, detail))

    # ---- what others are built of

    def desk(self, who: str | None = None) -> Desk:
        """Where jobs are made and run, for this caller."""
        return Desk(
            self.folder, self.store, self.clock, who or self.who, self.ssh, self.open_vault, self.progress, self.reach
        )

    def as_(self, who: str) -> "Fleet":
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

    def _vault_for_keys(self, *, dry_run: bool) -> Vault:
        """Head office may import its first keys; a dry run makes no vault for them."""
        return Vault.throwaway() if dry_run and not self.has_vault() else self.open_vault(create=True)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self.store.read() as conn:
            return query(conn)

    def _write(self, change: Callable[[Connection, int], T]) -> T:
        with self.store.write() as conn:
            return change(conn, self.clock())

    def _on_selected(
        self, names: Names, filter: str, change: Callable[[Connection, builtins.list[int], int], Any]
    ) -> int:
        def on_them(conn: Connection, now: int) -> int:
            chosen = inventory.select_machines(conn, filter, names, now)
            change(conn, chosen, now)
            return len(chosen)

        return self._write(on_them)

    def _job(
        self, kind: str, arguments: Mapping[str, Any], names: Names, filter: str, *, wait: bool, dry_run: bool
    ) -> Job:
        made = self.make_job(kind, arguments, names=names, filter=filter, dry_run=dry_run)
        return self.run_job(made) if wait else self.job(made)


def confirm_bundle(
    requests: Bundle,
    key: LocalKey,
    now: int,
    random: Callable[[int], bytes],
    url: str | None = None,
    service: Callable[[KnownDefinition, str | None], Service] = publisher.service_of,
) -> Confirmed:
    """Needs no database: on a connected computer that knows nothing of the fleet."""

    def publisher_of(row: RequestRow) -> Service:
        return service(KnownDefinition("", "", 0, row.url, ""), url)

    return transfer.confirm(requests, publisher_of, key, now, random)


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was not said has its default in the act."""
    return {name: value for name, value in arguments.items() if value not in (None, False)}
