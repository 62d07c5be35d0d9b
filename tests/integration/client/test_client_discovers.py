# SPDX-License-Identifier: Apache-2.0
"""``volact client activate`` without a word about hosts: found in a real BIND 9, asked over real TCP."""

import io
import json
from contextlib import ExitStack
from typing import Any

import pytest

from support.bind import bind
from support.site import served
from volact.cli.environment import Environment
from volact.cli.main import main
from volact.testing import KmsHostSimulator, PublisherSimulator, Site, simulated_environment

pytestmark = pytest.mark.needs("bind")

ZONE, PRODUCT = "example.test", "acme-cad"


class Machine:
    """Set up with the zone as its domain; each command is a look at the folder of its own."""

    def __init__(self, folder, site: Site, resolver: str) -> None:
        self.folder, self.site = folder, site
        definition = folder / "acme-cad.volproduct"
        definition.write_text(site.token)
        self.run("add-product", definition, "--root", site.publisher.fingerprint)
        self.run("install-key", PRODUCT, "--generic", "--edition", "client")
        self.run("set-host", "--domain", ZONE, "--resolver", resolver)

    def run(self, *words: object) -> tuple[int, Any]:
        out = io.StringIO()
        variables = {"VOLACT_CLIENT_DIR": str(self.folder / "client")}
        base = Environment(out, io.StringIO(), io.StringIO(), variables, self.site.clock, dict, str)
        environment = simulated_environment(1, base, self.site.clock)
        code = main(["client", *map(str, words), "--json"], environment)
        return code, json.loads(out.getvalue())

    def activate(self) -> dict[str, Any]:
        code, shown = self.run("activate")
        (row,) = shown["products"]
        assert code == (0 if row["licensed"] and row["error"] is None else 1)
        return row


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def hosts(site: Site) -> list[KmsHostSimulator]:
    found = [site.kms_host(), site.kms_host()]
    for host in found:
        host.fill(101, 24)
    return found


@pytest.fixture
def network(tmp_path, site, hosts):
    """The machine, and the stacks that keep each host's port open: closing one stops that host."""
    with ExitStack() as everything:
        running = [everything.enter_context(ExitStack()) for _ in hosts]
        ports = [stack.enter_context(served(host)) for stack, host in zip(running, hosts, strict=True)]
        records = [f"_volact._tcp.{ZONE}. SRV {10 * n} 0 {port} localhost." for n, port in enumerate(ports, 1)]
        server = everything.enter_context(bind([ZONE], records))
        yield Machine(tmp_path, site, server.address), running, ports


def tried(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(one["host"], one["source"], one["code"]) for one in row["last_attempt"]["tried"]]


def test_the_host_that_dns_names_licenses_and_is_asked_first_the_next_time(network, hosts):
    machine, _, ports = network
    first = machine.activate()
    assert first["licensed"]
    assert tried(first) == [(f"localhost:{ports[0]}", "configured-domain", "")]
    again = machine.activate()
    assert tried(again) == [(f"localhost:{ports[0]}", "last-good-host", "")]
    assert len(hosts[0].requests) == 2


def test_the_next_host_serves_when_the_first_is_stopped(network, hosts):
    machine, running, ports = network
    machine.activate()
    running[0].close()
    row = machine.activate()
    assert row["licensed"]
    assert tried(row) == [
        (f"localhost:{ports[0]}", "last-good-host", "host-unreachable"),
        (f"localhost:{ports[1]}", "configured-domain", ""),
    ]
    assert row["host"] == f"localhost:{ports[1]}"
    assert len(hosts[1].requests) == 1


def test_when_all_are_stopped_the_licence_stays_and_each_is_listed(network, site):
    machine, running, ports = network
    machine.activate()
    for stack in running:
        stack.close()
    site.clock.advance(days=7)
    row = machine.activate()
    assert (row["state"], row["licensed"], row["error"]["code"]) == ("licensed", True, "host-unreachable")
    assert [one["host"] for one in row["error"]["fields"]["attempts"]] == [f"localhost:{port}" for port in ports]


def test_a_rogue_host_behind_the_first_record_is_named_and_passed_by(network, site, hosts):
    """DNS is not trusted: whoever answers there has to sign."""
    machine, _, ports = network
    rogue = KmsHostSimulator(
        PublisherSimulator("Acme Software", site.clock), site.definition, frozenset({101}), site.clock
    )
    rogue.fill(101, 50)
    hosts[0].get_issuer, hosts[0].activate = rogue.get_issuer, rogue.activate
    row = machine.activate()
    assert row["licensed"]
    assert tried(row) == [
        (f"localhost:{ports[0]}", "configured-domain", "issuer-untrusted"),
        (f"localhost:{ports[1]}", "configured-domain", ""),
    ]
    assert rogue.requests == []
