# SPDX-License-Identifier: Apache-2.0
"""A branch office of a domain: a read-only domain controller, and a computer that reaches no other one.

The office has a site of its own in Active Directory; the controller's SRV records stand under the site's name alone,
as Windows registers them for read-only controllers.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from support.netns import Shell, ip
from support.samba import (
    ADMINISTRATOR,
    CONFIGURATION,
    DOMAIN,
    KRB5,
    NAMES,
    PARTITION,
    PASSWORD,
    REALM,
    Controller,
    Forest,
    _finish_settings,
    replicate,
)

SITE, HOST, ADDRESS = "Branch", "dc3", "10.77.0.3"
MAY_BE_COPIED = "Allowed RODC Password Replication Group"
OWN, HEAD_OFFICE = "10.77.0.32", "10.77.0.1"
NAME = f"{HOST}.{DOMAIN}"
AS_ADMINISTRATOR = f"-UAdministrator%{PASSWORD}"
HOSTS = f"{NAMES}{ADDRESS} {NAME} {HOST}\n"
RESOLV = f"search {DOMAIN}\nnameserver {ADDRESS}\noptions timeout:1 attempts:1\n"
ZONES = (f"DC=DomainDnsZones,{PARTITION}", f"DC=ForestDnsZones,{PARTITION}")


@dataclass
class Branch:
    """``controller`` runs; ``shell`` is the computer behind it."""

    forest: Forest
    controller: Controller
    shell: Shell

    def add_subnets(self) -> None:
        """The computer's own address for its site, and the network around it for the head office's."""
        for subnet, site in ((f"{OWN}/32", SITE), ("10.77.0.0/24", "Default-First-Site-Name")):
            database = self.forest.dc1.folder / "private" / "sam.ldb"
            self.forest.dc1.tool("sites", "subnet", "create", subnet, site, "-H", database)

    @contextmanager
    def line(self) -> Iterator[None]:
        """While the computer reaches the head office, too."""
        host = self.forest.net.name("branch")
        ip("-n", host, "route", "del", "unreachable", f"{HEAD_OFFICE}/32")
        try:
            yield
        finally:
            ip("-n", host, "route", "add", "unreachable", f"{HEAD_OFFICE}/32")

    def replicate(self) -> None:
        """The controller asks the writable one for what is new."""
        for partition in (f"CN=Schema,{CONFIGURATION}", CONFIGURATION):
            replicate(self.forest.dc1, 1, 3, partition)

    def copy(self) -> None:
        """The same by samba-tool itself.  A read-only controller asks for the attributes that it may hold; the service
        of Samba 4.22 names those that a schema was extended by with numbers that no controller knows, and gets none of
        them, while samba-tool names them right, as Windows does."""
        self.replicate()  # brings the numbers of a new schema, without which the tool does not begin
        for partition in (f"CN=Schema,{CONFIGURATION}", CONFIGURATION):
            words = (NAME, f"dc1.{DOMAIN}", partition, "--local", "--full-sync")
            self.controller.tool("drs", "replicate", *words)

    def as_administrator(self) -> list[object]:
        """The options of who is at the office with a ticket: passwords of administrators are not kept there."""
        subprocess.run(
            self.forest.net.command("admin", ["kinit", ADMINISTRATOR]),
            input=f"{PASSWORD}\n", text=True, check=True, capture_output=True,
            env={**os.environ, **self.forest.variables},
        )  # fmt: skip
        return ["--server", NAME]

    def trust(self, *accounts: str) -> None:
        """Copy the keys of accounts to the office, so that their tickets are issued there; by the group that lets it,
        without which a writable controller takes none of those tickets."""
        members = ",".join(f"{name}$" for name in accounts)
        database = self.forest.dc1.folder / "private" / "sam.ldb"
        self.forest.dc1.tool("group", "addmembers", MAY_BE_COPIED, members, "-H", database)
        words = ("rodc", "preload", *(f"{name}$" for name in accounts), f"--server=dc1.{DOMAIN}", AS_ADMINISTRATOR)
        self.controller.tool(*words)


def open_branch(forest: Forest) -> Branch:
    """Join the controller, publish it under its site, start it; the forest's first controller runs."""
    forest.net.add(HOST, 3, f"search {DOMAIN}\nnameserver 10.77.0.1\n", HOSTS)
    forest.net.add("branch", 32, RESOLV, HOSTS)
    for other in (HEAD_OFFICE, "10.77.0.2"):
        ip("-n", forest.net.name("branch"), "route", "add", "unreachable", f"{other}/32")
    controller = Controller(3, forest.folder / HOST, forest.net)
    forest.dc1.tool("sites", "create", SITE, "-H", forest.dc1.folder / "private" / "sam.ldb")
    _join(forest, controller)
    _publish(forest)
    controller.start()
    for partition in ZONES:
        replicate(forest.dc1, 1, 3, partition)
    return Branch(forest, controller, _shell(forest))


def _join(forest: Forest, controller: Controller) -> None:
    controller.net.run(
        HOST, "samba-tool", "domain", "join", DOMAIN, "RODC", f"--server=dc1.{DOMAIN}", AS_ADMINISTRATOR,
        f"--targetdir={controller.folder}", f"--site={SITE}", "--dns-backend=SAMBA_INTERNAL",
        "--option=netbios name=DC3", "--option=interfaces=lo eth0", "--option=bind interfaces only=yes",
        "--option=ad dc functional level = 2016", "--option=log file=/dev/null",
        env={**os.environ, "KRB5_CONFIG": str(forest.krb5)},
    )  # fmt: skip
    _finish_settings(controller.folder)


def _publish(forest: Forest) -> None:
    """Its records, which Windows's netlogon has a writable controller register; Samba's does not do so yet."""
    record = ("SRV", f"{NAME} 389 0 100", AS_ADMINISTRATOR)
    forest.dc1.tool("dns", "add", f"dc1.{DOMAIN}", f"_msdcs.{DOMAIN}", f"_ldap._tcp.{SITE}._sites.dc", *record)


def _shell(forest: Forest) -> Shell:
    """Its Kerberos is the office's, as SSSD and Windows find it by site."""
    settings = forest.folder / "branch.krb5.conf"
    own = KRB5.replace("dns_lookup_kdc = true", "dns_lookup_kdc = false")
    settings.write_text(f"{own}[realms]\n {REALM} = {{\n  kdc = {ADDRESS}\n }}\n")
    variables = {"KRB5_CONFIG": str(settings), "KRB5CCNAME": f"FILE:{forest.folder}/branch.ccache"}
    made = Shell(forest.net, "branch", variables)
    forest.shells.append(made)
    return made
