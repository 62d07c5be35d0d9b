# SPDX-License-Identifier: Apache-2.0
"""Product definitions: consistent or not made at all, and read back as they were written."""

from dataclasses import replace

import pytest

from volact.core.definition import (
    DefinitionError,
    Edition,
    EditionKind,
    ProductDefinition,
    ProductGroup,
    default_policy,
    read_groups,
)
from volact.core.encoding import Fields
from volact.core.errors import MalformedError
from volact.core.policy import Policy
from volact.core.product_key import Channel, ProductKey

VOLUME_KEY = ProductKey.new(Channel.VOLUME, 0xABC, 101, bytes(7))
VM_KEY = ProductKey.new(Channel.VM, 0xABC, 101, bytes(7))
MAK = ProductKey.new(Channel.MAK, 0xABC, 101, bytes(7))
GROUPS = (ProductGroup(101, "clients", 102), ProductGroup(102, "servers", 103), ProductGroup(103, "data centre"))
CLIENT = Edition(
    "client", "Acme CAD", 101, EditionKind.CLIENT, Policy(), {Channel.VOLUME: VOLUME_KEY, Channel.VM: VM_KEY}
)
SERVER = Edition("server", "Acme CAD Server", 102, EditionKind.SERVER, default_policy(EditionKind.SERVER))
DEFINITION = ProductDefinition(
    product="acme-cad",
    name="Acme CAD",
    version=3,
    publisher="Acme Software",
    root="sha256:" + "ab" * 32,
    url="https://activation.acme.example",
    issuer="a.b.c",
    groups=GROUPS,
    editions=(CLIENT, SERVER),
    issued_at=1_800_000_000,
)


def read(claim):
    return ProductDefinition.from_claim(Fields(claim, "definition"), DEFINITION.issued_at)


def test_a_definition_comes_back_as_it_was_written():
    assert read(DEFINITION.to_claim()) == DEFINITION
    without = replace(DEFINITION, url=None)
    assert read(without.to_claim()) == without


def test_servers_need_five_and_clients_twenty_five():
    assert default_policy(EditionKind.SERVER).threshold == 5
    assert default_policy(EditionKind.CLIENT).threshold == 25


def test_editions_are_found_by_name_and_by_their_generic_keys():
    assert DEFINITION.edition("server") is SERVER
    assert DEFINITION.edition("none") is None
    assert DEFINITION.edition_of(VOLUME_KEY) is CLIENT
    assert DEFINITION.edition_of(VM_KEY) is CLIENT
    assert DEFINITION.edition_of(MAK) is None
    other = ProductKey.new(Channel.VOLUME, 0xABC, 101, b"\1" * 7)
    assert DEFINITION.edition_of(other) is None


def test_a_host_key_serves_its_group_and_those_below():
    assert DEFINITION.covered_by(103) == {101, 102, 103}
    assert DEFINITION.covered_by(102) == {101, 102}
    assert DEFINITION.covered_by(101) == {101}
    assert DEFINITION.covered_by(999) == frozenset()


@pytest.mark.parametrize("name", ["Acme", "acme cad", "-acme", "acme-", "", "a" * 65, "acme\n", "acmé", "acme_cad"])
def test_names_of_products_and_editions_are_plain(name):
    with pytest.raises(DefinitionError):
        replace(DEFINITION, product=name)
    with pytest.raises(DefinitionError):
        replace(DEFINITION, editions=(replace(CLIENT, id=name),))


@pytest.mark.parametrize(
    "changes",
    [
        {"editions": ()},
        {"editions": (CLIENT, CLIENT)},
        {"groups": (*GROUPS, ProductGroup(101, "again"))},
        {"groups": GROUPS[1:]},
        {"groups": (ProductGroup(101, "a", 102), ProductGroup(102, "b", 101))},
        {"groups": (ProductGroup(101, "a", 101), ProductGroup(102, "b"))},
        {"groups": (ProductGroup(101, "a", 109), ProductGroup(102, "b"))},
        {"groups": (*GROUPS, ProductGroup(0, "none"))},
        {"groups": (*GROUPS, ProductGroup(65536, "beyond"))},
    ],
    ids=["no edition", "same edition", "same group", "no group", "cycle", "own parent", "no parent", "0", "65536"],
)
def test_an_inconsistent_definition_is_neither_made_nor_read(changes):
    with pytest.raises(DefinitionError):
        replace(DEFINITION, **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"version": 0},
        {"groups": []},
        {"editions": []},
        {"url": ""},
        {"url": "x" * 401},
        {"issuer": ""},
        {"publisher": "a\x00"},
    ],
    ids=str,
)
def test_a_claim_that_does_not_hold_together_is_malformed(change):
    with pytest.raises(MalformedError):
        read(DEFINITION.to_claim() | change)


@pytest.mark.parametrize(
    "keys",
    [
        {"mak": str(MAK)},
        {"volume": str(VM_KEY)},
        {"volume": str(VOLUME_KEY).lower()},
        {"volume": "not a key"},
        {"volume": 7},
        {"barter": str(VOLUME_KEY)},
        [],
    ],
    ids=str,
)
def test_only_generic_keys_of_their_own_channel_stand_in_a_definition(keys):
    claim = DEFINITION.to_claim()
    claim["editions"][0]["keys"] = keys
    with pytest.raises(MalformedError):
        read(claim)


def test_kinds_are_client_and_server():
    claim = DEFINITION.to_claim()
    claim["editions"][0]["kind"] = "toaster"
    with pytest.raises(MalformedError):
        read(claim)


def test_groups_are_read_from_a_publishers_table():
    table = {"groups": {"clients": {"number": 101, "parent": 102}, "servers": {"number": 102, "name": "Servers"}}}
    assert read_groups(table) == (ProductGroup(101, "clients", 102), ProductGroup(102, "Servers"))
    assert read_groups({}) == ()


@pytest.mark.parametrize(
    "groups",
    [
        7,
        {"clients": 101},
        {"clients": {}},
        {"clients": {"number": "101"}},
        {"clients": {"number": True}},
        {"clients": {"number": 101, "below": 102}},
        {"clients": {"number": 101, "parent": "servers"}},
        {"clients": {"number": 101, "name": 7}},
    ],
    ids=str,
)
def test_a_table_that_is_no_group_is_refused(groups):
    with pytest.raises(DefinitionError):
        read_groups({"groups": groups})
