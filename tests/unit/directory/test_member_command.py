# SPDX-License-Identifier: Apache-2.0
"""``volact directory member``: what is said anew is set, and what was said before stays."""

from pathlib import Path
from typing import Any

import pytest

from support.processes import volact


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """Runs the command for a computer's folder and returns its JSON."""

    def run(*words: object) -> Any:
        done = volact("directory", "member", *words, "--dir", tmp_path / "client", "--json")
        assert done.code == 0, done.err
        return done.json

    return run


LDAP = ("--base", "dc=x", "--server", "ldap:1636", "--ca-file", "/ca", "--user", "cn=pc", "--password-file", "/secret")


def test_a_setting_is_added_to_those_there_are(told: Any) -> None:
    told("--keytab", "/k", "--server", "dc1:3389")
    known = told("--site", "Branch")
    assert (known["keytab"], known["server"], known["site"]) == ("/k", "dc1:3389", "Branch")
    known = told("--server", "dc2,dc3:3389")
    assert (known["keytab"], known["server"]) == ("/k", "dc2,dc3:3389")
    assert told("--default")["keytab"] == "/etc/krb5.keytab"


def test_a_directory_of_the_other_kind_begins_anew(told: Any) -> None:
    told("--keytab", "/k", "--site", "Branch")
    known = told(*LDAP)
    assert (known["base"], known["keytab"], known.get("site")) == ("dc=x", "/etc/krb5.keytab", None)
    known = told("--server", "ldap2")
    assert (known["base"], known["server"], known["user"]) == ("dc=x", "ldap2", "cn=pc")
    known = told("--domain", "ad.example.test")
    assert (known["domain"], known.get("base"), known.get("user")) == ("ad.example.test", None, None)


@pytest.mark.parametrize("servers", ["", "dc1,", ":389", "dc1:0", "dc1:99999", "dc1:x", "dc1,dc2:"])
def test_what_is_no_server_is_not_set(told: Any, tmp_path: Path, servers: str) -> None:
    before = told("--server", "dc1")
    done = volact("directory", "member", f"--server={servers}", "--dir", tmp_path / "client", "--json")
    if servers:
        assert (done.code, done.json["error"]["code"]) == (1, "directory-server-malformed")
    assert told() == before


def test_damaged_settings_are_named_and_replaced_by_new_ones(told: Any, tmp_path: Path) -> None:
    told("--keytab", "/k")
    (tmp_path / "client" / "directory.json").write_bytes(b"{}")
    shown = volact("directory", "member", "--dir", tmp_path / "client", "--json")
    assert (shown.code, shown.json["error"]["code"]) == (1, "directory-settings")
    assert told("--site", "Branch")["site"] == "Branch"
