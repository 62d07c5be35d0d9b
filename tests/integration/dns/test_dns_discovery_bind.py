# SPDX-License-Identifier: Apache-2.0
"""Clients find the hosts that were published, through a real BIND 9 and an organisation's resolver before it."""

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from support.bind import Bind, bind
from volact.client.discovery.hosts import Candidate, DiscoveryTrace, NoHostFoundError, Source, candidates
from volact.client.discovery.resolver import DnsResolver
from volact.client.folder.settings import Settings
from volact.host.dns import DnsDomain, publish, withdraw

pytestmark = pytest.mark.needs("bind")


@pytest.fixture
def server():
    records = [
        "_volact._tcp.none.example.test. SRV 0 0 0 .",
        "_volact._tcp.text.example.test. TXT nothing",
        "_volact._tcp.aliased.example.test. CNAME _volact._tcp.example.test.",
    ]
    with bind(["example.test", "branch.test"], records) as running:
        yield running


@pytest.fixture
def domain(server: Bind) -> DnsDomain:
    return DnsDomain("example.test", server="127.0.0.1", port=server.port, key_file=server.key_file())


def found(server: Bind, domain: str = "example.test", seed: int = 1, trace: DiscoveryTrace | None = None) -> list[str]:
    settings = Settings(domain=domain, resolver_address=server.address)
    return [str(host) for host in candidates(settings, DnsResolver(server.address), None, Random(seed), trace)]


def test_a_client_finds_what_a_host_published_and_no_more_after_it_withdrew(server, domain):
    publish(domain, "kms1.example.test", 1700)
    assert found(server) == ["kms1.example.test:1700"]
    withdraw(domain, "kms1.example.test")
    with pytest.raises(NoHostFoundError, match="does not exist"):
        found(server)


def test_hosts_come_by_priority_and_the_next_follows_a_dead_one(server, domain):
    for target, priority, weight in (("c", 20, 100), ("a", 10, 60), ("b", 10, 40)):
        publish(replace(domain, priority=priority, weight=weight), f"{target}.example.test", 1688)
    for seed in range(20):
        order = found(server, seed=seed)
        assert sorted(order[:2]) == ["a.example.test:1688", "b.example.test:1688"]
        assert order[2:] == ["c.example.test:1688"]


def test_weights_are_honoured(server, domain):
    for target, weight in (("a", 75), ("b", 25)):
        publish(replace(domain, weight=weight), f"{target}.example.test", 1688)
    rng = Random(2782)
    settings, resolver = Settings(domain="example.test"), DnsResolver(server.address)
    first = Counter(next(candidates(settings, resolver, None, rng)).host for _ in range(400))
    assert first["a.example.test"] == pytest.approx(300, abs=35)


def test_the_search_list_of_resolv_conf_gives_the_suffixes_and_its_name_servers_the_answers(server, domain, tmp_path):
    publish(replace(domain, domain="branch.test"), "kms.branch.test", 1688)
    conf = resolv_conf(tmp_path, "search nowhere.example.test branch.test")
    trace = DiscoveryTrace()
    resolver = DnsResolver(server.address, resolv_conf=str(conf))
    hosts = list(candidates(Settings(), resolver, None, Random(1), trace))
    assert hosts == [Candidate("kms.branch.test", 1688, Source.DNS_SUFFIX)]
    assert [step.outcome for step in trace.steps][:2] == ["nxdomain", "answered"]


def test_a_client_finds_hosts_through_the_organisations_resolver(server, domain):
    publish(domain, "kms1.example.test", 1688)
    with bind(forward_to=server.port) as recursive:
        assert found(recursive) == ["kms1.example.test:1688"]


def test_more_hosts_than_fit_a_datagram_are_all_found(server, domain):
    hosts = [f"kms{number:02}.a-rather-long-name-of-a-building.example.test" for number in range(40)]
    for host in hosts:
        publish(domain, host, 1688)
    assert sorted(found(server)) == [f"{host}:1688" for host in hosts]


def test_an_alias_leads_to_the_records_it_names(server, domain):
    publish(domain, "kms1.example.test", 1688)
    assert found(server, "aliased.example.test") == ["kms1.example.test:1688"]


@pytest.mark.parametrize(
    ("domain", "outcome"),
    [
        ("nowhere.example.test", "nxdomain"),
        ("text.example.test", "no-answer"),
        ("none.example.test", "not-available"),
        ("elsewhere.test", "refused"),
    ],
)
def test_each_way_to_find_nothing_has_its_name(server, domain, outcome):
    with pytest.raises(NoHostFoundError) as caught:
        found(server, domain)
    assert [step["outcome"] for step in caught.value.steps] == [outcome]


def test_a_resolver_that_cannot_reach_the_zone_is_a_server_failure(server):
    with bind(forward_to=server.port) as recursive:
        server.stop()
        with pytest.raises(NoHostFoundError) as caught:
            found(recursive)
    assert caught.value.steps[0]["outcome"] == "server-failure"
    assert recursive.address.split(":")[1] in caught.value.steps[0]["detail"]


def test_a_name_server_that_is_silent_is_a_timeout():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        resolver = DnsResolver(f"127.0.0.1:{mute.getsockname()[1]}", timeout=0.3)
        with pytest.raises(NoHostFoundError) as caught:
            list(candidates(Settings(domain="example.test"), resolver, None, Random(1)))
    assert caught.value.steps[0]["outcome"] == "timeout"


def test_a_name_server_that_no_packet_can_be_sent_to_is_unreachable():
    resolver = DnsResolver("255.255.255.255")  # the kernel refuses to send there: EACCES
    with pytest.raises(NoHostFoundError) as caught:
        list(candidates(Settings(domain="example.test"), resolver, None, Random(1)))
    assert caught.value.steps[0]["outcome"] == "unreachable"


@pytest.mark.parametrize("text", [None, "search example.test", "nameserver not-an-address\nsearch example.test"])
def test_a_machine_without_usable_dns_settings_is_told_so(tmp_path, text):
    conf = tmp_path / "missing" if text is None else resolv_conf(tmp_path, text)
    resolver = DnsResolver(resolv_conf=str(conf))
    with pytest.raises(NoHostFoundError) as caught:
        list(candidates(Settings(domain="example.test"), resolver, None, Random(1)))
    assert caught.value.steps[0]["outcome"] == "no-resolver"
    assert str(conf) in caught.value.steps[0]["detail"]


def resolv_conf(folder: Path, text: str) -> Path:
    file = folder / "resolv.conf"
    file.write_text(text + "\n")
    return file
