# SPDX-License-Identifier: Apache-2.0
"""Rounds of the licensing service, on a clock that is set: what is due is done, and what is done is said once."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.client.deployment.generalize import generalize
from volact.client.products import installing
from volact.client.service.events import Log
from volact.client.service.memory import load_memory, save_memory
from volact.client.service.rounds import Round, run_round
from volact.core.product_key import Channel
from volact.core.refusal import ClockSkewError, HostNotActivatedError, Refusal
from volact.core.states import State
from volact.testing import Site, simulated_traits

DAY, HOUR, MINUTE = 86400, 3600, 60
DAILY = 1440  # half a year of attempts every two hours would be 2,000 rounds


class Serviced:
    """A machine whose service asks ``host``."""

    def __init__(self, folder: Path, site: Site, number: int = 1) -> None:
        self.machine = ClientMachine.ready(folder, site, number)
        self.site, self.host = site, site.kms_host()
        self.asked = 0
        self.reminded: list[dict[str, Any]] = []

    def round(self, because: str = "due") -> Round:
        machine = self.machine
        return run_round(
            machine.store,
            machine.local,
            self._activate,
            self.site.clock,
            Random(1),
            self.log,
            because=because,
            remind=self._remind,
        )

    @property
    def log(self) -> Log:
        return Log(self.machine.folder, self.site.clock, journal=None)

    def _remind(self, _: object, facts: Mapping[str, Any]) -> str:
        self.reminded.append(dict(facts))
        return "hook"

    def _activate(self, _: str) -> Any:
        self.asked += 1
        return self.machine.activate(self.host)

    def events(self) -> list[str]:
        return [row["event"] for row in self.log.read()]

    def live(self, days: float) -> int:
        """Sleeps and wakes as the service does; returns how often it woke up."""
        end, woken = self.site.clock.now + int(days * DAY), 0
        while True:
            done = self.round()
            woken += 1
            if done.wake_at >= end:
                self.site.clock.now = end
                return woken
            self.site.clock.now = done.wake_at


@pytest.fixture
def site() -> Site:
    return Site.make(activation_interval_minutes=DAILY)


@pytest.fixture
def serviced(tmp_path: Path, site: Site) -> Serviced:
    return Serviced(tmp_path / "client", site)


def test_a_machine_with_a_key_is_activated_at_the_first_start(serviced: Serviced) -> None:
    serviced.host.fill(101, 24)
    done = serviced.round()
    assert (done.products, done.licensed) == (1, 1)
    assert serviced.machine.evaluate().licensed
    assert serviced.events() == ["activation-requested", "activation-answered", "state-changed"]
    change = list(serviced.log.read())[-1]
    assert (change["before"], change["state"]) == ("initial-grace", "licensed")


def test_a_product_that_stays_as_it_was_first_seen_has_not_changed(serviced: Serviced) -> None:
    serviced.host.down = True
    serviced.round()
    assert serviced.events() == ["activation-requested", "activation-failed"]


def test_a_machine_id_that_was_lost_is_read_from_the_key_before_anything_is_said(serviced: Serviced) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    for name in ("machine.json", "machine.json.copy"):
        (serviced.machine.folder / name).write_bytes(b"damaged")
    assert serviced.machine.evaluate().state is State.INITIAL_GRACE
    assert serviced.round().licensed == 1
    assert serviced.asked == 1
    assert serviced.events().count("state-changed") == 1  # when it was licensed


def test_after_a_repair_a_machine_asks_at_once_and_once(serviced: Serviced) -> None:
    serviced.host.fill(101, 24)
    assert serviced.round().licensed == 1
    serviced.machine.hardware = simulated_traits(2)  # another board, disk and network card, and the same folder
    serviced.host.down = True
    assert (serviced.round().licensed, serviced.asked) == (0, 2)
    assert (serviced.round().licensed, serviced.asked) == (0, 2)  # then as after any failure
    serviced.host.down = False
    serviced.live(2)
    assert serviced.machine.evaluate().licensed


def test_a_repair_of_a_machine_with_a_bought_key_waits_for_the_next_attempt(serviced: Serviced) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    store = serviced.machine.store
    seen = store.installation(PRODUCT)._replace(channel=Channel.MAK)  # another board may use up another activation
    store.save_installation(PRODUCT, seen)
    memory = load_memory(store)
    memory.products[PRODUCT] = memory.products[PRODUCT]._replace(key=f"{seen.edition}/mak/{seen.partial}")
    save_memory(store, memory)
    assert serviced.round().licensed == 0
    assert serviced.asked == 1


def test_eight_weeks_of_renewals_cost_a_round_a_day_and_a_request_a_week(serviced: Serviced) -> None:
    woken = 0
    for _ in range(4):
        serviced.host.fill(101, 24)
        woken += serviced.live(14)
    assert serviced.machine.evaluate().licensed
    assert 8 <= serviced.asked <= 10
    assert woken <= 56 + serviced.asked + 4


def test_below_the_threshold_it_asks_every_two_hours_and_is_licensed_when_the_count_is_reached(
    tmp_path: Path,
) -> None:
    serviced = Serviced(tmp_path / "client", Site.make())
    serviced.live(1)
    assert 11 <= serviced.asked <= 14
    assert serviced.machine.evaluate().state is State.INITIAL_GRACE
    serviced.host.fill(101, 24)
    serviced.live(0.2)
    assert serviced.machine.evaluate().licensed
    assert "state-changed" in serviced.events()


def test_a_host_that_is_gone_ends_in_grace_then_in_notification_and_a_host_that_is_back_ends_that(
    serviced: Serviced,
) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    serviced.host.down = True
    serviced.site.clock.advance(days=175)
    serviced.live(40)
    states = [row["state"] for row in serviced.log.read() if row["event"] == "state-changed"]
    assert states == ["licensed", "out-of-tolerance-grace", "notification"]
    serviced.host.down = False
    serviced.host.renew()
    serviced.host.fill(101, 24)
    serviced.live(1.2)
    assert serviced.machine.evaluate().licensed


def test_a_round_comes_at_the_very_second_in_which_a_grace_ends(serviced: Serviced, site: Site) -> None:
    serviced.host.down = True
    until = serviced.machine.evaluate().until
    assert until is not None
    site.clock.now = until - 100
    serviced.round()
    assert serviced.round().wake_at == until


def test_people_are_reminded_by_the_policys_schedule(serviced: Serviced, site: Site) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    serviced.host.down = True
    serviced.site.clock.advance(days=179)
    serviced.live(1)
    serviced.reminded.clear()
    serviced.live(30)
    assert [facts["days_left"] for facts in serviced.reminded] == [14, 7, 3, 2, 1]
    serviced.reminded.clear()
    serviced.live(10)
    assert {facts["state"] for facts in serviced.reminded} == {"notification"}
    assert 9 <= len(serviced.reminded) <= 11  # enforcement warn: once a day
    assert serviced.reminded[0]["remedy"]


def test_nobody_is_reminded_where_the_policy_only_counts(serviced: Serviced) -> None:
    serviced.live(29)
    assert serviced.reminded == []  # initial grace: count-only


def test_a_network_that_changes_within_15_minutes_of_a_failure_means_another_try(
    serviced: Serviced, site: Site
) -> None:
    serviced.host.down = True
    assert serviced.round().network
    asked = serviced.asked
    serviced.round()
    assert serviced.asked == asked  # not by itself
    serviced.round("network")
    assert serviced.asked == asked + 1
    site.clock.advance(15 * MINUTE)
    assert not serviced.round("network").network
    assert serviced.asked == asked + 1


def test_a_refusal_is_not_asked_about_again_because_the_network_changed(serviced: Serviced) -> None:
    serviced.host.refuse = Refusal.of(HostNotActivatedError, product=PRODUCT)
    assert not serviced.round().network
    serviced.round("network")
    assert serviced.asked == 1
    assert serviced.events()[-1] == "activation-refused"


def test_a_host_can_ask_for_a_later_retry(serviced: Serviced, site: Site) -> None:
    serviced.host.refuse = Refusal.of(HostNotActivatedError, retry_after=20 * HOUR, product=PRODUCT)
    assert serviced.round().wake_at - site.clock() >= 20 * HOUR


@pytest.mark.parametrize("years", [1, 10])
def test_a_clock_that_was_far_ahead_and_is_put_right_wedges_nothing(serviced: Serviced, site: Site, years: int) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    right = site.clock.now
    site.clock.advance(days=365 * years)
    serviced.host.refuse = Refusal.of(ClockSkewError, difference=1, tolerance=1)
    serviced.round()  # an attempt that is noted far in the future
    site.clock.now, serviced.host.refuse = right + DAY, None
    serviced.host.fill(101, 24)
    serviced.round()
    assert serviced.machine.evaluate().licensed


def test_a_clock_that_went_back_gains_nothing_and_costs_nothing(serviced: Serviced, site: Site) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    until = serviced.machine.evaluate().until
    assert until is not None
    site.clock.advance(days=-400)
    done = serviced.round()
    assert done.licensed == 1
    assert serviced.machine.evaluate().until in (until, until - 400 * DAY)
    assert done.wake_at > site.clock()


def test_another_key_is_activated_at_once(serviced: Serviced) -> None:
    serviced.round()
    asked = serviced.asked
    installing.install_generic_key(serviced.machine.store, PRODUCT, "server")
    serviced.round()
    assert serviced.asked == asked + 1


def test_a_product_that_is_damaged_keeps_no_other_from_being_licensed(serviced: Serviced, site: Site) -> None:
    other = serviced.machine.folder / "products" / "broken"
    other.mkdir(parents=True)
    (other / "trust.json").write_bytes(b"\xff")
    serviced.host.fill(101, 24)
    done = serviced.round()
    assert done.licensed == 1
    assert site.clock() + 15 * MINUTE <= done.wake_at <= site.clock() + 18 * MINUTE
    assert "folder-unusable" in serviced.events()


def test_a_corrupt_file_is_read_from_its_copy_and_that_is_said(serviced: Serviced) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    path = serviced.machine.folder / "products" / PRODUCT / "product.json"
    path.write_bytes(path.read_bytes()[:7])
    done = serviced.round()
    assert done.licensed == 1
    assert any("its copy is used" in note for note in done.notes)


def test_what_the_service_remembers_may_be_lost_or_damaged(serviced: Serviced) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    for damage in (b"", b"{}", b'{"v":1,"salt":"!","fingerprint":{},"products":{}}', b"\x00" * 100):
        (serviced.machine.folder / "service.json").write_bytes(damage)
        assert serviced.round().licensed == 1


def test_a_copied_folder_on_another_machine_is_warned_of_once(serviced: Serviced) -> None:
    serviced.round()
    serviced.machine.hardware = simulated_traits(99)
    serviced.round()
    serviced.round()
    assert serviced.events().count("image-not-generalized") == 1


def test_a_machine_from_a_generalised_image_has_another_id_and_is_not_warned(serviced: Serviced, site: Site) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    machine = serviced.machine
    before = machine.store.machine_id()
    generalize(machine.store, site.clock())
    assert machine.store.machine_id() is None
    assert not machine.evaluate().licensed
    machine.hardware = simulated_traits(99)
    site.clock.advance(days=100)
    serviced.host.renew()
    serviced.host.fill(101, 24)
    assert serviced.round().licensed == 1
    assert machine.store.machine_id() not in (None, before)
    assert machine.store.installation(PRODUCT).installed_at == site.clock()
    assert "machine-generalized" not in serviced.events()
    assert serviced.events().count("generalized") == 1
    assert "image-not-generalized" not in serviced.events()


def states_of(serviced: Serviced) -> list[str]:
    return [row["state"] for row in serviced.log.read() if row["event"] == "state-changed"]


def test_extended_grace_follows_a_grace_where_the_policy_has_one_and_is_reminded_of(tmp_path: Path) -> None:
    serviced = Serviced(tmp_path / "client", Site.make(activation_interval_minutes=DAILY, extended_grace_days=10))
    serviced.live(29)
    serviced.live(15)
    assert states_of(serviced) == ["extended-grace", "notification"]
    in_extension = [facts["days_left"] for facts in serviced.reminded if facts["state"] == "extended-grace"]
    assert in_extension == [10, 7, 3, 2, 1]  # once when it begins, too


def test_a_host_that_the_publisher_revoked_leaves_a_non_genuine_grace_until_another_host_licenses(
    serviced: Serviced, site: Site
) -> None:
    serviced.host.fill(101, 24)
    serviced.round()
    site.clock.advance(days=1)
    site.publisher.revoke(serviced.host.issuer, since=site.clock() - 2 * DAY)
    serviced.host = site.kms_host()  # another one, which brings the news, and has counted nobody yet
    site.clock.advance(days=8)
    serviced.round()
    assert states_of(serviced) == ["licensed", "non-genuine-grace"]
    serviced.live(40)
    assert states_of(serviced) == ["licensed", "non-genuine-grace", "notification"]
    assert {facts["state"] for facts in serviced.reminded} == {"non-genuine-grace", "notification"}
    serviced.host.renew()
    serviced.host.fill(101, 24)
    serviced.live(1.2)
    assert states_of(serviced)[-1] == "licensed"
