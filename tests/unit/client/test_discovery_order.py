# SPDX-License-Identifier: Apache-2.0
"""The order in which a client tries KMS hosts, against a simulated DNS; the real one is in tests/integration/dns."""

import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.client.discovery.hosts import (
    Candidate,
    DiscoveryTrace,
    LookupFailedError,
    NoHostFoundError,
    Outcome,
    Source,
    SrvRecord,
    candidates,
    selection_order,
)
from volact.client.discovery.resolver import own_domain
from volact.client.folder.settings import (
    HostMalformedError,
    HostPort,
    LookupDomainError,
    ResolverAddressError,
    Settings,
    parse_host_port,
    parse_resolver_address,
)


@dataclass
class SimulatedDns:
    """Records by domain, and what was asked so far."""

    records: dict[str, list[SrvRecord] | Outcome]
    search: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def suffixes(self):
        yield from self.search

    def srv(self, name):
        domain = name.removeprefix("_volact._tcp.")
        self.asked.append(domain)
        found = self.records.get(domain, Outcome.NXDOMAIN)
        if isinstance(found, Outcome):
            raise LookupFailedError(found)
        return found


def record(target, priority=0, weight=0, port=1688):
    return SrvRecord(priority, weight, port, target)


def names(settings, dns, last_good=None, trace=None):
    return [str(found) for found in candidates(settings, dns, last_good, Random(1), trace)]


SITE = SimulatedDns({"example.com": [record("kms1.example.com")]}, ("example.com",))


def test_a_configured_host_is_the_only_candidate_and_no_question_is_sent():
    dns = SimulatedDns({"example.com": [record("kms1.example.com")]}, ("example.com",))
    settings = Settings(host="kms.corp", port=1700, domain="example.com")
    assert names(settings, dns, ("old.corp", 1688)) == ["kms.corp:1700"]
    assert dns.asked == []


def test_a_configured_host_without_port_is_asked_on_1688():
    assert names(Settings(host="KMS.Corp."), SITE) == ["kms.corp:1688"]


def test_the_last_good_host_comes_before_any_question():
    dns = SimulatedDns({"example.com": [record("kms1.example.com")]}, ("example.com",))
    found = candidates(Settings(), dns, ("old.corp", 1700), Random(1))
    assert next(found) == Candidate("old.corp", 1700, Source.LAST_GOOD)
    assert dns.asked == []
    assert next(found) == Candidate("kms1.example.com", 1688, Source.DNS_SUFFIX)


def test_the_last_good_host_is_forgotten_when_caching_is_off():
    assert names(Settings(caching=False), SITE, ("old.corp", 1700)) == ["kms1.example.com:1688"]


def test_the_last_good_host_is_not_tried_twice_when_dns_names_it_too():
    assert names(Settings(), SITE, ("kms1.example.com", 1688)) == ["kms1.example.com:1688"]


def test_a_configured_domain_replaces_the_suffixes():
    dns = SimulatedDns({"lab.test": [record("kms.lab.test")], "example.com": [record("kms1")]}, ("example.com",))
    found = list(candidates(Settings(domain="Lab.Test."), dns, None, Random(1)))
    assert found == [Candidate("kms.lab.test", 1688, Source.CONFIGURED_DOMAIN)]
    assert dns.asked == ["lab.test"]


def test_suffixes_are_asked_in_order_and_only_when_the_hosts_before_them_are_dead():
    dns = SimulatedDns(
        {"a.test": [record("k.a.test")], "b.test": [record("k.b.test")]}, ("none.test", "a.test", "b.test")
    )
    found = candidates(Settings(), dns, None, Random(1))
    assert next(found).host == "k.a.test"
    assert dns.asked == ["none.test", "a.test"]
    assert next(found).host == "k.b.test"
    assert list(found) == []


def test_one_host_named_in_two_suffixes_is_tried_once():
    dns = SimulatedDns(
        {"a.test": [record("k.test")], "b.test": [record("k.test"), record("k.test", port=1689)]}, ("a.test", "b.test")
    )
    assert names(Settings(), dns) == ["k.test:1688", "k.test:1689"]


def test_a_domain_that_says_it_has_no_host_is_believed_and_the_next_suffix_is_asked():
    dns = SimulatedDns({"a.test": [record("")], "b.test": [record("k.b.test")]}, ("a.test", "b.test"))
    trace = DiscoveryTrace()
    assert names(Settings(), dns, trace=trace) == ["k.b.test:1688"]
    assert [step.outcome for step in trace.steps] == [Outcome.NOT_AVAILABLE, Outcome.ANSWERED]


@pytest.mark.parametrize("bad", [record("k.test", port=0), record("sp\\032ace.test"), record("a/b"), record("10.1")])
def test_a_record_that_no_client_can_use_is_left_out_and_recorded(bad):
    trace = DiscoveryTrace()
    dns = SimulatedDns({"a.test": [bad, record("k.test")]}, ("a.test",))
    assert names(Settings(), dns, trace=trace) == ["k.test:1688"]
    assert trace.steps[0].outcome is Outcome.MALFORMED


def test_no_host_found_says_what_was_asked_and_why_each_question_failed():
    dns = SimulatedDns(
        {"a.test": Outcome.TIMEOUT, "b.test": Outcome.REFUSED, "c.test": Outcome.NO_ANSWER},
        ("a.test", "b.test", "c.test", "d.test"),
    )
    with pytest.raises(NoHostFoundError) as caught:
        names(Settings(), dns)
    assert caught.value.code == "no-host-found"
    assert [step["outcome"] for step in caught.value.steps] == ["timeout", "refused", "no-answer", "nxdomain"]
    assert "_volact._tcp.a.test: no name server answered in time" in str(caught.value)


def test_a_machine_without_suffix_is_told_so():
    with pytest.raises(NoHostFoundError, match="this machine has no DNS suffix") as caught:
        names(Settings(), SimulatedDns({}))
    assert [step["outcome"] for step in caught.value.steps] == ["no-suffix"]


def test_a_search_that_only_had_the_last_good_host_leaves_its_steps_in_the_trace():
    trace = DiscoveryTrace()
    assert names(Settings(), SimulatedDns({}, ("a.test",)), ("old.corp", 1688), trace) == ["old.corp:1688"]
    assert [step.outcome for step in trace.steps] == [Outcome.USED, Outcome.NXDOMAIN]


def test_a_lower_priority_number_always_comes_first():
    records = [record("c", 20, 65535), record("b", 10, 0), record("a", 5, 1)]
    for seed in range(50):
        assert [found.target for found in selection_order(records, Random(seed))] == ["a", "b", "c"]


def test_within_a_priority_hosts_are_drawn_by_weight():
    rng = Random(2782)
    records = [record("heavy", weight=60), record("light", weight=30), record("least", weight=10)]
    first = Counter(selection_order(records, rng)[0].target for _ in range(6000))
    assert first["heavy"] == pytest.approx(3600, rel=0.06)
    assert first["light"] == pytest.approx(1800, rel=0.08)
    assert first["least"] == pytest.approx(600, rel=0.15)


def test_selection_draws_as_dnspython_does():
    random.seed(2782)
    weights = {"heavy": 50, "middle": 35, "light": 15}
    theirs = dns.rrset.from_text("a.test.", 60, "IN", "SRV", *(f"0 {weights[name]} 1688 {name}." for name in weights))
    ours = [record(name, weight=weight) for name, weight in weights.items()]
    rng = Random(2782)
    drawn = Counter(tuple(found.target for found in selection_order(ours, rng)) for _ in range(4000))
    wanted = Counter(
        tuple(found.to_text().split()[-1].rstrip(".") for found in theirs.processing_order()) for _ in range(4000)
    )
    assert drawn.keys() == wanted.keys()
    assert all(drawn[order] == pytest.approx(wanted[order], rel=0.2) for order in wanted)


def test_hosts_that_all_have_weight_zero_share_the_load():
    rng = Random(2782)
    records = [record(name) for name in ("a", "b", "c")]
    first = Counter(selection_order(records, rng)[0].target for _ in range(3000))
    assert min(first.values()) > 900


def test_a_host_of_weight_zero_beside_weighted_ones_is_rarely_first_but_never_lost():
    rng = Random(2782)
    orders = [selection_order([record("spare"), record("main", weight=99)], rng) for _ in range(2000)]
    assert all(len(order) == 2 for order in orders)
    assert sum(order[0].target == "spare" for order in orders) < 60


_records = st.builds(
    SrvRecord, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 65535), st.sampled_from(["a", "b", "c", "d"])
)


@given(st.lists(_records, max_size=12), st.integers())
def test_selection_keeps_every_record_and_sorts_by_priority(records, seed):
    order = selection_order(records, Random(seed))
    assert Counter(order) == Counter(records)
    assert [found.priority for found in order] == sorted(found.priority for found in records)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("kms", "kms", 1688),
        ("KMS1.Example.COM.", "kms1.example.com", 1688),
        ("kms.example.com:1700", "kms.example.com", 1700),
        ("192.0.2.7", "192.0.2.7", 1688),
        ("192.0.2.7:1", "192.0.2.7", 1),
        ("[2001:DB8::1]", "2001:db8::1", 1688),
        ("[2001:db8:0::1]:65535", "2001:db8::1", 65535),
        ("[fe80::1%eth0]:1688", "fe80::1%eth0", 1688),
    ],
)
def test_a_host_is_read_as_it_is_typed(text, host, port):
    assert parse_host_port(text) == HostPort(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "kms ", " kms", "kms:", ":1688", "kms:0", "kms:65536", "kms:99999", "kms:01688", "kms:+1",
        "kms:1688:1", "kms:١٦٨٨", "2001:db8::1", "[kms]:1688", "[192.0.2.7]", "[::1", "::1]", "[::1]1688", "[]",
        "-kms", "kms-", "a..b", ".kms", "192.0.2.256", "1688", "192.0.2", "k ms", "kms/1", "http://kms", "kms\n",
        "bücher", "a" * 64, "a." * 127 + "a",
    ],
)  # fmt: skip
def test_what_is_not_a_host_is_refused_by_its_name(text):
    with pytest.raises(HostMalformedError):
        parse_host_port(text)


@given(st.text() | st.from_regex(r"\[?[a-f0-9:.]{1,20}\]?(:[0-9]{1,6})?", fullmatch=True))
def test_any_text_is_a_host_that_reads_back_the_same_or_the_one_error(text):
    try:
        found = parse_host_port(text)
    except HostMalformedError:
        return
    assert parse_host_port(str(found)) == found


@pytest.mark.parametrize("bad", ["", "kms", "kms:53", "::1", "10.0.0.1:0", "10.0.0.1:53:53"])
def test_a_resolver_is_given_by_address(bad):
    with pytest.raises(ResolverAddressError):
        Settings(resolver_address=bad)


def test_a_resolver_address_has_port_53_unless_given():
    assert parse_resolver_address("10.0.0.1") == HostPort("10.0.0.1", 53)
    assert parse_resolver_address("[::1]:5353") == HostPort("::1", 5353)


@pytest.mark.parametrize("bad", ["", ".", "a b", "-a.test", "a" * 64 + ".test", "10.0.0.1", "a." * 125 + "aa"])
def test_a_lookup_domain_is_checked_when_it_is_set(bad):
    with pytest.raises(LookupDomainError):
        Settings(domain=bad)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_is_checked_when_it_is_set(port):
    with pytest.raises(HostMalformedError):
        Settings(host="kms", port=port)


def test_the_own_domain_is_that_of_the_full_name():
    assert own_domain("pc7.Branch.Example.com") == "branch.example.com"
    assert own_domain("localhost.localdomain") == ""
    assert own_domain("no-such-host-anywhere.invalid.") == "invalid"


def test_importing_discovery_does_not_load_dnspython():
    code = "import sys, volact.client.discovery.hosts; sys.exit('dns' in sys.modules or 'random' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
