# SPDX-License-Identifier: Apache-2.0
"""KMS hosts publish in Active Directory's own DNS, signed by their machine accounts, and share one name."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import wait_for
from support.samba import DOMAIN

pytestmark = pytest.mark.needs("samba", "netns", "bonsai", "gssapi", "dig")

Domain = Any
NAME = f"_volact._tcp.{DOMAIN}"


@pytest.fixture(scope="module")
def domain(open_domain: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with open_domain(tmp_path_factory.mktemp("dns")) as domain:
        yield domain


def records(domain: Domain) -> list[str]:
    words = ["dig", "+short", "@10.77.0.1", "SRV", NAME]
    return sorted(domain.forest.net.run("member", *words).split("\n")[:-1])


def publish_by(domain: Domain, name: str, *options: object, keytab: Path | None = None) -> Any:
    """What the host's administrator types: publish as this computer's account, then now."""
    folder, shell = domain.folder / name, domain.shell(name)
    if not folder.exists():
        shell.good("host", "init", "--dir", folder)
    signed = ("--kerberos", keytab or domain.forest.keytab(name))
    target = ("--target", f"{name}.{DOMAIN}", "--server", f"dc1.{DOMAIN}")
    shell.good("host", "dns", "add", f"{DOMAIN},10,60", *target, *signed, "--dir", folder)
    return shell.volact("host", "dns", "publish", "--dir", folder)


def test_two_hosts_share_a_name_once_the_first_one_s_account_lets_the_other(domain: Domain) -> None:
    first = publish_by(domain, "kms1")
    assert first.code == 0, first.err
    assert records(domain) == [f"10 60 1688 kms1.{DOMAIN}."]
    refused = publish_by(domain, "kms2")
    assert refused.code == 1
    assert f"did not let Kerberos, {domain.forest.keytab('kms2')} change _volact._tcp" in refused.errors[0]
    assert "volact directory share-dns" in refused.hints[0]
    assert records(domain) == [f"10 60 1688 kms1.{DOMAIN}."], "nothing was changed"
    elsewhere = domain.directory("share-dns", "kms2$", "--zone", "other.test", "--json")
    assert elsewhere.json["error"]["code"] == "dns-name-missing"
    shared = domain.directory("share-dns", "kms2$")
    assert shared.code == 0, shared.err
    assert publish_by(domain, "kms2").code == 0
    both = [f"10 60 1688 kms{n}.{DOMAIN}." for n in (1, 2)]
    assert records(domain) == both
    # Each withdraws its own and nobody else's.
    domain.shell("kms1").good("host", "dns", "withdraw", "--dir", domain.folder / "kms1")
    assert records(domain) == both[1:]
    domain.shell("kms2").good("host", "dns", "withdraw", "--dir", domain.folder / "kms2")
    wait_for(lambda: records(domain) == [])


def test_an_update_that_nobody_signed_is_refused_and_a_keytab_that_is_missing_named(domain: Domain) -> None:
    folder, shell = domain.folder / "unsigned", domain.shell("kms1")
    shell.good("host", "init", "--dir", folder)
    words = ("--server", f"dc1.{DOMAIN}", "--target", f"kms1.{DOMAIN}", "--dir", folder)
    shell.good("host", "dns", "add", DOMAIN, *words)
    unsigned = shell.volact("host", "dns", "publish", "--dir", folder)
    assert "refused to change zone ad.example.test without a TSIG key" in unsigned.errors[0]
    missing = publish_by(domain, "kms2", keytab=domain.folder / "none.keytab")
    assert "did not agree on a Kerberos key" in missing.errors[0]


def test_a_clock_that_is_wrong_is_told_by_its_name(domain: Domain) -> None:
    """The clock of dnspython alone, twenty minutes ahead: that of Kerberos is not Python's."""
    told = domain.python(
        f"""
import os, time
from pathlib import Path
real = time.time
time.time = lambda: real() + 1200
os.environ |= {domain.forest.variables!r}
from volact.core.errors import VolactError
from volact.host import dns
where = dns.DnsDomain("{DOMAIN}", server="dc1.{DOMAIN}", keytab=Path("{domain.forest.keytab("kms1")}"))
try:
    dns.publish(where, "kms1.{DOMAIN}", 1688)
except VolactError as exc:
    print(exc.code)
""",
        "kms1",
    )
    assert told.strip() == "dns-update-clock"


def test_a_member_finds_the_host_that_published_itself(domain: Domain) -> None:
    assert publish_by(domain, "kms1").code == 0
    looked = subprocess.run(
        domain.forest.net.command("member", ["dig", "+short", "SRV", NAME]), capture_output=True, text=True, check=True
    )
    assert f"kms1.{DOMAIN}" in looked.stdout
