# SPDX-License-Identifier: Apache-2.0
"""What a VM host answers, asked by the production client: licences, refusals by name on both sides, lists of guests."""

import os
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.guest import InMemoryVmHost
from volact.core.errors import VolactError
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.states import State
from volact.sealing.certificates import YEAR
from volact.testing import Site
from volact.testing.issuers import CLIENT_GROUP, PublisherSimulator
from volact.vm.messages import Activate, Failed
from volact.vm.store import MOST_IDENTITIES


def refused(guest: ClientMachine, host: InMemoryVmHost, channel: str = "guest1") -> VolactError:
    with pytest.raises(VolactError) as caught:
        guest.activate(host.guest(channel))
    return caught.value


def test_a_guest_is_licensed_without_a_count(make_host: Any, make_guest: Any, site: Site) -> None:
    host, guest = make_host(), make_guest()
    outcome = guest.activate(host.guest())
    licence = outcome.licence
    assert outcome.evaluation.state is State.LICENSED
    assert (licence.channel, licence.count, licence.organisation) == (Channel.VM, None, "Contoso")
    assert licence.expires_at == site.clock() + 180 * DAY
    assert outcome.next_due == pytest.approx(site.clock() + 7 * DAY, rel=0.1)


def test_the_host_lists_its_guests_and_marks_what_they_claim(make_host: Any, make_guest: Any, site: Site) -> None:
    host = make_host()
    first = make_guest().activate(host.guest("alpha", os="Debian 12"))
    site.clock.advance(DAY)
    make_guest(2).activate(host.guest("beta", os="NetBSD"))
    beta, alpha = host.store.guests()
    assert (alpha.machine_id, alpha.channel, alpha.os) == (first.licence.machine, "alpha", "Debian 12")
    assert (alpha.first_seen, alpha.licensed_until) == (first.licence.issued_at, first.licence.expires_at)
    assert (beta.name, beta.state, beta.refused, beta.requests) == ("machine-2", "initial-grace", "", 1)
    assert host.codes() == ["guest-licensed", "guest-licensed"]
    assert host.store.counters() == {"total": 2, "failed": 0, "state:initial-grace": 2}


def test_a_lease_ends_no_later_than_the_hosts_certificate(make_host: Any, make_guest: Any, site: Site) -> None:
    host = make_host()
    host.serve(site.publisher, lifetime=30 * DAY)
    licence = make_guest().activate(host.guest()).licence
    assert licence.expires_at == site.clock() + 30 * DAY


def test_a_host_that_is_not_activated_says_so_on_both_sides(make_host: Any, make_guest: Any) -> None:
    host, guest = make_host(), make_guest()
    host.deactivate()
    assert refused(guest, host).code == "vm-host-not-activated"
    assert host.codes() == ["vm-host-not-activated"]
    assert host.store.guests() == []


def test_a_host_whose_certificate_has_ended_is_not_activated(make_host: Any, make_guest: Any, site: Site) -> None:
    host, guest = make_host(), make_guest()
    site.clock.advance(YEAR)
    assert refused(guest, host).code == "vm-host-not-activated"


def test_an_edition_that_the_key_does_not_cover_is_refused_and_the_licence_stays(
    make_host: Any, make_guest: Any
) -> None:
    guest = make_guest(edition="server")
    guest.activate(make_host().guest())
    narrow = make_host(groups=[CLIENT_GROUP])
    error = refused(guest, narrow)
    assert error.code == "group-not-granted"
    assert narrow.codes() == ["group-not-granted"]
    assert narrow.store.guests()[0].refused == "group-not-granted"
    assert guest.evaluate().state is State.LICENSED


def test_a_host_of_another_publisher_says_so_on_both_sides(make_host: Any, make_guest: Any, site: Site) -> None:
    host, guest = make_host(), make_guest()
    host.serve(PublisherSimulator("Globex", site.clock))
    assert refused(guest, host).code == "vm-host-other-publisher"
    assert host.codes() == ["vm-host-other-publisher"]


def test_a_host_that_lies_about_its_publisher_is_not_believed(make_host: Any, make_guest: Any, site: Site) -> None:
    host, guest = make_host(), make_guest()
    host.serve(PublisherSimulator("Globex", site.clock), as_root=site.publisher.fingerprint)
    assert refused(guest, host).code == "issuer-untrusted"
    assert guest.evaluate().state is State.INITIAL_GRACE


def test_a_kms_host_cannot_license_guests(make_guest: Any, site: Site) -> None:
    guest = make_guest()
    with pytest.raises(VolactError) as caught:
        guest.activate(site.kms_host())
    assert caught.value.code == "role-not-allowed"


def test_a_volume_key_is_not_served_to_machines_by_a_vm_host(make_host: Any, site: Site, tmp_path: Any) -> None:
    machine = ClientMachine.ready(tmp_path / "machine", site)
    with pytest.raises(VolactError) as caught:
        machine.activate(make_host().guest())
    assert caught.value.code == "role-not-allowed"


def test_a_nested_host_is_refused_unless_the_policy_allows_it(make_host: Any, make_guest: Any) -> None:
    host = make_host(nested=True)
    assert refused(make_guest(), host).code == "nested-host-refused"
    assert host.codes() == ["nested-host-refused"]
    allowing = Site.make(guests={"nested": True})
    outcome = make_guest(2, of=allowing).activate(make_host(allowing, nested=True).guest())
    assert outcome.evaluation.licensed


def test_a_policy_can_demand_that_the_hosts_own_computer_is_licensed(make_host: Any, make_guest: Any) -> None:
    demanding = Site.make(guests={"host_edition": "server"})
    host, guest = make_host(demanding), make_guest(of=demanding)
    error = refused(guest, host)
    assert (error.code, error.edition) == ("vm-host-unlicensed", "server")
    host.licensed = frozenset({"server"})
    assert guest.activate(host.guest()).evaluation.licensed


def test_a_host_licenses_no_more_guests_than_the_policy_allows_and_renews_those_it_has(
    make_host: Any, make_guest: Any
) -> None:
    limited = Site.make(guests={"per_host": 2})
    host = make_host(limited)
    guests = [make_guest(number, of=limited) for number in (1, 2, 3)]
    for number in (0, 1):
        guests[number].activate(host.guest(f"guest{number}"))
    assert refused(guests[2], host, "guest2").code == "guest-limit-reached"
    assert guests[0].activate(host.guest("guest0")).evaluation.licensed
    limited.clock.advance(31 * DAY)
    assert guests[2].activate(host.guest("guest2")).evaluation.licensed
    assert host.codes().count("guest-limit-reached") == 1


def test_one_channel_cannot_take_everybodys_places_with_invented_machines(
    make_host: Any, make_guest: Any, tmp_path: Any, site: Site
) -> None:
    host, guest = make_host(), make_guest()
    guest.activate(host.guest())
    for number in range(MOST_IDENTITIES - 1):
        _note_guest(host, os.urandom(32), number)
    newcomer = make_guest(2)
    assert refused(newcomer, host).code == "guest-identities-limit"
    assert guest.activate(host.guest()).evaluation.licensed  # whom it knows it serves
    assert newcomer.activate(host.guest("other")).evaluation.licensed  # and so it does other channels
    assert len(host.store.guests()) == MOST_IDENTITIES + 1


def _note_guest(host: InMemoryVmHost, machine: bytes, number: int) -> None:
    from volact.vm.store import Asked

    asked = Asked("root", PRODUCT, "client", machine, "guest1", "licensed", f"m{number}", "", until=1)
    assert host.store.record([asked], host.site.clock()) == [""]


def test_a_machine_that_comes_through_another_channel_is_reported(make_host: Any, make_guest: Any) -> None:
    host, guest = make_host(), make_guest()
    guest.activate(host.guest("alpha"))
    guest.activate(host.guest("beta"))
    assert host.codes() == ["guest-licensed", "guest-channel-changed", "guest-licensed"]
    assert host.store.events()[1].data["from"] == "alpha"


def test_bytes_that_prove_nobody_are_noted_without_a_machine(make_host: Any, loop: Any) -> None:
    host = make_host()
    (issuer,) = host.service._serving
    answer = loop.run(host.service.answer(Activate("0" * 16, issuer, b"\0" * 200), "guest1"))
    assert isinstance(answer, Failed)
    (event,) = host.store.events()
    assert (event.code, event.channel, event.machine_id) == (answer.code, "guest1", None)


def test_each_day_keeps_the_most_guests_of_an_edition(make_host: Any, make_guest: Any, site: Site) -> None:
    host = make_host()
    for number in (1, 2, 3):
        make_guest(number).activate(host.guest(f"guest{number}"))
    site.clock.advance(40 * DAY)
    make_guest(4).activate(host.guest("guest4"))
    assert [day.guests for day in host.store.report(0)] == [3, 1]
    assert host.store.licensed_guests(site.clock()) == {(site.publisher.fingerprint, PRODUCT, "client"): 1}
