# SPDX-License-Identifier: Apache-2.0
"""A licence is verified by libraries that nobody here wrote, and refused by them after one byte changed.

npm ``jose`` with Node's X.509, ``openssl verify``, and ``joserfc`` in both directions.
"""

import base64
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from joserfc import jws as stock
from joserfc.errors import BadSignatureError, ExceededSizeError, JoseError
from joserfc.jwk import ECKey

from volact.core.encoding import b64decode, b64encode
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.sealing import certificates, jws, proof, sign, verify
from volact.sealing.certificates import ROLE_OIDS, Role
from volact.sealing.keys import LocalKey
from volact.testing import Site
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP

SCRIPT = Path(__file__).with_name("verify_licence.mjs")
MACHINE = LocalKey.generate()
MACHINE_ID = jws.thumbprint(jws.jwk_of(MACHINE.public_key))


@dataclass(frozen=True)
class Issued:
    """A KMS host's licence as files that other programs read."""

    token: str
    site: Site
    folder: Path

    @property
    def parts(self) -> list[str]:
        return self.token.split(".")

    def changed(self, part: int, place: int) -> str:
        """The token with one bit changed at a relative place of one of its parts' bytes."""
        parts = self.parts
        data = bytearray(b64decode(parts[part]))
        data[len(data) * place // 10] ^= 1
        parts[part] = b64encode(bytes(data))
        return ".".join(parts)

    @property
    def chain(self) -> list[bytes]:
        return list(jws.parse(self.token, verify.LICENCE).x5c)


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    site = Site.make()
    host = site.kms_host()
    licence = Licence(
        issuer=host.opening.id,
        machine=MACHINE_ID,
        product="acme-cad",
        edition="client",
        group=CLIENT_GROUP,
        channel=Channel.VOLUME,
        key_id="0" * 32,
        nonce=bytes(16),
        issued_at=site.clock(),
        expires_at=site.clock() + 180 * 86400,
        fingerprint=Fingerprint({Trait.MAC: bytes(16)}),
        organisation="Contoso",
        count=25,
    )
    folder = tmp_path_factory.mktemp("interop")
    (folder / "root.pem").write_bytes(certificates.pem(site.publisher.root))
    return Issued(host.issuer.licence(licence), site, folder)


class Registry(stock.JWSRegistry):
    """Certificates need more room than the 512 bytes that joserfc gives a header by default."""

    max_header_length = 8192


REGISTRY = Registry(algorithms=["ES256"])
CHANGES = [(part, place) for part in range(3) for place in range(0, 10, 3)]


@pytest.mark.needs("node", "jose")
class TestJose:
    @pytest.fixture
    def run(self, issued, node_folder, tmp_path):
        script = node_folder / f"{os.getpid()}-{SCRIPT.name}"  # beside the packages that it imports
        shutil.copy(SCRIPT, script)

        def run(token, **expected):
            asked = {
                "at": issued.site.clock(),
                "product": "acme-cad",
                "machine": MACHINE_ID.hex(),
                "group": CLIENT_GROUP,
                "nonce": b64encode(bytes(16)),
                "extendedKeyUsage": ROLE_OIDS[Role.KMS_HOST].dotted_string,
            }
            (tmp_path / "licence").write_text(token)
            (tmp_path / "expected.json").write_text(json.dumps(asked | expected))
            return subprocess.run(
                ["node", script, tmp_path / "licence", issued.folder / "root.pem", tmp_path / "expected.json"],
                capture_output=True,
                text=True,
                check=False,
            )

        yield run
        script.unlink()

    def test_accepts_the_licence(self, run, issued):
        done = run(issued.token)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["volact"]["count"] == 25

    @pytest.mark.parametrize(("part", "place"), CHANGES)
    def test_refuses_it_after_one_bit_changed(self, run, issued, part, place):
        assert run(issued.changed(part, place)).returncode != 0

    @pytest.mark.parametrize(
        ("expected", "why"),
        [
            ({"product": "acme-cam"}, "another product"),
            ({"machine": "00" * 32}, "another machine"),
            ({"group": 102}, "another product group"),
            ({"nonce": b64encode(b"\1" * 16)}, "an answer to another request"),
            ({"at": 2_000_000_000}, "the lease is over"),
            ({"extendedKeyUsage": ROLE_OIDS[Role.VM_HOST].dotted_string}, "not a KMS host's certificate and channel"),
        ],
    )
    def test_refuses_what_does_not_fit(self, run, issued, expected, why):
        done = run(issued.token, **expected)
        assert done.returncode != 0
        assert why in done.stderr

    def test_refuses_a_product_group_that_the_certificate_does_not_grant(self, run, issued):
        host = issued.site.kms_host(groups=[SERVER_GROUP])
        licence = Licence.from_claim(jws.parse(issued.token, verify.LICENCE).claims())
        done = run(host.issuer.licence(licence))
        assert done.returncode != 0
        assert "no grant for the product group" in done.stderr

    def test_refuses_another_publishers_root(self, run, issued):
        other = Site.make().publisher.root
        (issued.folder / "root.pem").write_bytes(certificates.pem(other))
        try:
            done = run(issued.token)
        finally:
            (issued.folder / "root.pem").write_bytes(certificates.pem(issued.site.publisher.root))
        assert done.returncode != 0
        assert "does not lead to the root" in done.stderr


@pytest.mark.needs("openssl")
class TestOpenssl:
    def check(self, tmp_path, issued, leaf, issuing):
        """``openssl verify`` at the licence's own time; OpenSSL calls P-256 below level 2 nothing worse than fine."""
        for name, der in (("leaf", leaf), ("issuing", issuing)):
            body = base64.encodebytes(der).decode()
            (tmp_path / f"{name}.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
        return subprocess.run(
            [
                "openssl",
                "verify",
                "-x509_strict",
                "-purpose",
                "any",
                "-attime",
                str(issued.site.clock()),
                "-CAfile",
                issued.folder / "root.pem",
                "-untrusted",
                tmp_path / "issuing.pem",
                tmp_path / "leaf.pem",
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    def test_accepts_the_licences_chain(self, tmp_path, issued):
        done = self.check(tmp_path, issued, *issued.chain)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("leaf.pem: OK")

    @pytest.mark.parametrize("certificate", ["leaf", "issuing"])
    @pytest.mark.parametrize("place", range(1, 10))
    def test_refuses_it_after_one_bit_changed(self, tmp_path, issued, certificate, place):
        chain = dict(zip(("leaf", "issuing"), issued.chain, strict=True))
        data = bytearray(chain[certificate])
        data[len(data) * place // 10] ^= 1
        chain[certificate] = bytes(data)
        assert self.check(tmp_path, issued, **chain).returncode != 0

    def test_prints_the_fingerprint_that_products_embed(self, issued):
        done = subprocess.run(
            ["openssl", "x509", "-in", issued.folder / "root.pem", "-noout", "-fingerprint", "-sha256"],
            capture_output=True,
            text=True,
            check=True,
        )
        printed = done.stdout.strip().split("=")[1].replace(":", "").lower()
        assert f"sha256:{printed}" == issued.site.publisher.fingerprint

    def test_reads_an_encrypted_key_file(self, tmp_path):
        from volact.sealing import keys

        (tmp_path / "key.pem").write_bytes(keys.private_pem(MACHINE.private, b"correct horse"))
        done = subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / "key.pem", "-passin", "pass:correct horse", "-noout", "-text"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "prime256v1" in done.stdout


def stock_key(certificate_der: bytes) -> ECKey:
    certificate = x509.load_der_x509_certificate(certificate_der)
    return ECKey.import_key(dict(jws.jwk_of(certificates.public_key_of(certificate))))


class TestJoserfc:
    def test_verifies_what_we_sign(self, issued):
        done = stock.deserialize_compact(issued.token, stock_key(issued.chain[0]), ["ES256"], registry=REGISTRY)
        assert done.headers()["typ"] == verify.LICENCE
        assert done.payload == jws.parse(issued.token, verify.LICENCE).payload

    @pytest.mark.parametrize(("part", "place"), CHANGES)
    def test_refuses_it_after_one_bit_changed(self, issued, part, place):
        with pytest.raises((BadSignatureError, JoseError, ValueError)) as caught:
            stock.deserialize_compact(
                issued.changed(part, place), stock_key(issued.chain[0]), ["ES256"], registry=REGISTRY
            )
        assert not isinstance(caught.value, ExceededSizeError)

    def test_signs_what_we_verify(self):
        header = {"alg": "ES256", "typ": proof.REQUEST, "jwk": jws.jwk_of(MACHINE.public_key)}
        key = ECKey.import_key(MACHINE.private)
        token = stock.serialize_compact(header, b'{"a":1}', key, ["ES256"])
        parsed = jws.parse(token, proof.REQUEST)
        parsed.verify(MACHINE.public_key)
        assert parsed.claims().integer("a") == 1

    def test_agrees_on_a_machines_id(self):
        assert b64decode(ECKey.import_key(MACHINE.private).thumbprint()) == MACHINE_ID

    def test_refuses_our_request_under_another_key(self):
        token = jws.sign(sign.MachineSigner(MACHINE)._header, {"a": 1}, LocalKey.generate())
        with pytest.raises(BadSignatureError):
            stock.deserialize_compact(token, ECKey.import_key(MACHINE.private), ["ES256"], registry=REGISTRY)
