# SPDX-License-Identifier: Apache-2.0
"""The site that a computer is in: the subnets its address can be in, and the file that keeps what was found."""

from pathlib import Path

import pytest

from volact.directory.site import load_site, save_site, subnets


def test_the_narrowest_subnet_comes_first_and_the_whole_network_last() -> None:
    names = subnets("10.77.0.31")
    assert len(names) == 33
    assert names[:3] == ["10.77.0.31/32", "10.77.0.30/31", "10.77.0.28/30"]
    assert names[8] == "10.77.0.0/24"
    assert names[-1] == "0.0.0.0/0"


def test_an_ipv6_subnet_is_called_as_rfc_5952_writes_it() -> None:
    names = subnets("2001:db8:0:0:0:0:0:1%eth0")
    assert len(names) == 129
    assert {"2001:db8::1/128", "2001:db8::/64", "2001:db8::/32"} <= set(names)
    assert subnets("::ffff:10.77.0.31") == subnets("10.77.0.31")


@pytest.mark.parametrize("address", ["", "/run/ldapi", "10.77.0"])
def test_what_is_no_address_is_in_no_subnet(address: str) -> None:
    assert subnets(address) == []


def test_what_was_found_is_kept_and_what_is_not_a_site_s_name_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "directory.site"
    assert load_site(path) is None
    save_site(path, "Branch-1")
    assert load_site(path) == "Branch-1"
    for damaged in (b"a.b\n", b"\xff\xfe", b"", b"x" * 4000):
        path.write_bytes(damaged)
        assert load_site(path) is None


def test_a_computer_without_a_place_to_keep_it_goes_on_all_the_same(tmp_path: Path) -> None:
    save_site(None, "Branch")
    save_site(tmp_path / "none" / "directory.site", "Branch")
    assert load_site(tmp_path / "none" / "directory.site") is None
    assert load_site(None) is None
