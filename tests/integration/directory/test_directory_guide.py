# SPDX-License-Identifier: Apache-2.0
"""The guide "Activate through Active Directory in ten minutes", command by command, on a real domain.

Only names are exchanged for those of this domain, and secrets come from files instead of a prompt.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.samba import ADMINISTRATOR, CONFIGURATION, DOMAIN, GROUP, PASSWORD, USER, USER_PASSWORD

pytestmark = pytest.mark.needs("samba", "netns", "bonsai", "ldapsearch")

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "active-directory.md"
LAST = "Event and status on a member"  # what comes after it is shown by the tests of DNS and OpenLDAP
BY_TELEPHONE = [
    "directory",
    "apply",
]  # asks for digits: test_directory_telephone.py and the domain's own test type them
WITH_KEY = {"activate", "installation-id", "renew"}

Domain = Any


@pytest.fixture(scope="module")
def domain(open_domain: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with open_domain(tmp_path_factory.mktemp("guide")) as domain:
        yield domain


def kinit(domain: Domain, user: str, password: str) -> None:
    words = domain.forest.net.command("admin", ["kinit", user])
    environment = {**os.environ, **domain.forest.variables}
    subprocess.run(words, input=f"{password}\n", env=environment, text=True, check=True, capture_output=True)


def commands() -> list[list[str]]:
    """Every command line of the guide's console blocks, with its prompt first."""
    text = GUIDE.read_text(encoding="utf-8").partition(LAST)[0]
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line[:2] in ("$ ", "# ")]
    return [shlex.split(line) for line in lines]


def test_every_command_of_the_guide_does_what_it_says(domain: Domain) -> None:
    kinit(domain, ADMINISTRATOR, PASSWORD)
    ran = []
    for prompt, program, *words in commands():
        if program == "ldapsearch":
            shown = _ldapsearch(domain, words)
            assert "volactName: Head office" in shown
            continue
        group, verb, *_ = words
        if words == BY_TELEPHONE:
            continue
        if (group, verb) == ("directory", "apply"):
            _answer(domain)
        words = _named(domain, words)
        done = _as_administrator(domain, words) if prompt == "$" else _on_the_member(domain, words)
        assert done.code == 0, (words, done.err, done.out)
        ran.append(f"{group} {verb}")
        if (group, verb) == ("client", "activate"):
            assert f"answered by dc1.{DOMAIN}" in done.out
    assert {"directory prepare", "directory activate", "directory acl", "directory renew", "client activate"} <= {*ran}
    # The last one removed an object; the one that came by file is left.
    assert [one["name"] for one in domain.objects()] == [""]


def test_whose_ticket_it_is_says_which_directory_is_meant_and_who_was_refused(domain: Domain) -> None:
    kinit(domain, USER, USER_PASSWORD)
    admin = domain.shell("admin")
    assert admin.good("directory", "list", "--json").json["forest"]["name"] == DOMAIN
    domain.good("prepare", "--yes")
    known = ("--definition", domain.vendor.definition, "--root", domain.vendor.root, "--dir", domain.folder / "anna")
    refused = admin.volact("directory", "activate", "--key-file", domain.vendor.keys["servers"], *known)
    assert refused.errors[0].startswith(f"{USER} may not create activation objects")
    by_address = admin.volact("directory", "list", "--server", "10.77.0.1")
    assert by_address.errors == [
        f"directory server 10.77.0.1 did not accept {USER}: "
        "Kerberos knows no server of that name: write it in full, no address"
    ]
    (domain.forest.folder / "ccache").unlink()
    without = admin.volact("directory", "list")
    assert without.errors == ["it is not known which directory is meant"]


def _as_administrator(domain: Domain, words: list[str]) -> Any:
    """With the Kerberos ticket of the administrator, as the guide says."""
    more: list[object] = ["--dir", domain.folder / "admin"]
    if words[1] in WITH_KEY:
        more += ["--key-file", domain.vendor.keys["servers"]]
    return domain.shell("admin").volact(*words, *more)


def _on_the_member(domain: Domain, words: list[str]) -> Any:
    folder, shell = domain.folder / "guide-member", domain.shell("member")
    shell.good("directory", "member", "--keytab", domain.forest.keytab("pc01"), "--dir", folder)
    more = ["--edition", "professional"] if words[1] == "install-key" else []
    return shell.volact(*words, *more, "--dir", folder, machine=1)


def _named(domain: Domain, words: list[str]) -> list[str]:
    names = {
        "ad.example.com": DOMAIN,
        "sha256:…": domain.vendor.root,
        "acme-cad.volproduct": str(domain.vendor.definition),
        "forest.volreq": str(domain.folder / "forest.volreq"),
        "forest.volans": str(domain.folder / "forest.volans"),
        "CAD workstations": GROUP,
    }
    return [names.get(word, word) for word in words]


def _answer(domain: Domain) -> None:
    """What the publisher does between the two commands."""
    files = (domain.folder / "forest.volreq", "-o", domain.folder / "forest.volans")
    secret = ("--passphrase-file", domain.vendor.folder.parent / "passphrase")
    domain.shell("admin").good("publisher", "answer", *files, "--dir", domain.vendor.folder, *secret)


def _ldapsearch(domain: Domain, words: list[str]) -> str:
    base = f"CN=Activation Objects,CN=Volact,CN=Services,{CONFIGURATION}"
    asked = [base if word.startswith("CN=") else word.replace("ad.example.com", DOMAIN) for word in words]
    environment = {**os.environ, **domain.forest.variables, "LDAPSASL_NOCANON": "on"}
    # What the guide's last commands removed is put back for a look.
    domain.activate("Head office")
    shown = str(domain.forest.net.run("admin", "ldapsearch", *asked, env=environment))
    domain.good("remove", "Head office")
    return shown
