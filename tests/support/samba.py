# SPDX-License-Identifier: Apache-2.0
"""A real Active Directory: Samba domain controllers in network namespaces, made once and copied for each use.

Made once a session, whatever number of test processes it has: the first controller provisioned, the second one joined
to it, machine accounts with their keytabs.  A use copies that (42 MB a controller) and starts what it needs.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.netns import Network, Shell, end, network
from support.processes import wait_for

DOMAIN, NETBIOS = "ad.example.test", "EXAMPLE"
REALM = DOMAIN.upper()
PARTITION = "DC=ad,DC=example,DC=test"
CONFIGURATION = f"CN=Configuration,{PARTITION}"
ADMINISTRATOR, PASSWORD = f"Administrator@{REALM}", "Passw0rd.for.tests"
USER, USER_PASSWORD = f"anna@{REALM}", "Us3r.for.tests"
MACHINES, GROUP = 30, "Kiosks"
SERVERS = ("kms1", "kms2")  # the machine accounts of two KMS hosts
START_SECONDS = 60.0
KRB5 = f"""[libdefaults]
 default_realm = {REALM}
 dns_lookup_realm = false
 dns_lookup_kdc = true
 dns_uri_lookup = false
 rdns = false
 dns_canonicalize_hostname = false
"""
NAMES = "".join(f"10.77.0.{n} dc{n}.{DOMAIN} dc{n}\n" for n in (1, 2))
NAMES += "".join(f"10.77.0.{21 + n} {name}.{DOMAIN} {name}\n" for n, name in enumerate(SERVERS))
RESOLV = f"search {DOMAIN}\nnameserver 10.77.0.1\noptions timeout:1 attempts:1\n"
RESOLV_BOTH = f"search {DOMAIN}\nnameserver 10.77.0.1\nnameserver 10.77.0.2\noptions timeout:1 attempts:1\n"


@dataclass
class Controller:
    """One domain controller: its folder, and its process while it runs."""

    number: int
    folder: Path
    net: Network
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def host(self) -> str:
        return f"dc{self.number}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "private" / "tls" / "ca.pem"

    @property
    def settings(self) -> Path:
        return self.folder / "etc" / "smb.conf"

    def start(self) -> None:
        words = ["samba", "-F", "--no-process-group", "-s", self.settings, "--debug-stdout", "-d1"]
        self.process = self.net.start(self.host, words, self.folder / "samba.log")
        self._wait_until_up()

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None

    def tool(self, *words: object) -> str:
        """samba-tool on this controller, over its own files or the network."""
        return self.net.run(self.host, "samba-tool", *words, "-s", self.settings)

    def _wait_until_up(self) -> None:
        """Until Kerberos, LDAP and LDAPS take connections."""
        script = (
            "import socket,sys,time\n"
            f"end = time.monotonic() + {START_SECONDS}\n"
            "for port in (53, 88, 389, 636):\n"
            "    while True:\n"
            "        try:\n"
            "            socket.create_connection((sys.argv[1], port), 1).close(); break\n"
            "        except OSError:\n"
            "            assert time.monotonic() < end, port\n"
            "            time.sleep(0.05)\n"
        )
        self.net.run(self.host, "python3", "-c", script, f"10.77.0.{self.number}")


@dataclass
class Forest:
    """A running forest and the network around it.  ``admin`` and ``member`` are shells on two of its computers."""

    folder: Path
    net: Network
    dc1: Controller
    dc2: Controller
    shells: list[Shell] = field(default_factory=list)

    @property
    def krb5(self) -> Path:
        return self.folder / "krb5.conf"

    @property
    def variables(self) -> dict[str, str]:
        return {"KRB5_CONFIG": str(self.krb5), "KRB5CCNAME": f"FILE:{self.folder}/ccache"}

    def shell(self, host: str) -> Shell:
        made = Shell(self.net, host, self.variables)
        self.shells.append(made)
        return made

    def keytab(self, account: str) -> Path:
        return self.folder / "keytabs" / f"{account}.keytab"

    def as_administrator(self, dc: int = 1) -> list[object]:
        """The options by which the administrator reaches a controller."""
        return self._as(ADMINISTRATOR, "administrator.password", dc)

    def as_user(self) -> list[object]:
        return self._as(USER, "user.password", 1)

    def close(self) -> None:
        for shell in self.shells:
            shell.close()
        self.dc1.stop()
        self.dc2.stop()

    def _as(self, user: str, file: str, dc: int) -> list[object]:
        server, ca_file = f"dc{dc}.{DOMAIN}", self.folder / f"dc{dc}" / "private" / "tls" / "ca.pem"
        password = self.folder / file
        return ["--server", server, "--user", user, "--password-file", password, "--ca-file", ca_file]


@contextmanager
def forest(made: Path, folder: Path, hosts: Sequence[tuple[str, int]] = ()) -> Iterator[Forest]:
    """A copy of the forest that :func:`make_forest` made, the first controller running.  ``hosts``: computers."""
    for name in ("dc1", "dc2", "keytabs"):
        subprocess.run(["cp", "-a", made / name, folder / name], check=True)  # sockets too, which shutil does not copy
    for path in folder.glob("dc*/etc/smb.conf"):
        path.write_text(path.read_text().replace(str(made), str(folder)))
    _write_secrets(folder)
    with network() as net:
        for number in (1, 2):
            net.add(f"dc{number}", number, f"search {DOMAIN}\nnameserver 10.77.0.{number}\n", NAMES)
        for host, last in hosts:
            net.add(host, last, RESOLV_BOTH if host == "member" else RESOLV, NAMES)
        up = Forest(folder, net, Controller(1, folder / "dc1", net), Controller(2, folder / "dc2", net))
        try:
            up.dc1.start()
            yield up
        finally:
            up.close()


def make_forest(folder: Path) -> Path:
    """The forest to copy; made by whichever process comes first, while the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "forest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _make(folder)
            (folder / "ready").touch()
    return folder


def _make(folder: Path) -> None:
    _write_secrets(folder)
    with network() as net:
        for number in (1, 2):
            net.add(f"dc{number}", number, f"search {DOMAIN}\nnameserver 10.77.0.1\n", NAMES)
        provision(net, folder / "dc1")
        dc1, dc2 = Controller(1, folder / "dc1", net), Controller(2, folder / "dc2", net)
        dc1.start()
        try:
            _make_accounts(dc1)
            _join(dc2)
            _register(dc1, dc2)
            dc1.tool("domain", "exportkeytab", folder / "all.keytab")
            split_keytab(folder / "all.keytab", folder / "keytabs")
        finally:
            dc2.stop()
            dc1.stop()


def provision(net: Network, folder: Path, *more: str, host: str = "dc1") -> None:
    """A new forest; ``more`` options change which."""
    net.run(
        host, "samba-tool", "domain", "provision", f"--targetdir={folder}", f"--realm={REALM}", f"--domain={NETBIOS}",
        "--server-role=dc", "--dns-backend=SAMBA_INTERNAL", f"--adminpass={PASSWORD}", f"--host-name={host}",
        f"--host-ip=10.77.0.{host[2:]}", "--option=interfaces=lo eth0", "--option=bind interfaces only=yes",
        "--option=dsdb:schema update allowed=yes", "--option=log file=/dev/null", "--base-schema=2019",
        "--function-level=2016", "--option=ad dc functional level = 2016", *more,
    )  # fmt: skip
    _finish_settings(folder)


def _finish_settings(folder: Path) -> None:
    """Every path a controller uses lies in its own folder; and nothing is asked outside of the network."""
    path = folder / "etc" / "smb.conf"
    kept = [line for line in path.read_text().splitlines() if "dns forwarder" not in line]
    own = [f"{name} = {folder}/run" for name in ("pid directory", "ncalrpc dir", "winbindd socket directory")]
    own += [f"ntp signd socket directory = {folder}/ntp", "dsdb:schema update allowed = yes"]
    place = kept.index("[global]")
    path.write_text("\n".join([*kept[: place + 1], *(f"\t{line}" for line in own), *kept[place + 1 :], ""]))
    (folder / "run").mkdir(exist_ok=True)


def _join(dc2: Controller) -> None:
    dc2.net.run(
        dc2.host, "samba-tool", "domain", "join", DOMAIN, "DC", f"--server=dc1.{DOMAIN}",
        f"-UAdministrator%{PASSWORD}", f"--targetdir={dc2.folder}", "--dns-backend=SAMBA_INTERNAL",
        "--option=netbios name=DC2", "--option=interfaces=lo eth0", "--option=bind interfaces only=yes",
        "--option=ad dc functional level = 2016", "--option=log file=/dev/null",
        env={**os.environ, "KRB5_CONFIG": str(dc2.folder.parent / "krb5.conf")},
    )  # fmt: skip
    _finish_settings(dc2.folder)


def _register(dc1: Controller, dc2: Controller) -> None:
    """Let the second controller register its service's name, and the first one have it to issue tickets for."""
    dc2.start()
    database = dc2.folder / "private" / "sam.ldb"
    wait_for(lambda: "ldap/dc2" in dc2.tool("spn", "list", "DC2$", "-H", database), START_SECONDS)
    replicate(dc1, 2, 1, PARTITION)


def replicate(dc: Controller, source: int, target: int, *partitions: str) -> None:
    """Now, not at the next round."""
    for partition in partitions:
        names = (f"dc{target}.{DOMAIN}", f"dc{source}.{DOMAIN}", partition)
        dc.tool("drs", "replicate", *names, f"-UAdministrator%{PASSWORD}")


def _make_accounts(dc: Controller) -> None:
    """In one process, by Samba's own library: 30 calls of samba-tool take a minute."""
    names = [*(f"pc{number:02d}" for number in range(1, MACHINES + 1)), *SERVERS]
    script = f"""
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
lp = LoadParm(); lp.load({str(dc.settings)!r})
db = SamDB(url={str(dc.folder / "private" / "sam.ldb")!r}, session_info=system_session(), lp=lp)
db.transaction_start()
for name in {names!r}:
    db.newcomputer(name)
    db.setpassword(f"(sAMAccountName={{name}}$)", f"Machine.{{name}}.for.tests", False, None)
    db.toggle_userAccountFlags(f"(sAMAccountName={{name}}$)", 0x1000, on=True, strict=False)  # a workstation's
db.newuser("anna", {USER_PASSWORD!r})
db.newgroup({GROUP!r})
db.add_remove_group_members({GROUP!r}, ["pc29$", "pc30$"], add_members_operation=True)
db.transaction_commit()
"""
    subprocess.run(["/usr/bin/python3", "-c", script], check=True, capture_output=True, text=True)


def _write_secrets(folder: Path) -> None:
    (folder / "krb5.conf").write_text(KRB5)
    (folder / "administrator.password").write_text(f"{PASSWORD}\n")
    (folder / "user.password").write_text(f"{USER_PASSWORD}\n")


def split_keytab(path: Path, folder: Path) -> None:
    """One keytab for each computer's account, from one that has all."""
    folder.mkdir()
    data, at = path.read_bytes(), 2
    kept: dict[str, bytes] = {}
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        entry = data[at : at + 4 + abs(size)]
        at += len(entry)
        if size > 0:
            (realm,) = struct.unpack_from(">H", entry, 6)
            (length,) = struct.unpack_from(">H", entry, 8 + realm)
            name = entry[10 + realm : 10 + realm + length].decode()
            if struct.unpack_from(">H", entry, 4) == (1,) and name.endswith("$"):
                account = name[:-1].lower()
                kept[account] = kept.get(account, b"\x05\x02") + entry
    for account, content in kept.items():
        (folder / f"{account}.keytab").write_bytes(content)
