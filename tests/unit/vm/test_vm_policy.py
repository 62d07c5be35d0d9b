# SPDX-License-Identifier: Apache-2.0
"""What a publisher may demand of VM hosts: figures in the product's file, in what is signed, and in what is refused."""

import json
from typing import Any

import pytest

from volact.core.encoding import Fields
from volact.core.policy import GuestPolicy, Policy, PolicyFigureError
from volact.core.product_key import Channel
from volact.publisher.rules.catalogue import read_product
from volact.publisher.rules.issuing import HOST_ROLES
from volact.sealing.certificates import Role
from volact.sealing.verify import MAY_LICENSE

FILE = b"""
product = "acme-cad"
name = "Acme CAD"
version = 1
[policy.guests]
per_host = 50
[groups.all]
number = 1
[editions.client]
name = "Client"
group = "all"
kind = "client"
[editions.server]
name = "Server"
group = "all"
kind = "server"
[editions.server.policy.guests]
nested = true
host_edition = "client"
"""


def test_figures_of_guests_come_from_the_product_and_the_edition() -> None:
    client, server = (edition.policy.guests for edition in read_product(FILE).editions)
    assert client == GuestPolicy(per_host=50)
    assert (server.nested, server.host_edition) == (True, "client")


def test_what_is_signed_is_read_back_and_defaults_are_left_out() -> None:
    policy = Policy().with_changes({"guests": {"per_host": 3, "nested": True, "host_edition": "server"}})
    claim = json.loads(json.dumps(policy.to_claim()))
    assert Policy.from_claim(Fields(claim, "policy")) == policy
    assert "guests" not in Policy().to_claim()
    assert Policy.from_claim(Fields(json.loads(json.dumps(Policy().to_claim())), "policy")).guests == GuestPolicy()


@pytest.mark.parametrize(
    "guests",
    [
        {"per_host": -1}, {"per_host": True}, {"per_host": 1_000_001}, {"nested": 1}, {"host_edition": 7},
        {"host_edition": "x" * 64}, {"misspelt": 1}, 7,
    ],
)  # fmt: skip
def test_a_figure_that_does_not_fit_is_named(guests: Any) -> None:
    with pytest.raises(PolicyFigureError, match="guests"):
        Policy().with_changes({"guests": guests})


def test_a_vm_hosts_key_makes_a_vm_host_and_nothing_else_licenses_guests() -> None:
    assert HOST_ROLES[Channel.VM_HOST] is Role.VM_HOST
    assert [role for role, channels in MAY_LICENSE.items() if Channel.VM in channels] == [Role.VM_HOST]
    assert [role for role, channels in MAY_LICENSE.items() if Channel.VM_HOST in channels] == [Role.PUBLISHER]
