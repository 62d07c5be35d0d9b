# SPDX-License-Identifier: Apache-2.0
"""A real OpenLDAP with TLS on a free port of the loopback: an authority, an administrator, computers with passwords.

``cn=config`` belongs to the administrator, so that the schema can be extended over LDAP.
"""

import datetime
import ipaddress
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from support.netns import end

ADDRESS = "127.0.0.1"
BASE = "dc=example,dc=test"
ADMINISTRATOR, PASSWORD = f"cn=admin,{BASE}", "Passw0rd.for.tests"
MACHINES, GROUP = 30, f"cn=kiosks,{BASE}"
USER = f"cn=anna,{BASE}"
START_SECONDS = 60.0
NOBODY = 65534


@dataclass
class Slapd:
    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> str:
        return f"{ADDRESS}:{self.port}"

    def options(self, user: str = ADMINISTRATOR, ca_file: Path | None = None) -> list[object]:
        """How a command reaches it as somebody."""
        where = ["--base", BASE, "--server", self.server, "--ca-file", ca_file or self.ca_file]
        return [*where, "--user", user, "--password-file", self.folder / "password"]

    def stop(self) -> None:
        end(self.process)


@contextmanager
def slapd(folder: Path, port: int) -> Iterator[Slapd]:
    """An empty directory with 30 computers, a user, and a group of two that may not read activation objects."""
    _make_certificates(folder)
    (folder / "db").mkdir()
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "slapd.conf").write_text(_CONFIG.format(folder=folder, base=BASE, admin=ADMINISTRATOR, group=GROUP))
    (folder / "first.ldif").write_text("\n\n".join(_entries()) + "\n")
    _run("slapadd", "-f", folder / "slapd.conf", "-l", folder / "first.ldif")
    up = Slapd(folder, port, _start(folder, port))
    try:
        _wait_until_up(up)
        yield up
    finally:
        up.stop()


def make_authority(folder: Path, name: str) -> tuple[Path, ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate authority of its own, in ``name``.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = _builder(subject, subject, key).add_extension(x509.BasicConstraints(True, None), critical=True)
    certificate = built.sign(key, hashes.SHA256())
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path, key, certificate


_CONFIG = """
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key

database config
rootdn "{admin}"

database mdb
suffix "{base}"
rootdn "{admin}"
rootpw Passw0rd.for.tests
directory {folder}/db
access to dn.subtree="ou=Activation Objects,ou=Volact,{base}" by group.exact="{group}" none by users read
access to * by users read by anonymous auth
"""


def _entries() -> list[str]:
    machines = [f"cn=pc{number:02d},{BASE}" for number in range(1, MACHINES + 1)]
    first = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example"]
    people = [
        f"dn: {dn}\nobjectClass: person\nsn: x\nuserPassword: {PASSWORD}\ncn: {dn.partition('=')[2].partition(',')[0]}"
        for dn in (*machines, USER)
    ]
    members = "\n".join(f"member: {dn}" for dn in machines[-2:])
    return [*first, *people, f"dn: {GROUP}\nobjectClass: groupOfNames\ncn: kiosks\n{members}"]


def _make_certificates(folder: Path) -> None:
    _, authority, certificate = make_authority(folder, "ca")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slapd")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))])
    built = _builder(subject, certificate.subject, key).add_extension(names, critical=False)
    (folder / "server.pem").write_bytes(built.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(pem)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
    )


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    with (folder / "slapd.log").open("ab") as log:
        return subprocess.Popen(
            [*_unprivileged(folder), _find("slapd"), "-d", "0", "-f", str(folder / "slapd.conf"),
             "-h", f"ldaps://{ADDRESS}:{port}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _unprivileged(folder: Path) -> Sequence[str]:
    if os.geteuid() != 0:
        return ()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for parent in folder.parents:  # pytest's folders are for their owner only
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(0o711)
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def _run(name: str, *words: object) -> None:
    done = subprocess.run([_find(name), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _find(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert path is not None, f"{name} is not installed"
    return path


def _wait_until_up(up: Slapd) -> None:
    import socket

    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((ADDRESS, up.port), 1).close()
        except OSError:
            log = (up.folder / "slapd.log").read_text()
            assert time.monotonic() < ends and up.process.poll() is None, log  # noqa: PT018 - one reason
            time.sleep(0.02)
        else:
            return
