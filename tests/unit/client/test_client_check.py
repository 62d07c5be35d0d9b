# SPDX-License-Identifier: Apache-2.0
"""``volact.check()`` as a product sees it: never an exception, fast, and always of this moment."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import volact
import volact.client.check
from support.client_machine import PRODUCT, ClientMachine
from volact.core.product_key import Channel
from volact.core.states import Enforcement, State
from volact.testing import PublisherSimulator, Site


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def machine(tmp_path, site: Site) -> ClientMachine:
    machine = ClientMachine.ready(tmp_path, site)
    host = site.kms_host()
    host.fill(101, 24)
    machine.activate(host)
    return machine


def test_a_licensed_product_is_true(machine):
    found = machine.check()
    assert found
    assert (found.product, found.state, found.enforcement) == (PRODUCT, State.LICENSED, Enforcement.COUNT_ONLY)
    assert (found.edition, found.days_left, found.reason, found.count, found.threshold) == ("client", 180, None, 25, 25)


def test_the_state_is_of_this_moment_though_nothing_was_written(site, machine):
    assert machine.check()
    site.clock.advance(days=180)
    found = machine.check()
    assert not found
    assert (found.state, found.enforcement, found.days_left) == (State.OUT_OF_TOLERANCE_GRACE, Enforcement.WARN, 30)
    assert found.reason.code == "lease-ended"
    assert "volact client activate" in found.reason.remedy


def test_a_renewal_is_seen_at_once(site, machine):
    assert machine.check().days_left == 180
    site.clock.advance(days=100)
    assert machine.check().days_left == 80
    host = site.kms_host()
    host.fill(101, 24)
    host.renew()
    machine.activate(host)
    assert machine.check().days_left == 180


def test_a_file_exchanged_in_place_is_seen_at_once(machine):
    assert machine.check()
    for path in (machine.folder / "products" / PRODUCT / "answers").iterdir():
        path.write_bytes(b"x")
    assert machine.check().reason.code == "not-activated"


def test_a_product_trusts_the_root_it_embeds_and_not_the_folder(site, machine):
    other = PublisherSimulator("Acme Software", site.clock)
    found = machine.check(root=other.fingerprint)
    assert not found
    assert (found.state, found.reason.code) == (State.UNLICENSED, "issuer-untrusted")


@pytest.mark.parametrize("root", ["", "sha256:", "nonsense", "5" * 64, "sha256:" + "g" * 64])
def test_a_root_that_is_none_licenses_nothing_and_is_no_impostor_s(machine, root):
    found = machine.check(root=root)
    assert (found.state, found.reason.code) == (State.UNLICENSED, "root-malformed")
    assert "volact publisher certificate" in found.reason.remedy


def test_a_root_may_be_embedded_as_openssl_prints_it(site, machine):
    digits = site.publisher.fingerprint.removeprefix("sha256:").upper()
    assert machine.check(root="SHA256:" + ":".join(digits[i : i + 2] for i in range(0, 64, 2)))


def test_only_where_something_is_counted_is_there_a_threshold(site, machine):
    store = machine.store
    assert machine.check().threshold == 25
    store.save_installation(PRODUCT, store.installation(PRODUCT)._replace(channel=Channel.MAK))
    assert (machine.check().count, machine.check().threshold) == (None, None)


def test_a_definition_older_than_the_product_demands_is_refused(machine):
    assert machine.check(min_version=1)
    assert machine.check(min_version=2).reason.code == "definition-too-old"


def test_a_missing_folder_is_an_unlicensed_product(tmp_path, site):
    found = volact.check(PRODUCT, root=site.publisher.fingerprint, dir=tmp_path / "nowhere")
    assert found.reason is not None
    assert (found.state, found.enforcement, found.reason.code) == (
        State.UNLICENSED,
        Enforcement.LIMIT,
        "product-not-added",
    )


@pytest.mark.parametrize("product", ["", "../..", "no such product", "\0"])
def test_a_name_that_is_none_is_an_unlicensed_product(machine, site, product):
    assert not volact.check(product, root=site.publisher.fingerprint, dir=machine.folder)


def test_a_file_in_the_place_of_the_folder_is_an_unlicensed_product(tmp_path, site):
    (tmp_path / "file").write_text("")
    assert not volact.check(PRODUCT, root=site.publisher.fingerprint, dir=tmp_path / "file")


def test_the_folder_comes_from_the_environment_where_none_is_given(machine, site, monkeypatch):
    monkeypatch.setenv("VOLACT_CLIENT_DIR", str(machine.folder))
    # This computer is not the simulated machine: the licence does not cover its hardware, and that is found out.
    found = volact.check(PRODUCT, root=site.publisher.fingerprint)
    assert found.edition == "client"


def test_a_folder_that_cannot_be_written_is_read_all_the_same(site, machine):
    site.clock.advance(days=3)
    with machine.store.lock():  # somebody else is writing: a check neither waits nor fails
        began = time.monotonic()
        assert machine.check()
        assert time.monotonic() - began < 5


def test_the_clock_set_back_within_one_process_gains_nothing(site, machine):
    site.clock.advance(days=179, hours=23)
    assert machine.check().days_left == 0
    site.clock.advance(days=-100)
    assert machine.check().days_left == 0


def test_a_check_costs_well_under_a_millisecond_once_loaded(machine):
    machine.check()
    best = min(_seconds(machine) for _ in range(5))
    assert best < 0.001


def _seconds(machine: ClientMachine, calls: int = 50) -> float:
    from volact.client.check import World, check

    world = World(machine.clock, machine.local)
    root = machine.site.publisher.fingerprint
    check(PRODUCT, root=root, dir=machine.folder, _world=world)
    began = time.perf_counter()
    for _ in range(calls):
        check(PRODUCT, root=root, dir=machine.folder, _world=world)
    return (time.perf_counter() - began) / calls


def test_importing_volact_loads_nothing_else():
    code = "import sys, volact; print(sorted(m for m in sys.modules if m.startswith(('volact', 'cryptography'))))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['volact']"


HEAVY = {
    "http.client",
    "dns",
    "rich",
    "ssl",
    "asyncio",
    "volact.client.discovery.hosts",
    "volact.client.folder.settings",
    "volact.wire.client",
    "sqlalchemy",
}


def test_a_check_and_a_status_load_neither_http_nor_dns_nor_rich(machine):
    code = (
        "import sys, volact; from volact.cli.main import main\n"
        f"volact.check({PRODUCT!r}, root={machine.site.publisher.fingerprint!r})\n"
        "main(['client', 'status'])\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    env = {**os.environ, "VOLACT_CLIENT_DIR": str(machine.folder)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stderr.strip() == "[]"
    assert PRODUCT in done.stdout


def test_a_copy_that_stands_in_for_a_damaged_file_is_looked_at_too(tmp_path: Path) -> None:
    """What a process has in mind ends when the copy changes that it was read from."""
    site = Site.make()
    host = site.kms_host()
    host.fill(101, 24)
    machine = ClientMachine.ready(tmp_path / "client", site)
    machine.activate(host)
    local, clock = machine.local, machine.clock

    def licensed() -> bool:
        return volact.client.check.check(
            PRODUCT, root=site.publisher.fingerprint, dir=machine.folder, _world=volact.client.check.World(clock, local)
        ).licensed

    answers = machine.folder / "products" / PRODUCT / "answers"
    (answers / "latest.vollicence").unlink()
    (answers / "volume.vollicence").write_text("damaged")
    assert licensed()
    (answers / "volume.vollicence.copy").write_text("damaged as well")
    assert not licensed()
