# SPDX-License-Identifier: Apache-2.0
"""A client's 180 days and more: grace, threshold, renewals, a host that is gone, clocks that lie."""

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.client.folder.identity import MachineKeyDamagedError
from volact.core.policy import DAY, HOUR
from volact.core.refusal import ClockSkewError
from volact.core.states import State
from volact.sealing.answers import StaleAnswerError
from volact.sealing.verify import RevokedError
from volact.testing import FakeClock, KmsHostSimulator, Site
from volact.wire.client import UnreachableError

GROUP = 101


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def host(site: Site) -> KmsHostSimulator:
    return site.kms_host()


@pytest.fixture
def machine(tmp_path, site: Site) -> ClientMachine:
    return ClientMachine.ready(tmp_path, site)


def crowd(host: KmsHostSimulator, machines: int = 24) -> None:
    """Others renew weekly as well, so that the count stays up."""
    host.last_seen = {key: at for key, at in host.last_seen.items() if key[0] != GROUP}
    host.fill(GROUP, machines)


def test_a_year_of_a_clients_life(site, host, machine):
    # A new machine: initial grace, 30 days.
    began = site.clock()
    assert machine.evaluate().state is State.INITIAL_GRACE
    assert machine.evaluate().until == began + 30 * DAY

    # Ten days with too few machines: every answer says so, and grace runs on.
    for _ in range(10):
        site.clock.advance(days=1)
        outcome = machine.activate(host)
        assert outcome.evaluation.state is State.INITIAL_GRACE
        assert outcome.evaluation.reason.code == "count-below-threshold"
        assert outcome.next_due - site.clock() == pytest.approx(2 * HOUR, rel=0.1)
    assert machine.evaluate().until == began + 30 * DAY

    # The threshold is crossed.
    crowd(host)
    outcome = machine.activate(host)
    assert (outcome.evaluation.state, outcome.evaluation.count) == (State.LICENSED, 25)
    assert outcome.evaluation.until == site.clock() + 180 * DAY
    assert outcome.next_due - site.clock() == pytest.approx(7 * DAY, rel=0.1)

    # Half a year of weekly renewals: the lease slides.
    for week in range(26):
        site.clock.advance(days=7)
        crowd(host)
        if week % 13 == 0:
            host.renew()  # no lease outlasts its host's certificate
        assert machine.activate(host).evaluation.until == site.clock() + 180 * DAY

    # The host is gone for 200 days: licensed for 180 of them, then out of tolerance, …
    host.down = True
    for day in range(4, 201, 4):
        site.clock.advance(days=4)
        if day % 20 == 0:
            with pytest.raises(UnreachableError):
                machine.activate(host)
        assert machine.evaluate().state is (State.LICENSED if day < 180 else State.OUT_OF_TOLERANCE_GRACE), day
    assert machine.evaluate().reason.code == "lease-ended"

    # … and 30 days after the lease's end, notification.
    site.clock.advance(days=9)
    assert machine.evaluate().state is State.OUT_OF_TOLERANCE_GRACE
    site.clock.advance(days=1)
    assert machine.evaluate().state is State.NOTIFICATION
    assert machine.check().reason.code == "lease-ended"

    # The host is back, with a new certificate; alone at first, then with the others.
    host.down = False
    host.renew()
    assert machine.activate(host).evaluation.state is State.NOTIFICATION
    assert machine.evaluate().count == 1
    crowd(host)
    assert machine.activate(host).evaluation.state is State.LICENSED
    assert machine.check()


def test_grace_ends_in_notification_where_nothing_ever_answered(site, machine):
    site.clock.advance(days=30)
    evaluation = machine.evaluate()
    assert (evaluation.state, evaluation.reason.code) == (State.NOTIFICATION, "grace-ended")


def test_setting_the_clock_back_gains_nothing(site, host, machine):
    crowd(host)
    machine.activate(host)
    site.clock.advance(days=200)
    assert machine.evaluate().state is State.OUT_OF_TOLERANCE_GRACE
    site.clock.advance(days=-150)
    assert machine.evaluate().state is State.OUT_OF_TOLERANCE_GRACE
    assert machine.check().state is State.OUT_OF_TOLERANCE_GRACE


def test_setting_the_clock_back_in_grace_gains_nothing(site, machine):
    site.clock.advance(days=29)
    machine.evaluate()
    site.clock.advance(days=-29)
    assert machine.evaluate().state is State.INITIAL_GRACE
    site.clock.advance(days=1)
    assert machine.check().days_left == 1  # not 29: day 29 was seen


def test_a_clock_that_was_far_ahead_is_healed_by_a_fresh_answer(tmp_path, site, host):
    own = FakeClock(site.clock())
    machine = ClientMachine.ready(tmp_path, site, clock=own)
    crowd(host)
    machine.activate(host)
    own.advance(days=3650)
    assert machine.evaluate().state is State.NOTIFICATION  # by that clock the lease is long over
    own.advance(days=-3650)
    assert machine.evaluate().state is State.NOTIFICATION  # and a clock alone does not prove that it was wrong
    assert machine.activate(host).evaluation.state is State.LICENSED
    assert machine.check()
    assert machine.store.latest_time() == site.clock()


def test_a_verified_refusal_heals_the_clock_too(tmp_path, site, host):
    own = FakeClock(site.clock())
    machine = ClientMachine.ready(tmp_path, site, clock=own)
    crowd(host)
    machine.activate(host)
    own.advance(days=400)
    machine.evaluate()
    with pytest.raises(ClockSkewError):
        machine.activate(host)
    own.advance(days=-400)
    assert machine.evaluate().state is State.LICENSED


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_wrong_clock_is_refused_by_its_own_name(tmp_path, site, host, hours):
    machine = ClientMachine.ready(tmp_path, site, clock=FakeClock(site.clock() + hours * HOUR))
    with pytest.raises(ClockSkewError) as caught:
        machine.activate(host)
    assert caught.value.difference == 5 * HOUR
    attempt = machine.store.attempt(PRODUCT)
    assert attempt is not None
    assert attempt.code == "clock-skew"


def test_a_refusal_or_a_dead_host_takes_nothing_away(site, host, machine):
    crowd(host)
    machine.activate(host)
    before = machine.licences()
    host.groups = frozenset()
    with pytest.raises(Exception, match="product group 101"):
        machine.activate(host)
    host.down = True
    with pytest.raises(UnreachableError):
        machine.activate(host)
    assert machine.licences() == before
    assert machine.check()


def test_a_count_that_fell_does_not_replace_a_good_licence(site, host, machine):
    crowd(host)
    machine.activate(host)
    good = machine.licences()["volume.vollicence"]
    crowd(host, 3)
    outcome = machine.activate(host)
    assert outcome.licence.count == 4
    assert (outcome.evaluation.state, outcome.evaluation.count) == (State.LICENSED, 4)
    assert machine.licences()["volume.vollicence"] == good


def test_changed_hardware_has_its_own_grace_and_heals_by_activation(site, host, machine):
    crowd(host)
    machine.activate(host)
    machine.hardware = ClientMachine(machine.folder, site, 2).hardware
    assert machine.evaluate().state is State.OUT_OF_TOLERANCE_GRACE
    first = machine.evaluate().until
    site.clock.advance(days=10)
    assert machine.evaluate().until == first  # counted from when it was first seen
    assert machine.evaluate().reason.code == "hardware-out-of-tolerance"
    site.clock.advance(days=20)
    assert machine.evaluate().state is State.NOTIFICATION
    crowd(host)
    assert machine.activate(host).evaluation.state is State.LICENSED
    assert machine.store.installation(PRODUCT).hardware_changed_at is None


def test_a_revoked_host_ends_in_non_genuine_grace_and_another_host_heals_it(site, host, machine):
    crowd(host)
    machine.activate(host)
    site.publisher.revoke(host.issuer, since=site.clock())
    other = site.kms_host()
    site.clock.advance(days=7)
    with pytest.raises(Exception, match="product group"):  # refuses, but brings the news of the revocation along
        machine.activate(Refusing(other))
    assert machine.evaluate().state is State.NON_GENUINE_GRACE
    crowd(other)
    assert machine.activate(other).evaluation.state is State.LICENSED


def test_a_revoked_host_that_says_so_itself_ends_its_leases_at_their_next_renewal(site, host, machine):
    crowd(host)
    machine.activate(host)
    site.clock.advance(days=60)
    crowd(host)
    machine.activate(host)
    site.clock.advance(days=50)
    site.publisher.revoke(host.issuer, since=site.clock() - 55 * DAY)  # found out late, dated back
    host.status = site.publisher.status_token()
    assert machine.evaluate().state is State.LICENSED  # nobody has told it
    with pytest.raises(RevokedError):
        machine.activate(host)
    seen = machine.evaluate()
    assert (seen.state, seen.until) == (State.NON_GENUINE_GRACE, site.clock() + 30 * DAY)
    site.clock.advance(days=20)
    assert machine.evaluate().until == seen.until  # hearing it again does not prolong it
    site.clock.advance(days=10)
    assert machine.evaluate().state is State.NOTIFICATION
    other = site.kms_host()
    crowd(other)
    assert machine.activate(other).evaluation.state is State.LICENSED
    assert machine.store.installation(PRODUCT).revocation_seen_at is None


class Refusing:
    """Refuses once, then serves again."""

    def __init__(self, host: KmsHostSimulator) -> None:
        self.host, self.granted = host, host.groups
        self.get_issuer = host.get_issuer
        host.groups = frozenset()

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        try:
            return self.host.activate(issuer, sealed)
        finally:
            self.host.groups = self.granted


def test_a_host_whose_clock_is_wrong_cannot_license(site, machine):
    host = site.kms_host()
    host.clock = FakeClock(site.clock() + 5 * HOUR)
    host.fill(GROUP, 30)
    with pytest.raises((ClockSkewError, StaleAnswerError)):
        machine.activate(host)
    assert machine.evaluate().state is State.INITIAL_GRACE


def test_the_hosts_intervals_set_the_next_attempt_within_bounds(site, host, machine):
    from volact.host.issuing import Intervals

    host.intervals = Intervals(activation_minutes=15, renewal_minutes=43200)
    outcome = machine.activate(host)
    assert outcome.next_due - site.clock() == pytest.approx(15 * 60, rel=0.1)
    crowd(host)
    outcome = machine.activate(host)
    assert outcome.next_due - site.clock() == pytest.approx(30 * DAY, rel=0.1)
    host.intervals = Intervals(activation_minutes=1, renewal_minutes=10**9)
    outcome = machine.activate(host)
    assert outcome.next_due - site.clock() == pytest.approx(30 * DAY, rel=0.1)


def test_a_key_damaged_beyond_its_copy_takes_no_licence_away_and_wedges_no_machine(site, host, machine):
    crowd(host)
    before = machine.activate(host).licence.machine
    for name in ("machine.pem", "machine.pem.copy"):
        (machine.folder / name).write_bytes(b"damaged")
    with pytest.raises(MachineKeyDamagedError):  # the licence is good for as long as it lasts
        machine.activate(host)
    assert (machine.evaluate().state, machine.store.machine_id()) == (State.LICENSED, before)
    site.clock.advance(days=181)
    host.renew()
    crowd(host)
    assert machine.activate(host).evaluation.licensed
    assert machine.store.machine_id() not in (before, None)


def test_a_definition_damaged_beyond_its_copy_is_named_and_added_again(site, host, machine):
    crowd(host)
    machine.activate(host)
    for name in ("definition.volproduct", "definition.volproduct.copy"):
        (machine.folder / "products" / PRODUCT / name).write_bytes(b"damaged")
    reason = machine.check().reason
    assert (reason.code, PRODUCT in reason.sentence, "add-product" in reason.remedy) == (
        "definition-damaged",
        True,
        True,
    )
    machine.add()
    assert machine.check()
