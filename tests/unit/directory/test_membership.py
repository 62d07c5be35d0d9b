# SPDX-License-Identifier: Apache-2.0
"""Whose computer this is, its own files say: a reading of another account is forgotten, and nothing else is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.client.activation import directory, online
from volact.core.activation_object import ActivationObject
from volact.core.errors import ConfigError, TransportError
from volact.core.forest import Forest, ForestKind
from volact.core.policy import DAY
from volact.sealing.certificates import Role
from volact.sealing.keys import LocalKey
from volact.testing import Site

AD = Forest(ForestKind.AD, "c7593518-e6e5-447a-b026-36d400922049", "ad.example.test", domain_sid="S-1-5-21-1-2-3")
ACCOUNT = "PC1$@AD.EXAMPLE.TEST"


class LeftError(ConfigError):
    fmt = "left"


class UnreadableError(ConfigError):
    fmt = "unreadable"


LeftError.code = directory.NOT_A_MEMBER
UnreadableError.code = "keytab-unusable"


class AwayError(TransportError):
    fmt = "no controller answers"


@dataclass
class Found:
    token: str
    forest: Forest = AD
    member: str = "S-1-5-21-1-2-3-1103"
    server: str = "dc1.ad.example.test"


class Door:
    """A directory that a test opens and closes."""

    def __init__(self, token: str) -> None:
        self.token, self.error, self.who = token, None, ACCOUNT

    error: Exception | None
    who: str | Exception

    def account(self) -> str:
        if isinstance(self.who, Exception):
            raise self.who
        return self.who

    def read(self, trust: Any, group: int, now: int) -> Found:
        if self.error is not None:
            raise self.error
        return Found(self.token)


@pytest.fixture
def machine(tmp_path: Path) -> ClientMachine:
    return ClientMachine.ready(tmp_path / "pc1", Site.make())


@pytest.fixture
def door(machine: ClientMachine) -> Door:
    publisher, now = machine.site.publisher, machine.clock()
    made = ActivationObject(
        "issuer", "00" * 16, now, now + 700 * DAY, publisher.fingerprint, frozenset({101, 102}), AD, "0" * 32, "ABCDE",
        "Head office", "Contoso", PRODUCT,
    )  # fmt: skip
    return Door(publisher.issuer(LocalKey.generate(), Role.PUBLISHER, "Acme", ()).activation_object(made))


def activate(machine: ClientMachine, door: Door | None) -> online.Outcome:
    directory.heed_membership(machine.store, door)
    return online.activate(PRODUCT, machine.store, [], machine.local, machine.clock, machine.random, door)


def test_a_member_is_licensed_and_what_fails_later_takes_nothing_away(machine: ClientMachine, door: Door) -> None:
    outcome = activate(machine, door)
    assert (outcome.source, outcome.host) == ("directory", "dc1.ad.example.test")
    assert machine.check().licensed
    door.error = AwayError()
    with pytest.raises(AwayError):
        activate(machine, door)
    assert machine.check().licensed


@pytest.mark.parametrize("who", [LeftError(), "PC1$@OTHER.TEST"])
def test_leaving_and_joining_elsewhere_end_it(machine: ClientMachine, door: Door, who: Any) -> None:
    activate(machine, door)
    door.who, door.error = who, AwayError()
    directory.heed_membership(machine.store, door)
    assert not machine.check().licensed


def test_no_door_at_all_is_no_membership(machine: ClientMachine, door: Door) -> None:
    activate(machine, door)
    directory.heed_membership(machine.store, None)
    assert not machine.check().licensed


def test_a_keytab_that_cannot_be_read_says_nothing_about_membership(machine: ClientMachine, door: Door) -> None:
    activate(machine, door)
    door.who = UnreadableError()
    directory.heed_membership(machine.store, door)
    assert machine.check().licensed


def test_a_host_that_is_named_is_asked_without_forgetting_the_directory(machine: ClientMachine, door: Door) -> None:
    activate(machine, door)
    machine.activate(machine.site.kms_host())
    assert machine.check().licensed
    assert machine.store.has_reading(PRODUCT)
