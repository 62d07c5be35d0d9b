# SPDX-License-Identifier: Apache-2.0
"""The host's SRV record in a real BIND 9, read back with dig."""

import threading
import time
from dataclasses import replace
from queue import Queue

import pytest

from support.bind import STRANGER, Bind, bind
from volact.host.dns import (
    PUBLISH_INTERVAL,
    DnsAliasError,
    DnsDomain,
    DnsEvent,
    DnsPublisher,
    DnsServerNotPrimaryError,
    DnsUpdateBadKeyError,
    DnsUpdateClockError,
    DnsUpdateRefusedError,
    DnsZoneNotFoundError,
    SrvRecord,
    lookup,
    publish,
    withdraw,
)

pytestmark = pytest.mark.needs("bind", "dig")

NAME = "_volact._tcp.example.test"
KMS1, KMS2 = "kms1.example.test", "kms2.example.test"


@pytest.fixture
def server():
    records = ["_volact._tcp.aliased.example.test. CNAME elsewhere.example.test."]
    with bind(["example.test", "branch.test"], records) as running:
        yield running


@pytest.fixture
def domain(server: Bind) -> DnsDomain:
    return DnsDomain("example.test", server="127.0.0.1", port=server.port, key_file=server.key_file())


def test_the_record_is_published_renewed_and_withdrawn(server, domain):
    assert publish(domain, KMS1, 1688).replaced == ()
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]
    assert publish(domain, KMS1, 1688).replaced == ()
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]
    assert withdraw(domain, KMS1).removed == (SrvRecord(0, 0, 1688, KMS1),)
    assert server.dig(NAME) == []
    assert withdraw(domain, KMS1).removed == ()


def test_changed_figures_replace_the_own_record_and_no_other(server, domain):
    publish(domain, KMS1, 1688)
    publish(domain, KMS2, 1688)
    done = publish(replace(domain, priority=10, weight=5), KMS1, 1700)
    assert done.replaced == (SrvRecord(0, 0, 1688, KMS1),)
    assert done.others == (SrvRecord(0, 0, 1688, KMS2),)
    assert server.dig(NAME) == ["0 0 1688 kms2.example.test.", "10 5 1700 kms1.example.test."]


def test_several_older_records_of_the_own_host_are_taken_away_in_any_spelling(server, domain):
    publish(domain, KMS1, 1700)
    publish(domain, KMS2, 1700)
    publish(domain, "KMS1.Example.TEST.", 1688)
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test.", "0 0 1700 kms2.example.test."]


def test_one_host_withdraws_and_the_other_hosts_record_stays(server, domain):
    publish(domain, KMS1, 1688)
    publish(domain, KMS2, 1688)
    assert withdraw(domain, KMS1).others == (SrvRecord(0, 0, 1688, KMS2),)
    assert server.dig(NAME) == ["0 0 1688 kms2.example.test."]


def test_lookup_tells_own_records_from_those_of_others(domain):
    publish(domain, KMS1, 1688, ttl=900)
    publish(domain, KMS2, 1688, ttl=900)
    found = lookup(domain, KMS1)
    assert found.ours == (SrvRecord(0, 0, 1688, KMS1),)
    assert found.others == (SrvRecord(0, 0, 1688, KMS2),)
    assert (found.zone, found.ttl) == ("example.test", 900)


def test_hosts_that_publish_at_the_same_time_lose_no_record(server, domain):
    hosts = [f"kms{number}.example.test" for number in range(8)]
    threads = [threading.Thread(target=publish, args=(domain, host, 1688)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.dig(NAME) == sorted(f"0 0 1688 {host}." for host in hosts)


def test_each_of_several_domains_has_its_own_priority_and_weight(server, domain):
    publish(replace(domain, priority=10, weight=60), KMS1, 1688)
    publish(replace(domain, domain="branch.test", priority=20, weight=40), KMS1, 1688)
    assert server.dig(NAME) == ["10 60 1688 kms1.example.test."]
    assert server.dig("_volact._tcp.branch.test") == ["20 40 1688 kms1.example.test."]


def test_a_domain_inside_a_zone_is_published_in_that_zone(server, domain):
    assert publish(replace(domain, domain="floor3.example.test"), KMS1, 1688).zone == "example.test"
    assert server.dig("_volact._tcp.floor3.example.test") == ["0 0 1688 kms1.example.test."]


def test_a_delegated_tcp_zone_is_found_by_itself():
    with bind(["_tcp.example.test", "example.test"]) as server:
        domain = DnsDomain("example.test", server="127.0.0.1", port=server.port, key_file=server.key_file())
        assert publish(domain, KMS1, 1688).zone == "_tcp.example.test"
        assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]


def test_the_zones_primary_is_found_by_its_soa_where_no_server_is_set(server, domain):
    done = publish(replace(domain, server=None), KMS1, 1688, resolver=server.resolver())
    assert done.server == f"ns.example.test port {server.port}"
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]


def test_the_right_to_this_one_name_is_enough():
    with bind(["example.test"], policy=f"name {NAME} SRV") as server:
        domain = DnsDomain("example.test", server="127.0.0.1", port=server.port, key_file=server.key_file())
        publish(domain, KMS1, 1688)
        with pytest.raises(DnsUpdateRefusedError):
            publish(replace(domain, domain="floor3.example.test"), KMS1, 1688)
        assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]


def test_an_unsigned_update_is_refused_by_name(server, domain):
    with pytest.raises(DnsUpdateRefusedError, match="without a TSIG key") as caught:
        publish(replace(domain, key_file=None), KMS1, 1688)
    assert "example.test" in caught.value.hint
    assert server.dig(NAME) == []


def test_a_key_without_rights_is_refused_by_name(server, domain):
    with pytest.raises(DnsUpdateRefusedError, match="stranger"):
        publish(replace(domain, key_file=server.key_file(STRANGER)), KMS1, 1688)


def test_a_wrong_secret_is_named_and_shown_nowhere(server, domain, tmp_path):
    stolen = server.key_file(STRANGER).read_text()
    file = tmp_path / "wrong.key"
    file.write_text(stolen.replace(STRANGER, "volact-host"))
    with pytest.raises(DnsUpdateBadKeyError, match="the secrets differ") as caught:
        publish(replace(domain, key_file=file), KMS1, 1688)
    assert stolen.split('"')[3] not in str(caught.value.to_dict())
    assert server.dig(NAME) == []


def test_an_unknown_key_is_named(server, domain, tmp_path):
    file = tmp_path / "unknown.key"
    file.write_text(server.key_file().read_text().replace("volact-host", "nobody"))
    with pytest.raises(DnsUpdateBadKeyError, match="does not know a key"):
        publish(replace(domain, key_file=file), KMS1, 1688)


def test_clocks_that_differ_are_named_as_such(domain, monkeypatch):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    with pytest.raises(DnsUpdateClockError):
        publish(domain, KMS1, 1688)


def test_a_zone_that_the_server_does_not_have_is_named(domain):
    with pytest.raises(DnsZoneNotFoundError, match=r"other\.test.*REFUSED"):
        publish(replace(domain, domain="other.test"), KMS1, 1688)


def test_a_domain_that_nobody_knows_is_not_taken_to_the_root(server, domain):
    with pytest.raises(DnsZoneNotFoundError):
        publish(replace(domain, domain="other.test", server=None), KMS1, 1688, resolver=server.resolver())


def test_a_resolver_set_as_server_is_named_as_not_the_primary(server, domain):
    with bind(forward_to=server.port) as recursive:
        mistaken = replace(domain, port=recursive.port, key_file=recursive.key_file())
        with pytest.raises(DnsServerNotPrimaryError, match=r"not the primary server of zone example\.test"):
            publish(mistaken, KMS1, 1688)


def test_an_alias_in_the_records_place_is_named_because_servers_ignore_additions_beside_it(domain):
    with pytest.raises(DnsAliasError, match=r"elsewhere\.example\.test"):
        publish(replace(domain, domain="aliased.example.test"), KMS1, 1688)


def test_a_publisher_publishes_at_start_and_withdraws_at_stop(server, domain):
    events = Queue[DnsEvent]()
    publisher = DnsPublisher([domain], KMS1, 1688, events.put)
    publisher.start()
    published = events.get(timeout=60)
    assert (published.code, published.domain) == ("dns-published", "example.test")
    assert published.fields["record"] == "0 0 1688 kms1.example.test."
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]
    started = time.monotonic()
    assert publisher.stop(timeout=60)
    assert time.monotonic() - started < 5
    assert events.get_nowait().code == "dns-withdrawn"
    assert server.dig(NAME) == []
    assert publisher.stop()


def test_a_publisher_renews_after_24_hours_what_was_lost(server, domain):
    day = Day()
    events = Queue[DnsEvent]()
    publisher = DnsPublisher([domain], KMS1, 1688, events.put, clock=day.now, wait=day.wait)
    publisher.start()
    assert events.get(timeout=60).code == "dns-published"
    withdraw(domain, KMS1)
    day.over.set()
    assert events.get(timeout=60).code == "dns-published"
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]
    assert publisher.stop(timeout=60)
    assert day.pauses[0] == PUBLISH_INTERVAL


def test_one_refused_domain_does_not_keep_the_others_from_being_published(server, domain):
    events = Queue[DnsEvent]()
    refused = replace(domain, domain="branch.test", key_file=None)
    publisher = DnsPublisher([refused, domain], KMS1, 1688, events.put)
    publisher.start()
    outcomes = {event.domain: event for event in (events.get(timeout=60), events.get(timeout=60))}
    assert outcomes["example.test"].code == "dns-published"
    assert outcomes["branch.test"].code == "dns-publish-failed"
    assert outcomes["branch.test"].fields["cause"] == "dns-update-refused"
    assert outcomes["branch.test"].fields["retry_in"] == 300
    assert publisher.stop(timeout=60)
    assert server.dig(NAME) == []


def test_a_changed_key_file_is_used_without_a_restart(server, domain, tmp_path):
    file = tmp_path / "host.key"
    day = Day()
    events = Queue[DnsEvent]()
    publisher = DnsPublisher([replace(domain, key_file=file)], KMS1, 1688, events.put, clock=day.now, wait=day.wait)
    publisher.start()
    assert events.get(timeout=60).fields["cause"] == "dns-key-file-invalid"
    file.write_text(server.key_file().read_text())
    day.over.set()
    assert events.get(timeout=60).code == "dns-published"
    assert publisher.stop(timeout=60)


def test_a_stop_is_prompt_when_the_name_server_is_gone(server, domain):
    events = Queue[DnsEvent]()
    publisher = DnsPublisher([domain], KMS1, 1688, events.put)
    publisher.start()
    assert events.get(timeout=60).code == "dns-published"
    server.stop()
    assert publisher.stop(timeout=60)
    failed = events.get_nowait()
    assert (failed.code, failed.fields["cause"]) == ("dns-withdraw-failed", "dns-server-unreachable")


class Day:
    """A clock whose first pause lasts until the test says so; later pauses last until the stop."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []
        self.over = threading.Event()

    def now(self) -> float:
        return self.seconds

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.seconds += seconds
        return (self.over if len(self.pauses) == 1 else stopping).wait(timeout=30)
