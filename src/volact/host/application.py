# SPDX-License-Identifier: Apache-2.0
"""Wiring of a running KMS host: the worker's application, and what runs beside it in the parent process.

Workers answer; the parent publishes DNS records, renews certificates and keeps house.  Each process opens the store
for itself.  A change of the folder (``volact host activate`` while it runs) is picked up within :data:`RELOAD_SECONDS`.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volact.core.count import day_of
from volact.core.errors import VolactError
from volact.core.fingerprint import Fingerprint
from volact.host.dns import DnsEvent, DnsPublisher
from volact.host.dns.mdns import MdnsPublisher
from volact.host.folder import HostFolder, HostKey
from volact.host.hardware import same_hardware
from volact.host.issuing import Intervals
from volact.host.metrics import MetricsPage
from volact.host.recording import ERROR, INFO, WARNING
from volact.host.service import HostService, Serving
from volact.host.settings import HostSettings
from volact.host.store import HostStore
from volact.issuer import activation
from volact.issuer.activation import HostFacts
from volact.issuer.revocation import refresh_statuses
from volact.issuer.serving import open_key
from volact.sealing.verify import TrustedDefinition
from volact.wire.server import IssuerApplication, Page

RELOAD_SECONDS = 1.0
CHECKPOINT_SECONDS = 1.0  # under load the log grows by megabytes a second
PRUNE_SECONDS = 60.0  # of the log, which a storm, or an attacker, fills by a gigabyte an hour
DAILY_SECONDS = 3600.0  # housekeeping and the look at certificates; daily would miss a machine that sleeps
STOP_SECONDS = 15.0  # a stop does not wait longer for a publisher that is slow to answer a renewal
PLAIN = "text/plain; charset=utf-8"

_log = logging.getLogger("volact.host")


@dataclass(frozen=True, slots=True)
class HostRun:
    """What a worker needs to start by itself, picklable."""

    folder: Path
    passphrase_file: Path | None
    name: str

    @staticmethod
    def clock() -> int:
        return int(time.time())

    def open_folder(self) -> HostFolder:
        return HostFolder(self.folder, self.passphrase_file).check()


def load_application(run: HostRun) -> IssuerApplication:
    """Make a worker's application; runs inside the worker."""
    return _Worker(run).application


def load_serving(folder: HostFolder, store: HostStore, name: str) -> list[Serving]:
    """Every activated host key of the folder, with the scopes that its groups count in."""
    products = folder.products()
    passphrase = folder.passphrase()
    return [_serving(folder, key, products, store, passphrase, name) for key in folder.host_keys() if key.activated]


def open_store(folder: HostFolder) -> HostStore:
    return HostStore.open(folder.database, same_hardware)


class _Worker:
    def __init__(self, run: HostRun) -> None:
        self._run, self._folder = run, run.open_folder()
        self._store = open_store(self._folder)
        self._service = HostService(self._store, run.clock)
        self._numbers = MetricsPage(self._folder, self._store, run.clock)
        self._stamp: bytes | None = None
        self._failed = False
        self._watcher: asyncio.Task[None] | None = None
        pages = {"/healthz": self._health, "/readyz": self._readiness, "/metrics": self._metrics}
        self.application = IssuerApplication(self._service, pages, on_start=self._start, on_stop=self._stop)

    async def _start(self) -> None:
        await self._reload()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _stop(self) -> None:
        if self._watcher:
            self._watcher.cancel()
        await self._service.finish()
        self._store.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            if self._stamp_now() != self._stamp:
                await self._reload_or_go_on()

    async def _reload_or_go_on(self) -> None:
        """Tried again each time until it works, and complained of once."""
        try:
            await self._reload()
        except Exception as exc:
            if not self._failed:
                _log.error("the folder cannot be read anew, the host goes on as before: %s", exc)
            self._failed = True

    async def _reload(self) -> None:
        """Keys take milliseconds to open and scopes may wait for the store: answers do not wait for either."""
        stamp = self._stamp_now()
        serving, intervals = await asyncio.to_thread(self._load)
        self._service.use(serving, intervals)
        self._stamp, self._failed = stamp, False

    def _load(self) -> tuple[list[Serving], Intervals]:
        settings = HostSettings.load(self._store)
        serving = load_serving(self._folder, self._store, self._run.name)
        return serving, Intervals(settings.activation_minutes, settings.renewal_minutes)

    def _stamp_now(self) -> bytes | None:
        with contextlib.suppress(OSError):
            return self._folder.stamp.read_bytes()
        return None

    async def _health(self) -> Page:
        return Page(200, PLAIN, b"ok\n")

    async def _readiness(self) -> Page:
        if self._service.ready:
            return Page(200, PLAIN, b"ready\n")
        return Page(503, PLAIN, b"no host key with a valid certificate: run `volact host activate`\n")

    async def _metrics(self) -> Page:
        return Page(200, "text/plain; version=0.0.4; charset=utf-8", await self._numbers.read())


class Companion:
    """What runs beside the workers: DNS records, certificate renewal, housekeeping.  One thread each, ends promptly."""

    def __init__(self, run: HostRun, fingerprints: Callable[[str], Fingerprint], target: str, port: int) -> None:
        self._run, self._fingerprints, self._port = run, fingerprints, port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_house, name="volact-housekeeping", daemon=True)

        self._store = open_store(run.open_folder())
        settings = HostSettings.load(self._store)
        domains = settings.dns_domains() if settings.dns_publishing else ()
        self._dns = DnsPublisher(domains, target, port, self._on_dns)
        self._mdns = MdnsPublisher(target, port, settings.mdns_interfaces, self._on_dns) if settings.mdns else None

    def start(self) -> None:
        self._log(INFO, "host-started", {"port": self._port})
        self._dns.start()
        if self._mdns is not None:
            self._mdns.start()
        self._thread.start()

    def stop(self) -> None:
        """A clean stop: the records are withdrawn."""
        self._stopping.set()
        if self._mdns is not None:
            self._guarded(self._mdns.stop)
        self._dns.stop()
        self._thread.join(STOP_SECONDS)
        self._log(INFO, "host-stopped", {})
        if not self._thread.is_alive():
            self._store.close()

    def _keep_house(self) -> None:
        due, prune = 0.0, 0.0
        while True:
            self._guarded(self._store.checkpoint)
            if time.monotonic() >= prune:
                prune = time.monotonic() + PRUNE_SECONDS
                self._guarded(self._store.prune_events)
            if time.monotonic() >= due:
                due = time.monotonic() + DAILY_SECONDS
                self._guarded(self._daily)
                self._guarded(self._renew)
            if self._stopping.wait(CHECKPOINT_SECONDS):
                return

    def _daily(self) -> None:
        now = self._run.clock()
        self._store.note_counts(day_of(now))
        self._store.prune_machines(day_of(now))
        self._store.prune_hours(now)

    def _renew(self) -> None:
        """Renew certificates that end soon, with the publisher that the definition names."""
        given = HostSettings.load(self._store).publishers
        facts: Callable[[str], HostFacts] = lambda root: HostFacts(self._run.name, self._fingerprints(root))  # noqa: E731
        for key, done in activation.renew_due(self._run.open_folder(), given, facts, self._run.clock()):
            if isinstance(done, VolactError):
                self._log(ERROR, "certificate-renewal-failed", {"key": key.key.partial, **_about(done)})
            else:
                self._log(INFO, "certificate-renewed", {"key": key.key.partial, "until": done.certificate_ends_at})
        for got in refresh_statuses(self._run.open_folder(), given, self._run.clock()):
            if isinstance(got, VolactError):
                self._log(WARNING, "status-update-failed", _about(got))
            else:
                self._log(INFO, "status-updated", {"epoch": got.status.epoch, "keys": list(got.keys)})

    def _on_dns(self, event: DnsEvent) -> None:
        level = WARNING if event.code.endswith("failed") else INFO
        self._log(level, event.code, {"domain": event.domain, "text": event.text, **event.fields})

    def _log(self, level: str, code: str, data: dict[str, Any]) -> None:
        self._store.log(self._run.clock(), level, code, data)

    def _guarded(self, work: Callable[[], object]) -> None:
        """Housekeeping must outlive its own errors: a full disk is reported and tried again."""
        try:
            work()
        except Exception:
            _log.exception("housekeeping failed and is tried again")


def _about(exc: VolactError) -> dict[str, Any]:
    return {"code": exc.code, "message": str(exc)[:300]}


def _serving(
    folder: HostFolder,
    host_key: HostKey,
    products: list[TrustedDefinition],
    store: HostStore,
    passphrase: bytes,
    name: str,
) -> Serving:
    members = open_key(folder, host_key, products, passphrase, name)
    granted = members["issuer"].grant.groups
    scopes: dict[int, int] = {}
    for definition in members["definitions"].values():
        for edition in definition.editions:
            if edition.group in granted:
                policy = edition.policy
                window, collapse = policy.count_window_days, policy.collapse_identical_hardware
                scopes[edition.group] = store.scope(host_key.root, edition.group, window, collapse).id
    return Serving(**members, scopes=scopes)
