# SPDX-License-Identifier: Apache-2.0
"""The licensing service where things break: disks, clocks, networks, children, and the power at every write."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.processes import wait_for
from support.site import served
from volact.client.check import check
from volact.client.deployment import generalize, image, rearm
from volact.client.folder import files
from volact.client.folder.store import ClientStore
from volact.client.products import installing
from volact.client.service import memory, rounds
from volact.client.service.events import Log
from volact.core.states import State
from volact.testing import KmsHostSimulator, Site

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site() -> Site:
    return Site.make(now=int(time.time()))


@pytest.fixture
def host(site: Site) -> KmsHostSimulator:
    host = site.kms_host()
    host.fill(101, 24)
    return host


def prepare(folder: Path, site: Site, port: int, address: str = "127.0.0.1") -> ClientStore:
    kept = ClientStore(folder)
    installing.add_product(kept, site.token, site.publisher.fingerprint, 0, site.clock())
    settings = kept.settings()
    kept.save_settings(settings._replace(discovery=type(settings.discovery)(host=address, port=port)))
    installing.install_generic_key(kept, PRODUCT, "client")
    return kept


@contextmanager
def service(folder: Path, log: Path, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "volact.cli.main", "client", "serve", "--no-api", "--dir", str(folder)]
    with log.open("ab") as output:
        process = subprocess.Popen([*before, *words], stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(15) == 0, log.read_text()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "volact-test", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def is_licensed(folder: Path, site: Site) -> bool:
    return bool(check(PRODUCT, root=site.publisher.fingerprint, dir=folder))


def rounds_of(process: subprocess.Popen[bytes]) -> int:
    """How often the service has woken up."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("voluntary_ctxt")))


def settled(process: subprocess.Popen[bytes]) -> int:
    """Wakes until it sleeps: no child, and no wake-up in a second."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        before = rounds_of(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        if not children.read_text().strip() and rounds_of(process) == before:
            return before
    raise AssertionError("the service does not sleep")


def test_a_disk_that_is_read_only_takes_no_licence_and_makes_no_busy_service(
    disk: Path, site: Site, host: Any, tmp_path: Path
) -> None:
    folder = disk / "client"
    with served(host) as port:
        prepare(folder, site, port)
        with service(folder, tmp_path / "log"):
            wait_for(lambda: is_licensed(folder, site))
        remount(disk, "ro")
        with service(folder, tmp_path / "log") as process:
            settled(process)
            process.send_signal(signal.SIGHUP)
            settled(process)
            assert is_licensed(folder, site)
            remount(disk, "rw")
            before = len(list(Log(folder).read()))
            process.send_signal(signal.SIGHUP)
            settled(process)
            installing.install_generic_key(ClientStore(folder), PRODUCT, "server")  # noticed and activated again
            wait_for(lambda: len(list(Log(folder).read())) > before)


def test_a_disk_that_is_full_takes_no_licence_and_the_service_goes_on_when_there_is_room(
    disk: Path, site: Site, host: Any, tmp_path: Path
) -> None:
    folder = disk / "client"
    with served(host) as port:
        prepare(folder, site, port)
        filler = disk / "filler"
        with service(folder, tmp_path / "log") as process:
            wait_for(lambda: is_licensed(folder, site))
            settled(process)
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(b"x" * 4096)
            process.send_signal(signal.SIGHUP)
            settled(process)
            assert is_licensed(folder, site)
            filler.unlink()
            installing.install_generic_key(ClientStore(folder), PRODUCT, "server")
            wait_for(lambda: [row["event"] for row in Log(folder).read()].count("activation-answered") > 1)


@pytest.mark.needs("netns")
def test_a_network_that_comes_back_is_noticed_and_the_failed_attempt_repeated(tmp_path: Path, site: Site) -> None:
    folder, name = tmp_path / "client", f"volact-service-{os.getpid()}"
    prepare(folder, site, 1688, "192.0.2.1")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with service(folder, tmp_path / "log", "ip", "netns", "exec", name) as process:
            wait_for(lambda: "activation-failed" in [row["event"] for row in Log(folder).read()])
            settled(process)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            wait_for(lambda: "network-changed" in [row["event"] for row in Log(folder).read()], 40)
            wait_for(lambda: [row["event"] for row in Log(folder).read()].count("activation-failed") > 1)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


CLOCK = """
import sys, time
from pathlib import Path
from volact.client.service import process
from volact.client.service.events import Log
folder = Path(sys.argv[1])
process.Alarm.open = classmethod(lambda _: None)   # a system without timerfd
process.LONGEST_WAIT = 0.1
shift = lambda: float((folder / "shift").read_text())
made = process.Commands([sys.executable, str(folder / "round.py")], [])
log = Log(folder, journal=None)
sys.exit(process.Service(folder, made, log, {}, wall=lambda: time.time() + shift()).run())
"""
ROUND = """
import json, sys, time
from pathlib import Path
with (Path(__file__).parent / "rounds").open("a") as file: file.write(sys.argv[-1] + "\\n")
print(json.dumps({"wake_at": int(time.time()) + 90000, "products": 0, "licensed": 0, "network": False, "notes": []}))
"""


@pytest.mark.parametrize("jump", [-400 * 86400, 3600])
def test_without_a_kernel_that_tells_it_the_two_clocks_are_compared(tmp_path: Path, jump: int) -> None:
    (tmp_path / "shift").write_text("0")
    (tmp_path / "round.py").write_text(ROUND)
    done = tmp_path / "rounds"
    process = subprocess.Popen([sys.executable, "-c", CLOCK, str(tmp_path)])
    try:
        wait_for(lambda: done.exists() and done.read_text() == "start\n")
        (tmp_path / "new").write_text(str(jump))
        (tmp_path / "new").replace(tmp_path / "shift")
        wait_for(lambda: done.read_text().endswith("clock\n"))
    finally:
        process.terminate()
        assert process.wait(15) == 0
    assert "clock-changed" in [row["event"] for row in Log(tmp_path).read()]


def test_the_alarm_rings_at_its_time_and_tells_that_from_a_clock_that_was_set() -> None:
    import select

    from volact.client.service.waking import Alarm

    alarm = Alarm.open()
    if alarm is None:
        pytest.skip("no timerfd here")
    alarm.set(None)
    assert select.select([alarm], [], [], 0)[0] == []
    alarm.set(int(time.time()) - 5)
    assert select.select([alarm], [], [], 5)[0] == [alarm]
    assert not alarm.clock_was_set()
    assert select.select([alarm], [], [], 0)[0] == []
    alarm.close()


# ---- power


class PowerFailureError(BaseException):
    """Not an Exception: nothing catches it and tidies up."""


class Power:
    """Goes at the n-th change of the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for module in (files, generalize, rearm, memory, rounds):
            for name in ("write_whole", "remove"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, self._counted(getattr(files, name)))

    def _counted(self, change: Any) -> Any:
        def counted(*arguments: Any) -> None:
            if self.left is not None:
                if self.left == 0:
                    raise PowerFailureError
                self.left -= 1
            change(*arguments)

        return counted

    def cuts(self, act: Any) -> Iterator[int]:
        """``act(n)`` with the power gone at change n, until it gets through; what is between sees what was left."""
        for change in itertools.count():
            self.left = change
            try:
                act(change)
            except PowerFailureError:
                self.left = None
                yield change
            else:
                self.left = None
                return


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Power:
    original = {name: getattr(files, name) for name in ("write_whole", "remove")}
    for name, change in original.items():
        monkeypatch.setattr(files, name, change)
    return Power(monkeypatch)


def one_round(machine: ClientMachine, host: Any) -> rounds.Round:
    return rounds.run_round(
        machine.store,
        machine.local,
        lambda _: machine.activate(host),
        machine.clock,
        Random(1),
        Log(machine.folder, machine.clock, journal=None),
        remind=lambda *_: "",
    )


def test_a_round_that_is_cut_off_anywhere_loses_no_licence_and_is_done_again(tmp_path: Path, power: Power) -> None:
    site = Site.make()
    machine, host = ClientMachine.ready(tmp_path, site), site.kms_host()
    host.fill(101, 24)
    assert one_round(machine, host).licensed == 1

    def renew(_: int) -> None:
        site.clock.advance(days=8)
        host.fill(101, 24)
        one_round(machine, host)

    cuts = 0
    for cuts in power.cuts(renew):
        assert machine.evaluate().state is State.LICENSED, cuts
    assert cuts >= 5
    assert one_round(machine, host).licensed == 1


def test_generalising_that_is_cut_off_anywhere_ends_in_a_new_machine_all_the_same(tmp_path: Path, power: Power) -> None:
    site = Site.make()
    host = site.kms_host()
    host.fill(101, 60)
    first = ClientMachine.ready(tmp_path / "first", site)
    first.activate(host)
    identity = first.store.machine_id()

    def act(n: int) -> None:
        shutil.copytree(first.folder, tmp_path / str(n))
        generalize.generalize(ClientStore(tmp_path / str(n)), site.clock())

    cuts = 0
    for cuts in power.cuts(act):
        machine = ClientMachine(tmp_path / str(cuts), site)
        begun = generalize.is_generalized(machine.store)
        assert machine.evaluate().licensed or begun  # as it was, or on its way
        if begun:
            assert one_round(machine, host).licensed == 1
            assert machine.store.machine_id() != identity
    assert cuts >= 5


def test_an_answer_file_that_is_cut_off_anywhere_is_laid_in_the_next_time(tmp_path: Path, power: Power) -> None:
    site = Site.make()
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "acme-cad.volproduct").write_text(site.token)
    (shelf / "answer.toml").write_text(
        f'[[product]]\ndefinition = "acme-cad.volproduct"\nroot = "{site.publisher.fingerprint}"\n'
        'generic = true\nedition = "client"\n'
    )
    answer, kept = image.read_answer_file(shelf), ClientStore(tmp_path / "client")
    for cut in power.cuts(lambda _: image.lay_into_image(kept, answer, site.clock())):
        state = check(PRODUCT, root=site.publisher.fingerprint, dir=kept.folder).state
        assert state in (State.UNLICENSED, State.INITIAL_GRACE), cut
    assert kept.products() == [PRODUCT]


def test_a_corrupt_folder_does_not_stop_the_service(tmp_path: Path) -> None:
    site = Site.make()
    machine, host = ClientMachine.ready(tmp_path / "client", site), site.kms_host()
    host.fill(101, 24)
    one_round(machine, host)
    random = Random(7)
    files = [path for path in machine.folder.rglob("*") if path.is_file() and path.suffix != ".copy"]
    for path in sorted(files):
        copy = tmp_path / "copy"
        shutil.copytree(machine.folder, copy)
        (copy / path.relative_to(machine.folder)).write_bytes(random.randbytes(random.randrange(200)))
        damaged = ClientMachine(copy, site)
        assert one_round(damaged, host).licensed == 1, path.name
        shutil.rmtree(copy)


# ---- systemd


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_what_systemd_takes_and_are_hardened(tmp_path: Path) -> None:
    for unit in ("volact-client.service", "volact-client.socket"):
        text = (ROOT / "packaging" / "systemd" / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/usr/bin/volact", shutil.which("true") or "/bin/true"))
    units = [str(tmp_path / "volact-client.service"), str(tmp_path / "volact-client.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=40", units[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert security.returncode == 0, security.stdout[-2000:]
