# SPDX-License-Identifier: Apache-2.0
"""Addresses and accounts of machines come from lists, bundles and the HTTP API, and go to SSH's configuration, whose
``ProxyCommand`` makes words of a command line of them."""

import asyncio

import pytest

from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import MachineAccountUnfitError, MachineNameUnfitError
from volact.fleet.reach import Target
from volact.fleet.reach.errors import SshProtocolError
from volact.fleet.reach.ssh import SshReach

BAD_ADDRESSES = ["-oProxyCommand=x", "db1 -oProxyCommand=x", "db1;id", "$(id)", "`id`", "db1\nother", "'", '"', ""]
BAD_ACCOUNTS = ["-l", "a b", "a'", 'a"', "a\nb"]


@pytest.fixture
def fleet(tmp_path):
    made = Fleet.init(tmp_path / "fleet", who="tests")
    made.discover(["db1"])
    yield made
    made.close()


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_an_address_is_one_word_and_no_option(fleet, address):
    with pytest.raises(MachineNameUnfitError):
        fleet.set_machine(names=["db1"], address=address)


@pytest.mark.parametrize("account", [*BAD_ACCOUNTS, ""])
def test_an_account_is_one_word_and_no_option(fleet, account):
    with pytest.raises(MachineAccountUnfitError):
        fleet.set_machine(names=["db1"], account=account)


def test_usual_addresses_and_accounts_are_taken(fleet):
    for address, account in (("192.0.2.7", "admin"), ("fe80::1%eth0", "EXAMPLE\\ann"), ("db1.example", "ann@x.y")):
        assert fleet.set_machine(names=["db1"], address=address, account=account) == 1
    assert fleet.set_machine(names=["db1"], address=None, account=None) == 1


@pytest.mark.parametrize(
    "target",
    [
        *(Target("db1", address=one) for one in BAD_ADDRESSES if one),
        *(Target("db1", account=one) for one in BAD_ACCOUNTS),
    ],
    ids=lambda target: ascii(target.account or target.host),
)
def test_no_command_is_made_of_what_a_bundle_brought(fleet, tmp_path, target):
    proof = tmp_path / "proof"
    config = tmp_path / "config"
    config.write_text(f"Host *\n    ProxyCommand touch {proof} %h %r\n")

    async def reach():
        async with SshReach(fleet.folder, ssh_config=(str(config),)) as way, way.session(target):
            pass

    with pytest.raises(SshProtocolError):
        asyncio.run(reach())
    assert not proof.exists()
