# SPDX-License-Identifier: Apache-2.0
"""A publisher's TOML becomes a definition, or is refused by the name of what is wrong."""

import contextlib
import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.definition import DefinitionError, EditionKind, ProductDefinition
from volact.core.errors import ConfigError
from volact.core.policy import BOUNDS, Policy, PolicyFigureError
from volact.core.product_key import Channel
from volact.core.states import Enforcement, State
from volact.publisher.rules import catalogue
from volact.publisher.rules.catalogue import (
    EditionMovedError,
    GroupConflictError,
    GroupMissingError,
    ProductFile,
    PublisherFacts,
    SuiteNotAllowedError,
    VersionNotNewerError,
    check_groups,
    check_newer,
    check_suite,
    complete_keys,
    define,
    find_group,
    read_product,
)
from volact.publisher.rules.issuing import default_limits

ROOT = "sha256:" + "ab" * 32
EXAMPLE = (Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml").read_text(encoding="utf-8")


def random(size: int) -> bytes:
    random.calls += 1  # type: ignore[attr-defined]
    return random.calls.to_bytes(size)  # type: ignore[attr-defined]


random.calls = 0  # type: ignore[attr-defined]


def read(text: str = EXAMPLE) -> ProductFile:
    return read_product(text.encode())


def definition(text: str = EXAMPLE) -> ProductDefinition:
    file = read(text)
    return define(file, complete_keys(file, {}, ROOT, random), PublisherFacts("Acme", ROOT, None, "token"), 0)


def test_the_example_is_read() -> None:
    file = read()
    assert (file.product, file.version) == ("acme-cad", 1)
    assert [(group.number, group.name, group.parent) for group in file.groups] == [
        (101, "servers", None),
        (102, "clients", 101),
    ]
    professional, server = file.editions
    assert (professional.kind, professional.group, professional.policy.threshold) == (EditionKind.CLIENT, 102, 25)
    assert (server.kind, server.group, server.policy.threshold) == (EditionKind.SERVER, 101, 5)
    assert (professional.policy.lease_days, server.policy.lease_days) == (180, 90)
    assert professional.policy.enforcement[State.NOTIFICATION] is Enforcement.LIMIT


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('product = "acme-cad"', 'product = "acme-cad"\nprize = 3', "prize"),
        ('product = "acme-cad"', 'product = "Acme CAD"', "Acme CAD"),
        ('product = "acme-cad"', "product = 3", "product"),
        ('name = "Acme CAD"\n', "", "name"),
        ("version = 1 ", "version = 0 ", "version"),
        ("version = 1 ", "version = true ", "version"),
        ("version = 1 ", 'version = "1" ', "version"),
        ("number = 101", "number = 101\ncolour = 1", "colour"),
        ("number = 101", "number = 0", "0"),
        ("number = 101", "number = 65536", "65536"),
        ("number = 101", 'number = "101"', "number"),
        ("parent = 101", "parent = 999", "999"),
        ("parent = 101", "parent = 102", "102"),
        ("parent = 101", 'parent = "servers"', "parent"),
        ("parent = 101", 'parent = 101\nname = "servers"', "servers"),
        ("parent = 101", "parent = 101\nname = 3", "name"),
        ('group = "clients"', 'group = "cliens"', "cliens"),
        ('group = "clients"', "group = 999", "999"),
        ('group = "clients"', "group = [1]", "group"),
        ('kind = "client"', 'kind = "tablet"', "kind"),
        ('kind = "client"', "kind = [1]", "kind"),
        ('kind = "client"', 'kind = "client"\nkeys = 1', "keys"),
        ("[editions.professional]", '[editions."Pro fessional"]', "Pro fessional"),
        ("[policy]", "[polizei]", "polizei"),
        ("[policy]", "[[policy]]", "table"),
        ("[policy]", "[policy", "TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, named: str) -> None:
    assert EXAMPLE.count(old) >= 1
    with pytest.raises(DefinitionError) as caught:
        read(EXAMPLE.replace(old, new, 1))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("lease_day = 1", "lease_day"),
        ("lease_days = 0", "lease_days"),
        ('lease_days = "many"', "lease_days"),
        ("lease_days = 1.5", "lease_days"),
        ("suites = 3", "suites"),
        ('suites = "x25519"', "suites"),
        ("suites = []", "suites"),
        ('suites = ["rot13"]', "suites"),
        ("collapse_identical_hardware = 1", "collapse_identical_hardware"),
    ],
)
def test_a_wrong_figure_is_named(line: str, name: str) -> None:
    for heading in ("[policy]", "[editions.render-server.policy]"):
        with pytest.raises(PolicyFigureError) as caught:
            read(EXAMPLE.replace(heading, f"{heading}\n{line}").replace("\nlease_days = 90", ""))
        assert caught.value.name == name


def test_an_edition_names_its_group_by_the_table_whatever_the_group_is_called() -> None:
    file = read(EXAMPLE.replace("parent = 101", 'parent = 101\nname = "Acme clients"'))
    assert file.editions[0].group == 102
    assert file.groups[1].name == "Acme clients"


def test_a_product_needs_an_edition() -> None:
    with pytest.raises(DefinitionError, match="no edition"):
        read('product = "a"\nname = "A"\nversion = 1')


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused_by_one_family(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        read_product(data)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(["version", "name", "groups", "editions", "policy", "product"]),
    st.sampled_from(["", "professional", "clients", "suites", "tolerance", "enforcement"]),
    _VALUES,
)
def test_any_value_at_any_place_is_read_or_refused(top: str, below: str, value: object) -> None:
    table = tomllib.loads(EXAMPLE)
    if below and isinstance(table[top], dict):
        table[top][below] = value
    else:
        table[top] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_toml", lambda _data: table)
        with contextlib.suppress(ConfigError):
            read_product(b"")


def test_generic_keys_are_made_for_each_edition_and_kept_across_versions() -> None:
    file = read()
    first = complete_keys(file, {}, ROOT, random)
    assert {(edition, key.channel) for (edition, _), key in first.items()} == {
        (edition, channel) for edition in ("professional", "render-server") for channel in (Channel.VOLUME, Channel.VM)
    }
    assert first["professional", Channel.VOLUME].group == 102
    assert first["professional", Channel.VOLUME].publisher_tag == 0xABA
    assert complete_keys(file, first, ROOT, random) == first


def test_an_edition_does_not_leave_the_group_that_its_keys_name() -> None:
    kept = complete_keys(read(), {}, ROOT, random)
    moved = read(EXAMPLE.replace('group = "clients"', 'group = "servers"'))
    with pytest.raises(EditionMovedError):
        complete_keys(moved, kept, ROOT, random)


@pytest.mark.parametrize("last", [1, 2])
def test_only_a_newer_version_is_added(last: int) -> None:
    with pytest.raises(VersionNotNewerError):
        check_newer(read(), last)
    check_newer(read(), None)
    check_newer(read(), 0)


def test_a_group_means_the_same_in_every_product() -> None:
    other = dataclasses.replace(definition(), product="other")
    check_groups(read(), [other])
    for changed in (EXAMPLE.replace("\nparent = 101", ""), EXAMPLE.replace("parent = 101", 'parent = 101\nname = "x"')):
        with pytest.raises(GroupConflictError):
            check_groups(read(changed), [other])
        check_groups(read(changed), [definition()])  # the product's own former version


def test_a_group_is_found_by_name_and_by_number() -> None:
    assert find_group(definition(), "clients").number == 102
    assert find_group(definition(), "101").name == "servers"
    with pytest.raises(GroupMissingError):
        find_group(definition(), "103")


def test_limits_are_those_of_the_strictest_edition_that_the_key_covers() -> None:
    text = EXAMPLE.replace("lease_days = 90", "hosts_per_key = 2\nactivations_per_host = 3")
    assert default_limits(101, definition(text)) == (2, 3)
    assert default_limits(102, definition(text)) == (6, 10)


def test_a_product_must_allow_the_suite_of_its_own_publisher() -> None:
    file = read(EXAMPLE.replace("lease_days = 90", 'suites = ["mlkem768-x25519"]'))
    check_suite(file, "mlkem768-x25519")
    with pytest.raises(SuiteNotAllowedError):
        check_suite(file, "x25519")


def test_the_specification_lists_every_figure_with_its_default_and_bounds() -> None:
    spec = (Path(__file__).resolve().parents[3] / "docs" / "spec" / "product-definition.md").read_text("utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in spec.splitlines() if line.startswith("| `")]
    rows = {row[0].strip("`"): row[1:] for row in cells}
    for name, (least, most) in BOUNDS.items():
        assert rows[name][0].split(",")[0] == str(getattr(Policy(), name)), name
        assert rows[name][1] == f"{least} to {most}", name
    assert {field.name for field in dataclasses.fields(Policy)} <= rows.keys()
    written = tomllib.loads(spec.split("```toml")[1].split("```")[0])["policy"]["tolerance"]
    assert written == Policy().tolerance.to_claim()
