# SPDX-License-Identifier: Apache-2.0
"""Attacks on the roll-over of roots: what a revoked root, or the key of definitions, could make of itself."""

import datetime
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from volact.core.issuer import RevocationStatus
from volact.publisher.folder.hardware import KeyMaker, load
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.folder.rotation import rotate_root
from volact.sealing import certificates, jws, verify
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.keys import LocalKey
from volact.sealing.sign import Issuer
from volact.sealing.verify import RevokedError, Trust, UntrustedRootError, verify_definition, verify_status

PASSPHRASE, DAY = b"a passphrase for tests", 86400


class Thief:
    """Has the publisher's first root key: a root of his own that it certifies at ``now``, and all below that."""

    def __init__(self, site, root_key, now: int) -> None:
        self.key, self.now = LocalKey.generate(), now
        self.old = Certified(site.folder.roots[0], root_key.private)
        self.root = certificates.make_root(self.key.private, site.folder.name, now, 7)
        self.link = certificates.make_cross(self.old, self.root, now, 8)
        self.ca = certificates.make_issuing(
            Certified(self.root, self.key.private), self.key.public_key, site.folder.name, now, 9
        )

    def issuer(self, role: Role, *above: x509.Certificate) -> Issuer:
        grant = Grant("Acme Software", frozenset(), certificates.key_thumbprint(self.key.public_key))
        leaf = certificates.make_end(
            Certified(self.ca, self.key.private), self.key.public_key, role, grant, "x", self.now, 4
        )
        return Issuer(self.key, [leaf, self.ca, *above], self.root)

    def status(self, epoch: int) -> str:
        issuer = self.issuer(Role.REVOCATION, self.link)
        header = jws.header(verify.STATUS, x5c=tuple(map(certificates.der, issuer.chain)))
        claims = {"iat": self.now, "volact": {"v": 1, "epoch": epoch, "revoked": {}}}
        return jws.sign(header, claims, self.key)


def roll_over(site):
    root_key = load(site.folder.root_key, PASSPHRASE)
    rotate_root(site.folder, root_key, KeyMaker(PASSPHRASE), site.clock(), "tester")
    site.publisher.folder = PublisherFolder.open(site.folder.path)
    site.keys = site.folder.open_keys(PASSPHRASE)
    return root_key


def revoked(site, at: int) -> RevocationStatus:
    old = certificates.key_thumbprint(certificates.public_key_of(site.folder.roots[0])).hex()
    return RevocationStatus(5, at, {old: at})


def definition(site):
    return verify_definition(site.publisher.store.version("acme-cad", None).token, site.folder.fingerprint).definition


def test_a_revoked_root_certifies_no_further_root(site):
    root_key = roll_over(site)
    rolled_over, retired = site.clock(), site.clock() + DAY
    thief = Thief(site, root_key, retired + DAY)
    trust = Trust(site.folder.roots[0], revoked(site, retired))
    with pytest.raises(RevokedError):
        verify_status(thief.status(99), trust)
    assert verify_status(thief.status(99), Trust(site.folder.roots[0])).epoch == 99  # nothing else is wrong with it
    # what it certified before it was revoked stays good: its successor, for products that know no other root
    claims = {"iat": retired + DAY, "volact": {"v": 1, "epoch": 9, "revoked": {}}}
    issuer = site.keys.revocation
    assert rolled_over < retired
    token = jws.sign(jws.header(verify.STATUS, x5c=tuple(map(certificates.der, issuer.chain))), claims, issuer.key)
    assert verify_status(token, trust).epoch == 9


def test_a_definition_brings_no_root_that_a_revoked_one_certified(site):
    root_key = roll_over(site)
    site.clock.now += 2 * DAY
    thief = Thief(site, root_key, site.clock())
    status = revoked(site, site.clock() - DAY)
    old = site.folder.roots[0]
    roots, links = (certificates.der(old), certificates.der(thief.root)), (certificates.der(thief.link),)
    said = replace(definition(site), roots=roots, links=links, version=9, issued_at=site.clock())
    # its own root at the end of the chain; the embedded one there; the cross certificate in the chain alone
    for above, claims in (
        ((thief.root,), said),
        ((old,), said),
        ((thief.link, old), replace(said, roots=(), links=())),
    ):
        issuer = thief.issuer(Role.DEFINITION, *above)
        header = jws.header(verify.DEFINITION, x5c=tuple(map(certificates.der, issuer.chain)))
        token = jws.sign(header, {"iat": claims.issued_at, **claims.to_claim()}, thief.key)
        made = verify_definition(token, site.folder.fingerprint)
        with pytest.raises(RevokedError):
            made.check_status(status)


def test_products_of_the_retired_root_take_definitions_under_its_successor(site):
    roll_over(site)
    site.clock.now += 2 * DAY
    roots, links = (tuple(map(certificates.der, some)) for some in (site.folder.roots, site.folder.links))
    said = replace(definition(site), roots=roots, links=links, version=9, issued_at=site.clock())
    for root in (site.folder.fingerprint, site.folder.newest_fingerprint):
        made = verify_definition(site.keys.definition.definition(said), root)
        made.check_status(revoked(site, site.clock() - DAY))
        assert len(made.trust.roots) == 2


def test_the_key_of_definitions_makes_no_root_last_longer(site):
    roll_over(site)
    new, root_key = site.folder.roots[1], LocalKey.generate()
    longer = (
        x509.CertificateBuilder()
        .subject_name(new.subject).issuer_name(new.subject)
        .public_key(new.public_key()).serial_number(1)
        .not_valid_before(new.not_valid_before_utc)
        .not_valid_after(new.not_valid_after_utc + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key.private, hashes.SHA256())
    )  # fmt: skip
    said = replace(
        definition(site), issued_at=site.clock(), links=tuple(map(certificates.der, site.folder.links)),
        roots=tuple(map(certificates.der, (site.folder.roots[0], longer, new))),
    )  # fmt: skip
    signer = site.keys.definition
    chain = [*signer.chain[:2], longer]
    with pytest.raises(UntrustedRootError):
        verify_definition(Issuer(signer.key, chain, longer).definition(said), site.folder.fingerprint)
