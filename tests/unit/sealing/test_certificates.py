# SPDX-License-Identifier: Apache-2.0
"""Certificates: what ours look like to anyone who reads X.509, and which foreign ones are read at all."""

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from volact.core.errors import MalformedError
from volact.sealing import certificates
from volact.sealing.certificates import BACKDATE, YEAR, Certified, Grant, Role
from volact.sealing.keys import LocalKey

NOW = 1_800_000_000
ROOT_KEY, ISSUING_KEY, HOST_KEY = (LocalKey.generate() for _ in range(3))
ROOT = certificates.make_root(ROOT_KEY.private, "Acme Software", NOW, 1)
ISSUING = certificates.make_issuing(Certified(ROOT, ROOT_KEY.private), ISSUING_KEY.public_key, "Acme Software", NOW, 2)
CA = Certified(ISSUING, ISSUING_KEY.private)
GRANT = Grant("Contoso", frozenset({102, 101}), certificates.key_thumbprint(HOST_KEY.public_key))


def host(now=NOW, **changes):
    arguments: dict[str, Any] = {"role": Role.KMS_HOST, "grant": GRANT, "common_name": "kms.contoso.test"} | changes
    return certificates.make_end(CA, HOST_KEY.public_key, now=now, serial=3, **arguments)


@pytest.mark.parametrize("role", Role)
def test_an_end_certificate_has_one_role_and_its_grant(role):
    certificate = host(role=role)
    assert certificates.role_of(certificate) is role
    assert certificates.grant_of(certificate) == GRANT
    assert certificates.load_der(certificates.der(certificate)) == certificate


def test_cas_carry_no_role_and_may_sign_only_what_is_below_them():
    for certificate, below in ((ROOT, 1), (ISSUING, 0)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, below)
        with pytest.raises(MalformedError):
            certificates.role_of(certificate)
        with pytest.raises(MalformedError):
            certificates.grant_of(certificate)


def test_an_end_certificate_is_no_ca_and_says_so_critically():
    extensions = host().extensions
    for kind in (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage):
        assert extensions.get_extension_for_class(kind).critical
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_oid(certificates.GRANT_OID).critical


def test_a_certificate_begins_an_hour_ago_and_lasts_a_year():
    certificate = host()
    assert certificate.not_valid_before_utc.timestamp() == NOW - BACKDATE
    assert certificate.not_valid_after_utc.timestamp() == NOW + YEAR


def test_a_certificate_never_outlives_its_ca():
    late = host(now=NOW + 10 * YEAR - 10)
    assert late.not_valid_after_utc == ISSUING.not_valid_after_utc


def test_the_grant_keeps_a_name_that_the_certificate_shortens():
    name = "The Greatly Extended Organisation of Names That Never End, and Its Heirs"
    certificate = host(grant=Grant(name, GRANT.groups, GRANT.descriptor_signer), common_name="k" * 100)
    assert certificates.grant_of(certificate).organisation == name
    assert len(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value) == 64


def test_a_nameless_organisation_has_a_certificate_too():
    assert certificates.grant_of(host(grant=Grant("", GRANT.groups, GRANT.descriptor_signer))).organisation == ""


def test_a_grant_is_written_in_one_way():
    assert Grant.from_der(GRANT.to_der()) == GRANT
    turned = Grant("Contoso", frozenset({101, 102}), GRANT.descriptor_signer)
    assert turned.to_der() == GRANT.to_der()


def test_a_fingerprint_is_the_one_that_openssl_prints():
    digest = hashes.Hash(hashes.SHA256())
    digest.update(certificates.der(ROOT))
    assert certificates.fingerprint(ROOT) == "sha256:" + digest.finalize().hex()


def test_a_key_is_named_by_its_public_half():
    spki = HOST_KEY.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    assert certificates.key_thumbprint(HOST_KEY.public_key) == digest.finalize()


def test_pem_holds_the_chain_in_order():
    leaf = host()
    assert x509.load_pem_x509_certificates(certificates.pem(leaf, ISSUING)) == [leaf, ISSUING]


def foreign(key, public_key=None):
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")]))
        .public_key(public_key or key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_a_key_of_another_kind_is_malformed(key):
    with pytest.raises(MalformedError, match="P-256"):
        certificates.load_der(certificates.der(foreign(key)))


def test_dates_that_no_calendar_has_are_malformed():
    """Reading them later, in the middle of explaining a refusal, would raise something else."""
    whole = certificates.der(foreign(ec.generate_private_key(ec.SECP256R1())))
    assert certificates.load_der(whole)
    for date in (b"261301000000Z", b"260001000000Z", b"260230000000Z", b"26010100000"):
        with pytest.raises(MalformedError):
            certificates.load_der(whole.replace(b"270101000000Z", date.ljust(13, b"Z")))
