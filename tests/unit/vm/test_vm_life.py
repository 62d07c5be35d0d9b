# SPDX-License-Identifier: Apache-2.0
"""A guest's half year: weekly renewals, its host away, moved to another one, to one that is not activated."""

from typing import Any

import pytest

from support.client_machine import ClientMachine
from volact.core.errors import VolactError
from volact.core.policy import DAY
from volact.core.states import State
from volact.testing import Site
from volact.vm.guest import GuestChannel
from volact.vm.ports import VmChannelError


def _dead() -> GuestChannel:
    def refuse() -> Any:
        raise VmChannelError(channel="virtio-serial vport0p1", why="the host's service does not answer")

    return GuestChannel(refuse)


def _fails(guest: ClientMachine, channel: GuestChannel) -> str:
    with pytest.raises(VolactError) as caught:
        guest.activate(channel)
    return caught.value.code


def test_a_guest_renews_weekly_and_outlives_its_hosts_absence_until_the_lease_ends(
    make_host: Any, make_guest: Any, site: Site
) -> None:
    host, guest = make_host(), make_guest()
    for _ in range(10):
        outcome = guest.activate(host.guest())
        assert outcome.evaluation.until == site.clock() + 180 * DAY
        site.clock.now = outcome.next_due
    last = outcome.licence.expires_at
    while site.clock() + 7 * DAY < last:
        assert _fails(guest, _dead()) == "vm-channel-failed"
        assert guest.evaluate().state is State.LICENSED
        site.clock.advance(7 * DAY)
    site.clock.now = last
    assert guest.evaluate().state is State.OUT_OF_TOLERANCE_GRACE
    site.clock.advance(31 * DAY)
    assert guest.evaluate().state is State.NOTIFICATION
    assert guest.activate(host.guest()).evaluation.state is State.LICENSED


def test_a_guest_that_was_moved_renews_at_its_new_host_without_a_gap(
    make_host: Any, make_guest: Any, site: Site
) -> None:
    first, second, guest = make_host(), make_host(), make_guest()
    before = guest.activate(first.guest()).licence
    site.clock.advance(7 * DAY)
    assert guest.evaluate().state is State.LICENSED
    after = guest.activate(second.guest()).licence  # it asks with the first one's descriptor first
    assert after.issuer != before.issuer
    assert after.machine == before.machine == second.store.guests()[0].machine_id
    assert second.store.guests()[0].state == "licensed"
    assert second.codes() == ["guest-licensed"]


def test_a_guest_that_was_moved_to_a_host_without_activation_keeps_its_lease_and_says_why_it_cannot_renew(
    make_host: Any, make_guest: Any, site: Site
) -> None:
    first, idle, guest = make_host(), make_host(), make_guest()
    idle.deactivate()
    end = guest.activate(first.guest()).licence.expires_at
    site.clock.advance(7 * DAY)
    assert _fails(guest, idle.guest()) == "vm-host-not-activated"
    evaluation = guest.evaluate()
    assert (evaluation.state, evaluation.until) == (State.LICENSED, end)
    assert guest.store.attempt("acme-cad").code == "vm-host-not-activated"


def test_a_host_that_was_activated_anew_is_asked_for_its_new_key(make_host: Any, make_guest: Any, site: Site) -> None:
    host, guest = make_host(), make_guest()
    guest.activate(host.guest())
    host.serve(site.publisher)
    assert guest.activate(host.guest()).evaluation.licensed


def test_a_guest_whose_clock_is_wrong_is_told_so(make_host: Any, make_guest: Any, site: Site) -> None:
    host = make_host()
    guest = make_guest()
    guest.clock = lambda: site.clock() + 5 * 3600
    assert _fails(guest, host.guest()) == "clock-skew"
    assert host.codes() == ["clock-skew"]
