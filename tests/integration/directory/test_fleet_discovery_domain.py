# SPDX-License-Identifier: Apache-2.0
"""Machines found in a real Samba domain, by Kerberos and by password through TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.samba import DOMAIN, Forest, forest

HERE, GONE = "pc01", "pc05"  # of the forest's computers

pytestmark = pytest.mark.needs("samba", "netns", "bonsai", "gssapi")


@pytest.fixture(scope="module")
def up(forest_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forest]:
    with forest(forest_image, tmp_path_factory.mktemp("domain"), [("admin", 10)]) as running:
        running.dc1.tool("user", "disable", f"{GONE}$")
        yield running


@pytest.fixture
def fleet(up: Forest, tmp_path: Path) -> Callable[..., Any]:
    shell = up.shell("admin")
    assert shell.volact("fleet", "init", "--dir", tmp_path / "fleet").code == 0

    def run(*words: object) -> Any:
        return shell.volact("fleet", *words, "--dir", tmp_path / "fleet", "--json")

    return run


def _password(up: Forest) -> list[object]:
    words = {str(word): place for place, word in enumerate(up.as_administrator())}
    options = up.as_administrator()
    server, ca_file = options[words["--server"] + 1], options[words["--ca-file"] + 1]
    user, password = options[words["--user"] + 1], options[words["--password-file"] + 1]
    return ["--ldap", server, "--ca-file", ca_file, "--user", user, "--password-file", password]


def test_enabled_computers_of_a_domain_are_found_by_password_through_tls(up: Forest, fleet: Callable[..., Any]) -> None:
    done = fleet("discover", *_password(up))
    assert done.code == 0, done.err
    new = done.json["new"]
    assert f"dc1.{DOMAIN}" in new
    assert HERE in new
    assert GONE not in new
    again = fleet("discover", *_password(up)).json
    assert (again["new"], sorted(again["known"])) == ([], sorted(new))


def test_a_base_and_a_pattern_narrow_what_is_found(up: Forest, fleet: Callable[..., Any]) -> None:
    base = "OU=Domain Controllers," + ",".join(f"DC={part}" for part in DOMAIN.split("."))
    found = fleet("discover", *_password(up), "--base", base, "--match", "dc1*", "--tag", "controllers").json["new"]
    assert found == [f"dc1.{DOMAIN}"]


def test_a_keytab_is_enough(up: Forest, fleet: Callable[..., Any]) -> None:
    words = ["--ldap", f"dc1.{DOMAIN}", "--user", f"{HERE}$@{DOMAIN.upper()}", "--keytab", up.keytab(HERE)]
    done = fleet("discover", *words)
    assert done.code == 0, done.err
    assert HERE in done.json["new"]


def test_a_wrong_password_is_named_and_adds_nothing(up: Forest, fleet: Callable[..., Any], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    words = _password(up)
    words[-1] = wrong
    done = fleet("discover", *words)
    assert done.json["error"]["code"] == "discovery-directory-failed"
    assert fleet("list", "--machines").json["total"] == 0
