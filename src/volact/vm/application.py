# SPDX-License-Identifier: Apache-2.0
"""The running VM host: service, channels and housekeeping in one process, which notices changes of its folder.

One process is enough: a guest asks twice a week, and 200 of them at once are answered within a second.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volact.core.errors import ConfigError, VolactError
from volact.core.fingerprint import Fingerprint
from volact.issuer import activation
from volact.issuer.activation import HostFacts
from volact.issuer.folder import IssuerFolder
from volact.issuer.kind import VM_HOST
from volact.issuer.revocation import refresh_statuses
from volact.issuer.serving import ServedKey, open_key
from volact.vm.channels import Channels, Limits, check_folders, vsock_listener, vsock_name
from volact.vm.service import Licensed, VmService
from volact.vm.store import ERROR, INFO, WARNING, VmStore

RELOAD_SECONDS = 0.5
HOURLY_SECONDS = 3600.0
PUBLISHERS = "publishers"  # the setting: services to use instead of the definitions', by the publisher's root

_log = logging.getLogger("volact.vm")


class VmFolder(IssuerFolder):
    """Host keys here make this computer a VM host."""

    kind = VM_HOST


class NoChannelError(ConfigError):
    code = "no-guest-channel"
    fmt = "there is nothing to serve guests on"
    remedy = "name the folder of the guests' sockets, --sockets DIR, or a vsock port, --vsock 1688"


@dataclass(frozen=True, slots=True)
class VmRun:
    """What a VM host runs with.  ``virtual``: this computer is a virtual machine itself."""

    folder: VmFolder
    name: str
    virtual: bool
    sockets: Sequence[Path]
    clock: Callable[[], int]
    licensed: Licensed
    fingerprint: Callable[[str], Fingerprint]
    vsock: int | None = None
    limits: Limits = field(default_factory=Limits)


def open_store(folder: VmFolder) -> VmStore:
    return VmStore.open(folder.database)


def load_serving(folder: VmFolder, name: str) -> list[ServedKey]:
    """Every activated host key of the folder."""
    products, passphrase = folder.products(), folder.passphrase()
    return [
        ServedKey(**open_key(folder, key, products, passphrase, name)) for key in folder.host_keys() if key.activated
    ]


class VmHost:
    """``run`` serves until it is cancelled."""

    def __init__(self, run: VmRun) -> None:
        self._run = run
        check_folders(run.sockets)
        if not run.sockets and run.vsock is None:
            raise NoChannelError()
        self.store = open_store(run.folder)
        self.service = VmService(self.store, run.clock, nested=run.virtual, licensed=run.licensed)
        self.channels = Channels(self.service.answer, self._complain, run.limits)
        self._stamp: bytes | None = None
        self._failed = False
        self._background: set[asyncio.Task[None]] = set()

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        self._load()
        self._log(INFO, "vm-host-started", {"sockets": [str(path) for path in self._run.sockets]})
        listener = None if self._run.vsock is None else vsock_listener(self._run.vsock)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.channels.watch(self._run.sockets))
                if listener is not None:
                    group.create_task(self.channels.listen(listener, vsock_name))
                group.create_task(self._watch_folder())
                group.create_task(self._keep_house())
                started()
        finally:
            await self.service.finish()
            if self._background:
                await asyncio.wait(self._background)
            self._log(INFO, "vm-host-stopped", {})
            self.store.close()

    async def _watch_folder(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            if self._stamp_now() != self._stamp:
                self._reload_or_go_on()

    def _reload_or_go_on(self) -> None:
        """Tried again each time until it works, and complained of once."""
        try:
            self._load()
        except Exception as exc:
            if not self._failed:
                _log.error("the folder cannot be read anew, the host goes on as before: %s", exc)
            self._failed = True

    def _load(self) -> None:
        stamp = self._stamp_now()
        self.service.use(load_serving(self._run.folder, self._run.name))
        self._stamp, self._failed = stamp, False

    def _stamp_now(self) -> bytes | None:
        with contextlib.suppress(OSError):
            return self._run.folder.stamp.read_bytes()
        return None

    async def _keep_house(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._work)
            except Exception:  # a full disk is reported and tried again
                _log.exception("housekeeping failed and is tried again")
            await asyncio.sleep(HOURLY_SECONDS)

    def _work(self) -> None:
        self.store.prune(self._run.clock())
        self.store.checkpoint()
        self._renew()

    def _renew(self) -> None:
        """Renew certificates that end soon, with the publisher that the definition names."""
        run, given = self._run, self.store.setting(PUBLISHERS, {})
        facts: Callable[[str], HostFacts] = lambda root: HostFacts(run.name, run.fingerprint(root), run.virtual)  # noqa: E731
        for key, done in activation.renew_due(run.folder, given, facts, run.clock()):
            if isinstance(done, VolactError):
                data = {"key": key.key.partial, "code": done.code, "message": str(done)[:300]}
                self._log(ERROR, "certificate-renewal-failed", data)
            else:
                self._log(INFO, "certificate-renewed", {"key": key.key.partial, "until": done.certificate_ends_at})
        for got in refresh_statuses(run.folder, given, run.clock()):
            if isinstance(got, VolactError):
                self._log(WARNING, "status-update-failed", {"code": got.code, "message": str(got)[:300]})
            else:
                self._log(INFO, "status-updated", {"epoch": got.status.epoch, "keys": list(got.keys)})

    def _complain(self, channel: str, code: str, sentence: str) -> None:
        """Of a guest's bytes; written down beside the answers, not before them."""
        work = asyncio.to_thread(self.store.log, self._run.clock(), WARNING, code, {"message": sentence[:200]}, channel)
        task = asyncio.ensure_future(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _log(self, level: str, code: str, data: Mapping[str, object]) -> None:
        self.store.log(self._run.clock(), level, code, data)


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        _log.exception("an event could not be written down")


def is_virtual(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this computer says that it is a virtual machine: the processor's hypervisor flag (CPUID leaf 1, ECX 31).

    A hypervisor can hide it; the publisher's policy is kept by honest hosts (docs/spec/vm-channel.md §5)."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("flags"):
                return "hypervisor" in line.split()
    return False
