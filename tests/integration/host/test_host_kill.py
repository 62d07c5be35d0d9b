# SPDX-License-Identifier: Apache-2.0
"""SIGKILL to every process of the host amid 2,000 activations, twice: what was acknowledged is there, and counts once.

The brute-force model is the acknowledgements that clients hold, each opened and verified as a client does it.
"""

import random
import resource
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from support.processes import Server, Storm, host_words, storm
from support.site import Request, Vendor, make_request
from volact.host.store import HostStore
from volact.testing.issuers import CLIENT_GROUP
from volact.wire.server import ACTIVATE

MACHINES = 2000
KILLED_AFTER = 300  # acknowledgements of a round


@pytest.fixture(autouse=True)
def _enough_sockets():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_acknowledged_machine_is_lost_and_none_counts_twice_when_the_host_is_killed_twice(tmp_path, pick_port):
    vendor = Vendor.make(tmp_path)
    folder = vendor.give_host(tmp_path / "host")
    opening = folder.host_keys()[0].opening_key(folder.passphrase())
    requests = [make_request(vendor, opening, number) for number in range(MACHINES)]
    waiting, acknowledged, counts = list(requests), dict[bytes, Request](), Counter[int]()
    port = pick_port()

    for round_number in range(3):
        server = Server(host_words(folder.path, port, workers=2), tmp_path / "host.log", port).wait_until()

        def kill_amid(done: Storm, server=server, last=round_number == 2) -> None:
            if len(done.answers) == KILLED_AFTER and not last:
                server.kill()

        done = storm(port, ACTIVATE, [request.body for request in waiting], kill_amid, concurrency=MACHINES)
        for place, body in done.answers.items():
            licence = waiting[place].open_body(body, vendor.publisher.trust).licence
            assert licence.machine == waiting[place].machine
            acknowledged[waiting[place].machine] = waiting[place]
            counts[licence.count] += 1
        if round_number < 2:
            assert server.process.returncode == -9
            assert len(done.failures) >= 400, "the kill came too late to be in the middle"
            assert set(acknowledged) <= _rows(folder.database, requests)
        else:
            assert done.failures == {}
        waiting = [request for request in requests if request.machine not in acknowledged]
        if round_number == 1:  # some of those that know their answer ask again, with the very same bytes
            waiting += random.Random(1).sample(list(acknowledged.values()), 50)

    # The count that each machine was told is that of its own turn: no two new machines were told the same.
    table = _rows(folder.database, requests)
    assert table == {request.machine for request in requests} == set(acknowledged)
    _check_count(folder.database, MACHINES)
    assert max(counts) == MACHINES
    assert server.stop() == 0
    _check_count(folder.database, MACHINES)


def _rows(database: Path, requests: list[Request]) -> set[bytes]:
    with sqlite3.connect(database) as connection:
        rows = [row[0] for row in connection.execute("SELECT identity FROM machine")]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    known = {request.machine for request in requests}
    assert len(rows) == len(set(rows))
    assert set(rows) <= known
    return set(rows)


def _check_count(database: Path, machines: int) -> None:
    """The histogram is what a brute-force count of the table says, and the count is its sum."""
    with sqlite3.connect(database) as connection:
        brute = dict(connection.execute("SELECT last_seen_day, COUNT(*) FROM machine GROUP BY last_seen_day"))
    connection.close()
    store = HostStore.open(database)
    try:
        (scope,) = [one for one in store.scopes() if one.product_group == CLIENT_GROUP]
        kept = {day: number for day, number in store.histogram(scope.id).items() if number}
        assert kept == brute
        assert store.count(scope.id, max(brute)) == sum(brute.values()) == machines
        assert max(brute) - min(brute) <= 1, "the test ran over at most one midnight"
    finally:
        store.close()
