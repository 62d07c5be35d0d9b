# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/{roots,phone-sites}.json, for other implementations of root roll-over and of telephone
activation of hosts and forests.

ECDSA signatures are randomised, so these files are made once and kept: without ``--renew`` this script leaves files
that exist as they are.  Each vector that must fail names its error; tests/unit/sealing/test_vectors_trust.py holds the
code to it.

    python tools/make_trust_vectors.py [--renew] [FOLDER]
"""

import argparse
import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.definition import Edition, EditionKind, ProductDefinition, ProductGroup
from volact.core.forest import Forest, ForestKind
from volact.core.issuer import RevocationStatus
from volact.core.phone_object import PhoneObject
from volact.core.phone_site import SiteInstallationId, SiteKind, SiteSubject, message, name_of_forest, name_of_host
from volact.core.policy import DAY, Policy
from volact.core.refusal import IssuerBusyError, Refusal, SignedRefusal
from volact.sealing import certificates, jws, phone_certificates, sign, verify
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.confirmation import PhoneKey
from volact.sealing.keys import LocalKey

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors"
NOW = 1_800_000_000
MADE, ROLLED = NOW - 100 * DAY, NOW - 10 * DAY
NAME, PRODUCT = "Acme Software", "acme-cad"
Vector = dict[str, Any]


def key(name: str) -> LocalKey:
    number = int.from_bytes(hashlib.sha256(f"volact trust vectors: {name}".encode()).digest(), "big")
    return LocalKey(ec.derive_private_key(number % (1 << 255) + 1, ec.SECP256R1()))


def root(name: str, at: int, publisher: str = NAME) -> Certified:
    one = key(name).private
    return Certified(certificates.make_root(one, publisher, at, 1), one)


def issuer(of: Certified, role: Role, *above: x509.Certificate, at: int = ROLLED) -> sign.Issuer:
    ca, own = key("issuing"), key(str(role))
    issuing = certificates.make_issuing(of, ca.public_key, NAME, at, 2)
    grant = Grant(NAME, frozenset(), certificates.key_thumbprint(own.public_key))
    leaf = certificates.make_end(
        Certified(issuing, ca.private), own.public_key, role, grant, NAME, at, 3, 5 * certificates.YEAR
    )
    return sign.Issuer(own, [leaf, issuing, *above], of.certificate)


OLD, NEW, THIRD = root("old root", MADE), root("new root", ROLLED), root("third root", ROLLED)
NEW_BY_OLD = certificates.make_cross(OLD, NEW.certificate, ROLLED, 4)
OLD_BY_NEW = certificates.make_cross(NEW, OLD.certificate, ROLLED, 5)
STRANGER = root("a stranger's root", MADE)
NEW_BY_STRANGER = certificates.make_cross(STRANGER, NEW.certificate, ROLLED, 6)


def definition(**changes: Any) -> ProductDefinition:
    made = ProductDefinition(
        product=PRODUCT, name="Acme CAD", version=2, publisher=NAME, root=fingerprint(OLD), url=None, issuer="x",
        groups=(ProductGroup(101, "clients"),),
        editions=(Edition("client", "Acme CAD", 101, EditionKind.CLIENT, Policy(), {}),), issued_at=NOW,
        roots=(der(OLD.certificate), der(NEW.certificate)), links=(der(NEW_BY_OLD), der(OLD_BY_NEW)),
    )  # fmt: skip
    return replace(made, **changes)


def roots_file() -> Vector:
    return {
        "spec": "docs/spec/certificates.md",
        "roots": {name: text(one.certificate) for name, one in (("old", OLD), ("new", NEW), ("stranger", STRANGER))},
        "tokens": list(_tokens()),
        "definitions": list(_definitions()),
    }


def _tokens() -> Iterator[Vector]:
    """Revocation statuses, each under one root and no definition."""
    good = issuer(NEW, Role.REVOCATION, NEW_BY_OLD)
    token = good.status(RevocationStatus(7, NOW))
    yield {"name": "new root, with the old one's cross certificate", "root": "old", "token": token}
    yield {"name": "the same under the new root", "root": "new", "token": token}
    yield {"name": "the old root's own", "root": "old", "token": issuer(OLD, Role.REVOCATION).status(_status())}
    for name, error, above in (
        ("a new root that the old one has not certified", "issuer-untrusted", ()),
        ("a cross certificate of another publisher", "issuer-untrusted", (NEW_BY_STRANGER,)),
        ("the wrong direction", "certificate-invalid", (OLD_BY_NEW,)),
        ("an issuing CA as cross certificate: its path length is 0", "issuer-untrusted", (good.chain[1],)),
    ):
        yield {
            "name": name, "root": "old", "error": error,
            "token": issuer(NEW, Role.REVOCATION, *above).status(_status()),
        }  # fmt: skip
    below = certificates.make_issuing(OLD, certificates.public_key_of(NEW.certificate), NAME, ROLLED, 8)
    yield {
        "name": "the old root certified an issuing CA with that key, no root", "root": "old",
        "error": "certificate-invalid", "token": issuer(NEW, Role.REVOCATION, below).status(_status()),
    }  # fmt: skip
    early = good.status(RevocationStatus(7, ROLLED - 2 * certificates.BACKDATE))
    yield {"name": "before the cross certificate began", "root": "old", "error": "certificate-invalid", "token": early}


def _status() -> RevocationStatus:
    return RevocationStatus(7, NOW)


def _definitions() -> Iterator[Vector]:
    signer = issuer(NEW, Role.DEFINITION, NEW_BY_OLD)
    good = signer.definition(definition())
    for known in ("old", "new"):
        yield {"name": f"to who knows the {known} root", "root": known, "token": good, "roots": 2}
    joined = {"roots": (*definition().roots, der(STRANGER.certificate))}
    yield {
        "name": "a stranger's root in the list is not reached", "root": "old", "roots": 2,
        "token": signer.definition(definition(**joined)),
    }  # fmt: skip
    for name, error, known, changes in (
        ("to who knows a stranger's root that is in the list", "issuer-untrusted", "stranger", joined),
        (
            "without the old root's certificate for the new one",
            "issuer-untrusted",
            "old",
            {"links": (der(OLD_BY_NEW),)},
        ),
        (
            "with a stranger's certificate for the new one",
            "issuer-untrusted",
            "old",
            {"links": (der(NEW_BY_STRANGER),)},
        ),
        ("with an issuing CA for a link", "issuer-untrusted", "old", {"links": (der(signer.chain[1]),)}),
        ("named by a root that is not reached", "issuer-untrusted", "new", {"root": fingerprint(STRANGER)}),
        ("older than demanded", "definition-too-old", "old", {"version": 1}),
        ("a root that is no certificate", "malformed", "old", {"roots": (b"no certificate",)}),
    ):
        made = signer.definition(definition(**changes))
        yield {"name": name, "root": known, "token": made, "min_version": 2, "error": error}


# --- phone-sites.json -----------------------------------------------------------------------------------------------

PHONE, OTHER_PHONE = (
    PhoneKey.derive(b"volact trust vectors: the phone key"),
    PhoneKey.derive(b"volact trust vectors: another's phone key"),
)
HOST_KEY, OTHER_KEY = key("host"), key("another host")
SUBJECT_ID, SERIAL = "74bd4d74d9f0a7f44769a6b042d03194", 0x1234
AD = Forest(ForestKind.AD, "c7593518-e6e5-447a-b026-36d400922049", "ad.example.test", domain_sid="S-1-5-21-1-2-3")
LDAP = Forest(ForestKind.LDAP, AD.id, "dc=example,dc=test", tls=bytes(range(32)))


def subject(**changes: Any) -> SiteSubject:
    return replace(SiteSubject(fingerprint(OLD), PRODUCT, 102, frozenset({101, 102}), SUBJECT_ID), **changes)


def shown(kind: SiteKind, name: bytes, **changes: Any) -> SiteInstallationId:
    return SiteInstallationId.new(kind, subject(**changes), name, NOW, SERIAL)


def host_name(of: LocalKey) -> bytes:
    return name_of_host(jws.thumbprint(jws.jwk_of(of.public_key)))


def phone_sites_file() -> Vector:
    return {
        "spec": "docs/spec/phone.md",
        "root": text(OLD.certificate),
        "phone_key": PHONE.public.hex(),
        "other_phone_key": OTHER_PHONE.public.hex(),
        "installations": list(_installations()),
        "objects": list(_objects()),
        "hosts": list(_hosts()),
    }


def _installations() -> Iterator[Vector]:
    for name, kind, of in (
        ("a KMS host", SiteKind.KMS_HOST, host_name(HOST_KEY)),
        ("a VM host", SiteKind.VM_HOST, host_name(HOST_KEY)),
        ("an Active Directory forest", SiteKind.FOREST, name_of_forest(AD)),
        ("an LDAP directory", SiteKind.FOREST, name_of_forest(LDAP)),
    ):
        one = shown(kind, of)
        yield {
            "name": name, "bytes": one.to_bytes().hex(), "installation_id": str(one), "reference": one.reference,
            "nonce": one.nonce.hex(), "message": message(subject(), one).hex(), "revocation_id": one.revocation_id,
            "ends_at": one.ends_at, "signature": PHONE.sign(message(subject(), one)).hex(),
        }  # fmt: skip


def an_object(forest: Forest = AD, signer: PhoneKey = PHONE, **changes: Any) -> PhoneObject:
    one, installation = subject(), shown(SiteKind.FOREST, name_of_forest(forest))
    made = PhoneObject(
        one.root, one.product, one.group, one.groups, one.key_id, forest, "Head office", installation,
        signer.sign(message(one, installation)),
    )  # fmt: skip
    return replace(made, **changes)


def _objects() -> Iterator[Vector]:
    for forest in (AD, LDAP):
        yield {"name": f"an object of {forest.name}", "token": an_object(forest).to_token()}
    yield {"name": "another name, which nobody confirmed", "token": an_object(name="Branch").to_token()}
    wrong = "confirmation-invalid"
    host = shown(SiteKind.KMS_HOST, host_name(HOST_KEY))
    for name, error, made in (
        ("another forest", wrong, an_object()),
        ("more product groups", wrong, an_object(groups=frozenset({101, 102, 103}))),
        ("another product", wrong, an_object(product="acme-cam")),
        ("another key", wrong, an_object(key_id="0" * 32)),
        ("another group of the key", wrong, an_object(group=101)),
        ("a later day", wrong, an_object(installation=replace(an_object().installation, day=NOW // DAY + 1))),
        ("what a host was confirmed", wrong, an_object(installation=host, signature=_signed(host))),
        ("another publisher's signature", wrong, an_object(signer=OTHER_PHONE)),
        ("another publisher's name", "issuer-untrusted", an_object(root=fingerprint(STRANGER))),
    ):
        bad = replace(made, forest=LDAP) if name == "another forest" else made
        yield {"name": name, "token": bad.to_token(), "error": error}
    yield {"name": "cut off", "token": an_object().to_token()[:-9], "error": "malformed"}


def _signed(installation: SiteInstallationId, signer: PhoneKey = PHONE, **changes: Any) -> bytes:
    return signer.sign(message(subject(**changes), installation))


def _refusal(of: LocalKey, certificate: x509.Certificate, at: int = NOW) -> str:
    signed = SignedRefusal("x", bytes(16), at, Refusal.of(IssuerBusyError))
    return sign.Issuer(of, [certificate], OLD.certificate).refusal(signed)


def _hosts() -> Iterator[Vector]:
    """Refusals that a host signs; the type that it may sign with least beside it."""
    for kind in (SiteKind.KMS_HOST, SiteKind.VM_HOST):
        one = shown(kind, host_name(HOST_KEY))
        good = phone_certificates.make(HOST_KEY, subject(), one, _signed(one), "kms1.vault")
        yield {"name": f"a {kind}", "token": _refusal(HOST_KEY, good)}
    one = shown(SiteKind.KMS_HOST, host_name(HOST_KEY))
    begins, ends = one.begins_at, one.ends_at
    good = phone_certificates.make(HOST_KEY, subject(), one, _signed(one), "kms1.vault")
    yield {"name": "on its last second", "token": _refusal(HOST_KEY, good, ends)}
    more = subject(groups=frozenset({101, 102, 103}))
    stolen = phone_certificates.make(OTHER_KEY, subject(), one, _signed(one), "kms2.vault")
    wider = phone_certificates.make(HOST_KEY, more, one, _signed(one), "kms1.vault")
    forged = phone_certificates.make(HOST_KEY, subject(), one, _signed(one, OTHER_PHONE), "kms1.vault")
    other = phone_certificates.make(HOST_KEY, subject(product="acme-cam"), one, _signed(one), "kms1.vault")
    invalid = "certificate-invalid"
    for name, error, of, certificate, at in (
        ("another host's confirmation", invalid, OTHER_KEY, stolen, NOW),
        ("more groups than were confirmed", invalid, HOST_KEY, wider, NOW),
        ("another product than was confirmed", invalid, HOST_KEY, other, NOW),
        ("confirmed by another publisher", "confirmation-invalid", HOST_KEY, forged, NOW),
        ("before its day", invalid, HOST_KEY, good, begins - 1),
        ("after its year", invalid, HOST_KEY, good, ends + 1),
    ):
        yield {"name": name, "token": _refusal(of, certificate, at), "error": error}
    yield {
        "name": "a publisher that has no phone key", "token": _refusal(HOST_KEY, good), "error": "issuer-untrusted",
        "no_phone_key": True,
    }  # fmt: skip
    status = sign.Issuer(HOST_KEY, [good], OLD.certificate).status(_status())
    yield {"name": "a status that a host signed", "typ": verify.STATUS, "token": status, "error": "role-not-allowed"}
    yield {
        "name": "revoked by its confirmation", "token": _refusal(HOST_KEY, good), "error": "issuer-key-revoked",
        "revoked": {one.revocation_id: NOW},
    }  # fmt: skip


def der(certificate: x509.Certificate) -> bytes:
    return certificates.der(certificate)


def text(certificate: x509.Certificate) -> str:
    return base64.b64encode(der(certificate)).decode()


def fingerprint(of: Certified) -> str:
    return certificates.fingerprint(of.certificate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--renew", action="store_true", help="make files anew that exist")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=FOLDER)
    args = parser.parse_args()
    for name, make in (("roots", roots_file), ("phone-sites", phone_sites_file)):
        file = args.folder / f"{name}.json"
        if args.renew or not file.exists():
            file.write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
