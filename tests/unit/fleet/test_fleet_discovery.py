# SPDX-License-Identifier: Apache-2.0
"""Where machines come from: words, ranges, OpenSSH's files, Ansible inventories."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import InputError
from volact.fleet.discovery import ansible, matching, names, ssh_config
from volact.fleet.discovery.errors import RangeTooLargeError, SourceUnfitError
from volact.fleet.discovery.ranges import expand
from volact.fleet.inventory.machines import Found

INI = """
lonely.example.com
[web]
web[01:03].example.com ansible_user=admin
[db]
db1 ansible_host=192.0.2.7 ansible_port=2222  # the old one
[site:children]
web
db
[site:vars]
ansible_user=operator
"""
YAML = """
all:
  children:
    web:
      hosts:
        web1: {ansible_host: 192.0.2.1}
        web2:
      vars: {ansible_port: 2200}
    site:
      children:
        web:
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web1", ["web1"]),
        ("192.0.2.0/30", ["192.0.2.1", "192.0.2.2"]),
        ("192.0.2.9-11", ["192.0.2.9", "192.0.2.10", "192.0.2.11"]),
        ("192.0.2.254-192.0.3.1", ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]),
        ("2001:db8::1-2001:db8::2", ["2001:db8::1", "2001:db8::2"]),
        ("web[08-11].x", ["web08.x", "web09.x", "web10.x", "web11.x"]),
        ("r[1-2]n[a,b]", ["r1na", "r1nb", "r2na", "r2nb"]),
        ("my-host", ["my-host"]),
    ],
)
def test_a_range_stands_for_its_machines(text: str, wanted: list[str]) -> None:
    assert expand(text) == wanted


@pytest.mark.parametrize("text", ["10.0.0.0/8", "n[1-99999]", "a[1-300]b[1-300]", "::/64", "10.0.0.1-10.9.0.1"])
def test_a_range_that_is_a_mistake_is_refused(text: str) -> None:
    with pytest.raises(RangeTooLargeError):
        expand(text)


@pytest.mark.parametrize("text", ["192.0.2.9-3", "192.0.2.0/99", "web[3-1]", "web[1-3", "web]"])
def test_a_range_that_means_nothing_is_named(text: str) -> None:
    with pytest.raises(SourceUnfitError):
        expand(text)


@given(st.text(max_size=40))
def test_any_word_is_machines_or_a_named_error(text: str) -> None:
    with suppress(InputError):
        assert all(isinstance(one, Found) for one in names.from_text(text, "a file"))


def test_words_carry_account_and_port() -> None:
    (one,) = names.from_words(["admin@[2001:db8::5]:2222"])
    assert (one.name, one.account, one.port) == ("2001:db8::5", "admin", 2222)
    (one,) = names.from_words(["admin@Web1.Example.COM.:2222"])
    assert (one.name, one.account, one.port) == ("web1.example.com", "admin", 2222)


def test_an_error_of_a_file_names_its_line() -> None:
    with pytest.raises(SourceUnfitError, match="line 3"):
        list(names.from_text("web1 # fine\n\nweb[3-1]\n", "file x"))


def test_patterns_choose_by_name_and_tags_are_added() -> None:
    found = [Found("web1", "x", tags=("a",)), Found("db1", "x")]
    assert [(one.name, one.tags) for one in matching(found, ["WEB*"], ["b"])] == [("web1", ("a", "b"))]


def test_ssh_config_gives_its_plain_hosts_and_those_of_included_files(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host db1 db2\n  User x\n")
    config = tmp_path / "config"
    config.write_text("Include more\nHost web1 *.example.com !bad\n  HostName 192.0.2.1\nHost=web2\n")
    assert [one.name for one in ssh_config.from_config(config)] == ["db1", "db2", "web1", "web2"]


def test_an_ssh_config_that_includes_itself_ends(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Include config\n")
    with pytest.raises(SourceUnfitError):
        list(ssh_config.from_config(config))


def test_known_hosts_gives_names_and_no_hashes_patterns_or_authorities(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(
        "web1,192.0.2.1 ssh-ed25519 AAAA\n[db1]:2222 ssh-ed25519 AAAA\n|1|abc=|def= ssh-ed25519 AAAA\n"
        "@cert-authority *.example.com ssh-ed25519 AAAA\n*.x ssh-rsa AAAA\n# comment\nweb1 ssh-rsa AAAA\n"
    )
    assert [(one.name, one.port) for one in ssh_config.from_known_hosts(file)] == [("web1", None), ("db1", 2222)]


def test_an_ini_inventory_gives_hosts_with_groups_as_tags_and_inherited_variables() -> None:
    found = {one.name: one for one in ansible.from_text(INI, "ini")}
    assert set(found) == {"lonely.example.com", "web01.example.com", "web02.example.com", "web03.example.com", "db1"}
    assert found["web01.example.com"].account == "admin"
    db = found["db1"]
    assert (db.address, db.port, db.account, db.tags) == ("192.0.2.7", 2222, "operator", ("db", "site"))


def test_a_yaml_inventory_is_read_as_ansible_reads_it() -> None:
    found = {one.name: one for one in ansible.from_text(YAML, "yaml")}
    assert (found["web1"].address, found["web1"].port, found["web1"].tags) == ("192.0.2.1", 2200, ("site", "web"))
    assert found["web2"].address is None


def test_the_json_of_ansible_inventory_is_read() -> None:
    text = '{"_meta": {"hostvars": {"a": {"ansible_host": "192.0.2.3"}}}, "web": {"hosts": ["a", "b"]}}'
    assert [(one.name, one.address) for one in ansible.from_text(text, "json")] == [("a", "192.0.2.3"), ("b", None)]


@pytest.mark.parametrize("text", ["{", "---\n- a", "all:\n  hosts: 3", "[a:children]\na\n[a]\nx", "[web]\n'unclosed"])
def test_an_inventory_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(SourceUnfitError):
        list(ansible.from_text(text, "an inventory"))
