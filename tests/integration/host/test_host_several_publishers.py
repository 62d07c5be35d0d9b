# SPDX-License-Identifier: Apache-2.0
"""Two publishers' keys on one running host: each machine gets its own publisher's licence, and counts are apart."""

from collections.abc import Iterator

import pytest

from support.processes import Server, serving, storm, volact
from support.site import Machine, Vendor, make_request
from volact.host.folder import HostFolder
from volact.testing.issuers import CLIENT_GROUP
from volact.wire.server import ACTIVATE


@pytest.fixture(scope="module")
def vendors(tmp_path_factory) -> list[Vendor]:
    """The second one's product groups have the same numbers as the first one's."""
    folder = tmp_path_factory.mktemp("vendors")
    return [
        Vendor.make(folder, "Acme Software", "acme-cad", threshold=1),
        Vendor.make(folder, "Beta Tools", "beta-tool", threshold=1),
    ]


@pytest.fixture(scope="module")
def host(vendors, tmp_path_factory) -> HostFolder:
    path = tmp_path_factory.mktemp("host") / "kms"
    for vendor, organisation in zip(vendors, ("Contoso", "Contoso Ltd"), strict=True):
        folder = vendor.give_host(path, organisation=organisation)
    return folder


@pytest.fixture(scope="module")
def server(host, pick_port) -> Iterator[Server]:
    with serving(host.path, pick_port(), workers=2) as running:
        yield running


def counts(host: HostFolder) -> dict[str, int]:
    groups = volact("host", "status", "--dir", host.path, "--json").json["groups"]
    return {group["root"]: group["count"] for group in groups if group["group"] == CLIENT_GROUP}


def test_each_machine_gets_its_own_publishers_licence(vendors, server, host, tmp_path):
    before = counts(host)
    for number, (vendor, organisation) in enumerate(zip(vendors, ("Contoso", "Contoso Ltd"), strict=True)):
        machine = Machine.make(tmp_path / str(number), number, vendor)
        row = machine.activate_at(server.port)
        assert row["error"] is None
        assert row["licensed"]
        shown = machine.run("info", machine.product, "--json").json
        assert (shown["root"], shown["organisation"]) == (vendor.root, organisation)
    after = counts(host)
    assert {root: after[root] - before[root] for root in after} == {vendor.root: 1 for vendor in vendors}


def test_one_machine_with_both_products_counts_once_for_each(vendors, server, host, tmp_path):
    before = counts(host)
    machines = [Machine.make(tmp_path / "both", 7, vendor) for vendor in vendors]
    for machine in machines:
        assert machine.activate_at(server.port)["licensed"]
        assert machine.activate_at(server.port)["licensed"]
    row, other = machines[0].run("status", "--json").json["products"]
    assert {row["product"], other["product"]} == {"acme-cad", "beta-tool"}
    assert {root: counts(host)[root] - before[root] for root in before} == {vendor.root: 1 for vendor in vendors}


def test_a_request_sealed_to_one_publishers_key_gets_nothing_from_the_other(vendors, server, host):
    """The product of one under the key of the other: known to neither."""
    keys = {key.root: key.opening_key(host.passphrase()) for key in host.host_keys()}
    acme, beta = vendors
    mixed = make_request(acme, keys[beta.root], 9)
    done = storm(server.port, ACTIVATE, [mixed.body])
    answer = mixed.open_body(done.answers[0], beta.publisher.trust)
    assert answer.refusal.code == "product-unknown"


def test_a_storm_of_both_leaves_each_with_its_own_count(vendors, server, host):
    keys = {key.root: key.opening_key(host.passphrase()) for key in host.host_keys()}
    before = counts(host)
    requests = [(vendor, make_request(vendor, keys[vendor.root], n)) for n in range(100) for vendor in vendors]
    done = storm(server.port, ACTIVATE, [request.body for _, request in requests], concurrency=50)
    assert done.failures == {}
    told: dict[str, list[int]] = {vendor.root: [] for vendor in vendors}
    for place, (vendor, request) in enumerate(requests):
        told[vendor.root].append(request.open_body(done.answers[place], vendor.publisher.trust).licence.count)
    for root, numbers in told.items():
        assert sorted(numbers) == list(range(before[root] + 1, before[root] + 101))
        assert counts(host)[root] == before[root] + 100
