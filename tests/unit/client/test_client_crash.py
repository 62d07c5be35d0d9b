# SPDX-License-Identifier: Apache-2.0
"""The power goes at every single write of an activation: no licence is lost, and none is invented."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.client.folder import files
from volact.client.folder.store import ClientStore
from volact.client.products import installing
from volact.core.states import State
from volact.testing import Site

CHANGES = ("write_whole", "remove")  # every way in which the client changes its disk


class PowerFailureError(BaseException):
    """Not an Exception: nothing catches it and tidies up."""


class Power:
    """Fails at the n-th change of the disk, before it or after a part of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.changes = 0
        for name in CHANGES:
            monkeypatch.setattr(files, name, self._counted(getattr(files, name)))

    def fail_at(self, change: int | None) -> None:
        self.left, self.changes = change, 0

    def _counted(self, change):
        def counted(path: Path, *rest: object) -> None:
            self.changes += 1
            if self.left is not None and self.changes > self.left:
                if path.parent.is_dir() and rest:  # what a real crash leaves behind: half a temporary file
                    path.with_name(f".{path.name}.77.dead.tmp").write_bytes(b"ha")
                raise PowerFailureError
            change(path, *rest)

        return counted


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Power:
    return Power(monkeypatch)


def crash_everywhere(power: Power, act, least: int = 6) -> Iterator[int]:
    """Run ``act(n)`` with the power failing at change n, until it gets through."""
    for change in itertools.count():
        power.fail_at(change)
        try:
            act(change)
        except PowerFailureError:
            power.fail_at(None)
            yield change
        else:
            power.fail_at(None)
            assert change >= least, "an activation writes more than this"
            return


def test_a_renewal_that_is_cut_off_anywhere_keeps_the_licence(tmp_path, site, power):
    machine = ClientMachine.ready(tmp_path, site)
    host = site.kms_host()
    host.fill(101, 24)
    machine.activate(host)
    for change in crash_everywhere(power, lambda _: machine.activate(host)):
        assert machine.evaluate().state is State.LICENSED, change
        assert machine.check(), change
        site.clock.advance(hours=2)
        host.fill(101, 24)
    assert machine.evaluate().until == site.clock() + 180 * 86400


def test_a_first_activation_that_is_cut_off_anywhere_is_either_done_or_not(tmp_path, site, power):
    host = site.kms_host()
    host.fill(101, 40)
    machines = [ClientMachine.ready(tmp_path / str(n), site, n) for n in range(40)]
    for change in crash_everywhere(power, lambda n: machines[n].activate(host)):
        machine = machines[change]
        before = machine.evaluate()
        assert before.state in (State.INITIAL_GRACE, State.LICENSED)
        assert before.licensed == any(name == "volume.vollicence" for name in machine.licences()), change
        assert machine.activate(host).evaluation.state is State.LICENSED, change  # and nothing stands in the way


def test_an_answer_below_the_threshold_that_is_cut_off_anywhere_licenses_nobody(tmp_path, site, power):
    machine, host = ClientMachine.ready(tmp_path, site), site.kms_host()
    for change in crash_everywhere(power, lambda _: machine.activate(host), least=3):
        assert machine.evaluate().state is State.INITIAL_GRACE, change
    reason = machine.evaluate().reason
    assert reason is not None
    assert reason.code == "count-below-threshold"


def test_a_good_answer_cut_off_before_the_end_is_not_pushed_out_by_a_poor_one(tmp_path, site, power):
    host = site.kms_host()
    host.fill(101, 40)
    machines = [ClientMachine.ready(tmp_path / str(n), site, n) for n in range(40)]
    licensed = 0
    for change in crash_everywhere(power, lambda n: machines[n].activate(host)):
        machine = machines[change]
        if machine.evaluate().licensed:
            licensed += 1
            assert machine.activate(site.kms_host()).evaluation.licensed, change  # another host, count 1
    assert licensed > 2


def test_adding_a_product_and_its_key_cut_off_anywhere_can_be_repeated(tmp_path, site, power):
    for folder in itertools.count():
        machine = ClientMachine(tmp_path / str(folder), site)
        power.fail_at(folder)
        try:
            machine.add()
            installing.install_generic_key(machine.store, PRODUCT, "client")
        except PowerFailureError:
            power.fail_at(None)
            assert machine.check().reason is not None
            machine.add()
            installing.install_generic_key(machine.store, PRODUCT, "client")
            assert machine.evaluate().state is State.INITIAL_GRACE
        else:
            break
    assert folder >= 5


def test_the_clock_mark_cut_off_anywhere_is_the_old_or_the_new(tmp_path, power):
    for already_written, expected in enumerate([100, 101, 101]):
        opened = ClientStore(tmp_path / str(already_written))
        opened.save_latest_time(100)
        power.fail_at(already_written)
        with suppress(PowerFailureError):
            opened.save_latest_time(101)
        power.fail_at(None)
        assert ClientStore(opened.folder).latest_time() == expected
