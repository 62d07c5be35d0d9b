# SPDX-License-Identifier: Apache-2.0
"""A new root, cross-certified with the old one: products that embed either go on, and nobody else's root gets in."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.processes import good
from volact.publisher.administration.publisher import Publisher
from volact.publisher.answering.service import PublisherService
from volact.publisher.folder import generations
from volact.publisher.folder.hardware import KeyChangedError, KeyMaker, load
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.folder.rotation import RootEndsError, rotate_root
from volact.sealing import certificates, envelope, jws, verify
from volact.sealing.certificates import Certified
from volact.sealing.keys import LocalKey
from volact.sealing.verify import (
    ChainError,
    DefinitionOldError,
    RevokedError,
    Trust,
    TrustedLicence,
    UntrustedRootError,
    verify_definition,
    verify_licence,
    verify_status,
)
from volact.testing.issuers import PublisherSimulator

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml"
PASSPHRASE, YEAR = b"a passphrase for tests", 365 * 86400


def turn(site, **changes):
    given: dict[str, Any] = {"root_key": load(site.folder.root_key, PASSPHRASE), "maker": KeyMaker(PASSPHRASE)}
    given |= {"now": site.clock(), "actor": "tester", **changes}
    made = rotate_root(site.folder, **given)
    site.publisher.folder = PublisherFolder.open(site.folder.path)
    site.keys = site.folder.open_keys(PASSPHRASE)
    site.service = PublisherService(site.folder, site.keys, site.publisher.store, site.clock)
    return certificates.fingerprint(made)


def add_version(site, version: int) -> str:
    toml = EXAMPLE.read_text().replace("version = 1", f"version = {version}")
    site.publisher.add_product(toml.encode(), site.keys, site.clock(), "tester")
    return site.publisher.store.version("acme-cad", version).token


def licence_token(site, machine, key):
    request = machine.request(key)
    outcome = site.service.answer(site.descriptor.id, machine.seal(request))
    return envelope.open_answer(request.response_key, request.nonce, outcome.sealed).decode()


def definition_of(site, **changes) -> str:
    """A definition that somebody with the definition key made."""
    made = verify_definition(site.publisher.store.version("acme-cad", None).token, site.folder.fingerprint).definition
    return site.keys.definition.definition(replace(made, **changes))


def test_products_with_either_root_accept_what_either_root_s_keys_signed(site):
    old_root, old_definition = site.folder.fingerprint, site.publisher.store.version("acme-cad", None).token
    key, host_key, host = site.pool_key(9), site.key(), site.host()
    before = licence_token(site, site.machine(1), key)
    old_trust = verify_definition(old_definition, old_root).trust
    new_root = turn(site)
    assert site.folder.fingerprint == old_root != new_root == site.folder.newest_fingerprint
    after = licence_token(site, site.machine(2), key)
    status = site.service.status(site.clock())
    # a product that was shipped before, with its old definition: the cross certificate comes along
    for token in (before, after):
        assert verify_licence(token, old_trust).licence.key_id
    assert verify_status(status, old_trust).epoch == 1
    assert isinstance(host.ask(host_key), TrustedLicence)
    # a new definition is accepted under both, names the same publisher, and knows both roots
    newer = add_version(site, 2)
    for root in (old_root, new_root):
        trusted = verify_definition(newer, root, product="acme-cad", min_version=2)
        assert trusted.trust.fingerprint == trusted.definition.root == old_root
        for token in (before, after):
            assert verify_licence(token, trusted.trust).licence.key_id
        assert verify_status(status, trusted.trust).epoch == 1
    # keys, requests and the salt of fingerprints name the publisher as before
    assert isinstance(site.machine(3).ask(key), TrustedLicence)
    assert site.acts().count("root-rotated") == 1
    site.publisher.store.check_ledger()


def test_a_second_roll_over_still_reaches_the_first_root_and_the_third(site):
    key, first = site.pool_key(9), site.folder.fingerprint
    old_trust = verify_definition(site.publisher.store.version("acme-cad", None).token, first).trust
    second = turn(site)
    site.clock.now += YEAR
    third = turn(site)
    token = licence_token(site, site.machine(1), key)
    assert len(jws.parse(token, verify.LICENCE).x5c) == 4
    assert verify_licence(token, old_trust).licence.key_id
    newer = add_version(site, 2)
    for root in (first, second, third):
        assert verify_definition(newer, root).trust.fingerprint == first
        assert len(verify_definition(newer, root).trust.roots) == 3


def test_an_old_definition_is_refused_by_a_product_that_demands_more(site):
    old = site.publisher.store.version("acme-cad", None).token
    new_root = turn(site)
    newer = add_version(site, 2)
    with pytest.raises(DefinitionOldError):
        verify_definition(old, site.folder.fingerprint, min_version=2)
    with pytest.raises(UntrustedRootError):  # it does not know the root that came later
        verify_definition(old, new_root)
    assert verify_definition(newer, new_root, min_version=2).definition.version == 2


def test_nobody_gets_a_root_in_by_a_definition_alone(site):
    turn(site)
    add_version(site, 2)
    other = PublisherSimulator("Acme Software", site.clock)  # the same name, which counts for nothing
    foreign = PublisherSimulator("Another Ltd", site.clock)
    theirs = [certificates.der(one.root) for one in (other, foreign)]
    mine = tuple(map(certificates.der, site.folder.roots))
    links = tuple(map(certificates.der, site.folder.links))
    for root in (other, foreign):
        forged = definition_of(site, roots=(*mine, *theirs), links=links)
        with pytest.raises(UntrustedRootError):  # a root that none of ours certifies
            verify_definition(forged, root.fingerprint)
        known = verify_definition(forged, site.folder.fingerprint).trust.roots
        assert set(map(certificates.der, known)) == set(mine)


def test_a_cross_certificate_of_another_publisher_or_of_an_issuing_ca_joins_nothing(site):
    old_trust = site.trust
    thief, now = LocalKey.generate(), site.clock()
    fake = Certified(certificates.make_root(thief.private, site.folder.name, now, 7), thief.private)
    issuing = site.keys.issuing
    # (1) by a stranger's root; (2) by our issuing CA, whose own path length is 0; (3) the issuing CA in its place
    strange = PublisherSimulator("Another Ltd", site.clock)
    for link in (
        certificates.make_cross(fake, fake.certificate, now, 1),
        certificates.make_cross(Certified(fake.certificate, issuing.key), fake.certificate, now, 2),
        issuing.certificate,
        strange.issuing,
    ):
        ca = certificates.make_issuing(fake, thief.public_key, site.folder.name, now, 3)
        grant = certificates.Grant("Acme Software", frozenset(), certificates.key_thumbprint(thief.public_key))
        role = certificates.Role.REVOCATION
        leaf = certificates.make_end(Certified(ca, thief.private), thief.public_key, role, grant, "x", now, 4)
        header = jws.header(verify.STATUS, x5c=tuple(map(certificates.der, (leaf, ca, link))))
        token = jws.sign(header, {"iat": now, "volact": {"v": 1, "epoch": 99, "revoked": {}}}, thief)
        with pytest.raises((UntrustedRootError, ChainError)):
            verify_status(token, old_trust)
        forged = definition_of(
            site, roots=tuple(map(certificates.der, (site.folder.root, fake.certificate))),
            links=(certificates.der(link),),
        )  # fmt: skip
        assert verify_definition(forged, site.folder.fingerprint).trust.roots == (site.folder.root,)
        with pytest.raises(UntrustedRootError):
            verify_definition(forged, certificates.fingerprint(fake.certificate))


def test_a_cross_certificate_counts_in_its_own_time_only(site):
    turn(site)
    old_trust = Trust(site.folder.roots[0])
    early = site.clock() - 2 * 3600
    claims = {"iat": early, "volact": {"v": 1, "epoch": 9, "revoked": {}}}
    issuer = site.keys.revocation
    token = jws.sign(jws.header(verify.STATUS, x5c=tuple(map(certificates.der, issuer.chain))), claims, issuer.key)
    with pytest.raises(ChainError):
        verify_status(token, old_trust)


def test_the_old_root_s_issuing_ca_is_revoked_from_a_date_on(site):
    old = site.keys
    old_definition = site.publisher.store.version("acme-cad", None)
    turn(site)
    add_version(site, 2)
    site.clock.now += 86400
    thumbprint = certificates.key_thumbprint(certificates.public_key_of(old.issuing.certificate)).hex()
    site.publisher.revoke_issuer(thumbprint, site.clock(), "rolled over", site.clock(), "tester")
    service = PublisherService(site.folder, site.keys, site.publisher.store, site.clock)
    trust = verify_definition(site.publisher.store.version("acme-cad", 2).token, site.folder.newest_fingerprint).trust
    status = verify_status(service.status(site.clock()), trust)
    made = verify_definition(old_definition.token, site.folder.fingerprint)
    made.check_status(status)  # it was signed before
    later = old.definition.definition(replace(made.definition, version=9, issued_at=site.clock()))
    forged = verify_definition(later, site.folder.fingerprint)
    with pytest.raises(RevokedError):
        forged.check_status(status)
    verify_definition(site.publisher.store.version("acme-cad", 2).token, site.folder.fingerprint).check_status(status)


def test_another_key_than_the_root_s_and_a_root_that_ended_roll_nothing_over(site):
    before = {p: p.read_bytes() for p in site.folder.path.rglob("*.pem")}
    with pytest.raises(KeyChangedError):
        turn(site, root_key=LocalKey.generate())
    with pytest.raises(RootEndsError):
        turn(site, now=site.clock() + 26 * YEAR)
    assert {p: p.read_bytes() for p in site.folder.path.rglob("*.pem")} == before
    assert "root-rotated" not in site.acts()


def test_a_roll_over_that_fails_leaves_all_as_it_was_and_one_that_was_cut_is_finished(site, monkeypatch):
    from volact.publisher.folder import rotation

    kept = {p: p.read_bytes() for p in site.folder.path.rglob("*") if p.suffix in (".pem", ".key")}
    with monkeypatch.context() as patch:
        patch.setattr(type(site.publisher.store), "note_root_rotation", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            turn(site)
    assert {p: p.read_bytes() for p in site.folder.path.rglob("*") if p.suffix in (".pem", ".key")} == kept
    key = load(site.folder.root_key, PASSPHRASE)
    with monkeypatch.context() as patch:
        patch.setattr(rotation, "finish", lambda _: None)  # the power goes before anything moved
        made = rotate_root(site.folder, key, KeyMaker(PASSPHRASE), site.clock(), "tester")
    assert (site.folder.path / generations.STAGE).exists()
    opened = PublisherFolder.open(site.folder.path)
    assert opened.newest_fingerprint == certificates.fingerprint(made)
    assert load(opened.root_key, PASSPHRASE).public_key == made.public_key()


def test_openssl_follows_the_cross_certificate_from_the_old_root(site, tmp_path):
    key = site.pool_key(3)
    turn(site)
    x5c = jws.parse(licence_token(site, site.machine(1), key), verify.LICENCE).x5c
    chain = [certificates.load_der(der) for der in x5c]
    (tmp_path / "leaf.pem").write_bytes(certificates.pem(chain[0]))
    (tmp_path / "above.pem").write_bytes(certificates.pem(*chain[1:]))
    for number, root in enumerate(site.folder.roots):
        (tmp_path / f"root{number}.pem").write_bytes(certificates.pem(root))
        words = ["openssl", "verify", "-attime", str(site.clock()), "-CAfile", f"root{number}.pem"]
        done = subprocess.run(
            [*words, "-untrusted", "above.pem", "leaf.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout


def test_the_command_rolls_over_and_machines_take_the_new_definition(tmp_path):
    folder, secret = tmp_path / "acme", tmp_path / "passphrase"
    secret.write_text("a passphrase for tests\n")
    where = ("--dir", folder, "--passphrase-file", secret, "--json")
    old = good("publisher", "init", "--name", "Acme Software", *where).json["root"]
    good("publisher", "product", "add", EXAMPLE, *where)
    file = tmp_path / "acme-cad.volproduct"
    good("publisher", "product", "export", "acme-cad", "-o", file, *where)
    own = ("--dir", tmp_path / "client")
    good("client", "add-product", file, "--root", old, *own)
    done = good("publisher", "rotate", "root", *where).json
    assert (done["before"], done["publisher"]) == (old, old)
    (tmp_path / "newer.toml").write_text(EXAMPLE.read_text().replace("version = 1", "version = 2"))
    good("publisher", "product", "add", tmp_path / "newer.toml", *where)
    newer = tmp_path / "newer.volproduct"
    good("publisher", "product", "export", "acme-cad", "-o", newer, *where)
    # the machine knows the old root; its product's next version embeds the new one
    good("client", "add-product", newer, "--root", done["root"], *own)
    good("client", "add-product", newer, "--root", old, "--dir", tmp_path / "another")
    host = ("--dir", tmp_path / "host")
    good("host", "init", *host)
    good("host", "add-product", file, "--root", old, *host)
    good("host", "add-product", newer, *host)
    fresh = ("--dir", tmp_path / "fresh")
    good("host", "init", *fresh)
    good("host", "add-product", newer, "--root", done["root"], *fresh)
    with Publisher.open(folder) as publisher:
        assert publisher.folder.fingerprint == old
    assert good("publisher", "certificate", *where).json["newest_root"] == done["root"]
