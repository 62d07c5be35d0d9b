# SPDX-License-Identifier: Apache-2.0
"""Machines found in a real OpenLDAP by base, filter and attribute."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.slapd import ADMINISTRATOR, BASE, MACHINES, PASSWORD, Slapd, slapd
from volact.fleet.discovery.errors import DirectoryFailedError
from volact.fleet.discovery.ldap import Search, find

pytestmark = pytest.mark.needs("slapd", "bonsai")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, pick_port: Callable[[], int]) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("slapd"), pick_port()) as running:
        yield running


def _search(up: Slapd, **changes: object) -> Search:
    values = {
        "server": f"ldaps://{up.server}",
        "filter": "(&(objectClass=person)(cn=pc*))",
        "attribute": "cn",
        "user": ADMINISTRATOR,
        "password": PASSWORD,
        "ca_file": up.ca_file,
    }
    return Search(**{**values, **changes})  # type: ignore[arg-type]


def test_what_the_filter_calls_a_machine_is_found_under_the_attribute(up: Slapd) -> None:
    found = [one.name for one in find(_search(up))]
    assert sorted(found) == [f"pc{number:02d}" for number in range(1, MACHINES + 1)]


def test_the_base_may_be_given(up: Slapd) -> None:
    assert len(list(find(_search(up, base=f"cn=pc07,{BASE}")))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong"},
        {"filter": "(("},
        {"base": "cn=nowhere,dc=example,dc=test"},
        {"ca_file": Path("/nonexistent")},
        {"ca_file": None},
        {"server": "ldaps://127.0.0.1:1"},
    ],
)
def test_what_a_directory_refuses_is_named(up: Slapd, changes: dict[str, object]) -> None:
    with pytest.raises(DirectoryFailedError):
        list(find(_search(up, **changes)))


def test_a_password_is_not_sent_in_the_clear(up: Slapd) -> None:
    with pytest.raises(DirectoryFailedError, match="TLS"):
        list(find(_search(up, server=f"ldap://{up.server}")))
