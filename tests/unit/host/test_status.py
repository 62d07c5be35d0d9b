# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself, as values."""

from pathlib import Path

import pytest

from support.site import Vendor
from volact.core.count import day_of
from volact.core.policy import DAY
from volact.core.states import State
from volact.host.application import load_serving, open_store
from volact.host.folder import HostFolder
from volact.host.recording import Refused, Seen
from volact.host.status import host_status
from volact.sealing.envelope import X25519
from volact.testing import FakeClock
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vendor(tmp_path: Path, clock: FakeClock) -> Vendor:
    return Vendor.make(tmp_path, clock=clock)


@pytest.fixture
def folder(tmp_path: Path, vendor: Vendor) -> HostFolder:
    return vendor.give_host(tmp_path / "host")


@pytest.fixture
def store(folder: HostFolder):
    opened = open_store(folder)
    load_serving(folder, opened, "kms1")
    yield opened
    opened.close()


def test_an_activated_key_says_for_whom_which_groups_and_until_when(folder, store, vendor, clock):
    (key,) = host_status(folder, store, clock()).keys
    assert (key.publisher, key.product, key.group) == ("Acme Software", "acme-cad", SERVER_GROUP)
    assert (key.activated, key.organisation, key.groups) == (True, "Contoso", (CLIENT_GROUP, SERVER_GROUP))
    assert key.certificate_ends_at == clock() + 365 * DAY
    assert key.root == vendor.root


def test_a_key_that_waits_for_activation_says_only_what_it_is(folder, store, vendor, clock):
    installed = folder.install_key(vendor.host_key(CLIENT_GROUP), X25519)
    key = next(one for one in host_status(folder, store, clock()).keys if one.key_id == installed.key.key_id)
    assert (key.activated, key.organisation, key.groups, key.certificate_ends_at) == (False, None, (), None)


def test_counts_stand_beside_thresholds_and_cumulative_requests(folder, store, vendor, clock):
    scopes = {scope.product_group: scope.id for scope in store.scopes()}
    today = day_of(clock())
    states = [State.INITIAL_GRACE, State.LICENSED, State.LICENSED]
    for number, state in enumerate(states):
        seen = Seen(
            scopes[CLIENT_GROUP], bytes([number]) * 32, b"f", clock(), clock(), "pc", "acme-cad", "client", state
        )
        store.record([seen], today)
    store.record((), today, [Refused(scopes[CLIENT_GROUP], "clock-skew", clock()), Refused(0, "malformed", clock())])
    status = host_status(folder, store, clock())
    groups = {group.group: group for group in status.groups}
    clients = groups[CLIENT_GROUP]
    assert (clients.name, clients.count, clients.total, clients.failed) == ("clients", 3, 4, 1)
    assert clients.thresholds == {"acme-cad/client": 25}
    assert groups[SERVER_GROUP].thresholds == {"acme-cad/server": 5}
    assert {state: n for state, n in clients.states.items() if n} == {"initial-grace": 1, "licensed": 2}
    assert set(clients.states) == set(State)
    assert clients.refusals == {"clock-skew": 1}
    assert status.unproven == 1


def test_the_count_is_that_of_the_day_that_is_asked_for(folder, store, vendor, clock):
    scope = next(one.id for one in store.scopes() if one.product_group == CLIENT_GROUP)
    seen = Seen(scope, b"m" * 32, b"f", clock(), clock(), "pc", "acme-cad", "client", State.LICENSED)
    store.record([seen], day_of(clock()))

    def count(now: int) -> int:
        return next(group.count for group in host_status(folder, store, now).groups if group.group == CLIENT_GROUP)

    assert (count(clock()), count(clock() + 29 * DAY), count(clock() + 30 * DAY)) == (1, 1, 0)


def test_looking_changes_nothing(folder, store, vendor, clock):
    def files() -> dict[Path, bytes]:  # but SQLite's own notes of who reads
        found = (path for path in folder.path.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
        return {path: path.read_bytes() for path in found}

    before = files()
    host_status(folder, store, clock())
    assert files() == before
