# SPDX-License-Identifier: Apache-2.0
"""A new issuing CA under the same root: old and new signatures side by side, and no half-done rotation."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.processes import good, volact
from volact.core.refusal import Refusal, SignedRefusal
from volact.publisher.answering.service import PublisherService
from volact.publisher.folder.hardware import KeyChangedError, KeyMaker, load
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.folder.rotation import rotate
from volact.sealing import certificates, envelope
from volact.sealing.certificates import Grant, Role
from volact.sealing.keys import LocalKey
from volact.sealing.sign import Issuer
from volact.sealing.verify import (
    REFUSAL,
    RevokedError,
    Trust,
    TrustedLicence,
    verify,
    verify_definition,
    verify_licence,
    verify_status,
)

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml"
PASSPHRASE, YEAR = b"a passphrase for tests", 365 * 86400


def turn(site, **changes):
    given: dict[str, Any] = {"root_key": load(site.folder.root_key, PASSPHRASE), "maker": KeyMaker(PASSPHRASE)}
    given |= {"now": site.clock(), "actor": "tester", **changes}
    return rotate(site.folder, **given)


def reopen(site):
    """As a service that is started again."""
    site.keys = site.folder.open_keys(PASSPHRASE)
    site.service = PublisherService(site.folder, site.keys, site.publisher.store, site.clock)


def licence_token(site, machine, key):
    request = machine.request(key)
    outcome = site.service.answer(site.descriptor.id, machine.seal(request))
    return envelope.open_answer(request.response_key, request.nonce, outcome.sealed).decode()


def issuing_of(licence):
    return certificates.load_der(base64.b64decode(licence.certificates[1])).serial_number


def test_what_the_old_ca_signed_stays_good_and_the_new_one_signs_on(site):
    key, host_key, host = site.pool_key(5), site.key(), site.host()
    machine = site.machine(1)
    old_token = licence_token(site, machine, key)
    old_definition = site.publisher.store.version("acme-cad", None).token
    request = host.request(host_key)
    old_host = host.send(request).licence
    before = site.keys.issuing.certificate
    made = turn(site)
    # A service that runs on with its old keys still answers, and so does the new one.
    assert isinstance(site.machine(2).ask(key), TrustedLicence)
    reopen(site)
    assert site.keys.issuing.certificate.serial_number == made.serial_number != before.serial_number
    assert isinstance(site.machine(3).ask(key), TrustedLicence)
    trust = Trust(site.folder.root)
    assert verify_licence(old_token, trust).licence.machine == machine.signer.machine
    assert verify_definition(old_definition, site.folder.fingerprint).definition.version == 1
    assert verify_status(site.service.status(site.clock()), trust).epoch == 1
    # A host's lost answer comes with the CA that signed its certificate, a new certificate with the new CA.
    assert issuing_of(host.send(request).licence) == issuing_of(old_host) == before.serial_number
    site.clock.now += YEAR - 86400
    renewed = host.ask(host_key).licence
    assert issuing_of(renewed) == made.serial_number
    assert site.acts().count("issuing-rotated") == 1
    site.publisher.store.check_ledger()


def test_products_keys_and_requests_on_their_way_go_on(site):
    key, machine = site.pool_key(5), site.machine()
    request = machine.request(key)
    turn(site)
    reopen(site)
    assert isinstance(machine.send(request), TrustedLicence)
    toml = EXAMPLE.read_text().replace("version = 1", "version = 2")
    site.publisher.add_product(toml.encode(), site.keys, site.clock(), "tester")
    token = site.publisher.store.version("acme-cad", None).token
    assert verify_definition(token, site.folder.fingerprint).definition.version == 2


def test_another_key_than_the_root_s_rotates_nothing(site):
    before = {p: p.read_bytes() for p in site.folder.path.rglob("*.pem")}
    with pytest.raises(KeyChangedError):
        turn(site, root_key=LocalKey.generate())
    assert {p: p.read_bytes() for p in site.folder.path.rglob("*.pem")} == before
    assert "issuing-rotated" not in site.acts()


def test_a_rotation_that_fails_leaves_everything_as_it_was(site, monkeypatch):
    before = {p: p.read_bytes() for p in site.folder.path.rglob("*") if p.suffix in (".pem", ".key")}
    monkeypatch.setattr(type(site.publisher.store), "note_rotation", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        turn(site)
    assert {p: p.read_bytes() for p in site.folder.path.rglob("*") if p.suffix in (".pem", ".key")} == before
    assert not (site.folder.path / "rotation").exists()


@pytest.mark.parametrize("moves", range(4))
def test_an_interrupted_rotation_is_finished_when_the_folder_is_opened(site, monkeypatch, moves):
    """Interrupted before the first move, and after each of the first three of four."""
    left = iter([True] * moves)
    real = Path.rename

    def rename(self, target):
        if ("rotation" in str(self) or "old" in str(target)) and not next(left, False):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        turn(site)
    monkeypatch.undo()
    opened = PublisherFolder.open(site.folder.path)
    keys = opened.open_keys(PASSPHRASE)
    assert keys.issuing.certificate.serial_number != site.keys.issuing.certificate.serial_number
    assert [one.serial_number for one in keys.earlier] == [site.keys.issuing.certificate.serial_number]
    assert not (site.folder.path / "rotation").exists()


def test_rotate_as_it_is_typed(site, tmp_path):
    (tmp_path / "pass").write_text("a passphrase for tests\n")
    offline = tmp_path / "root.key"
    site.folder.root_key.rename(offline)
    words = ("publisher", "rotate", "issuing", "--dir", site.folder.path, "--passphrase-file", tmp_path / "pass")
    assert volact(*words, "--json").json["error"]["code"] == "root-key-away"
    made = good(*words, "--root-key", offline, "--json").json
    assert int(made["serial"], 16) == site.folder.open_keys(PASSPHRASE).issuing.certificate.serial_number


def test_a_stolen_ca_is_revoked_from_a_date_on_with_everybody_below_it(site):
    stolen, key = site.keys.issuing, site.pool_key(5)
    kept = licence_token(site, site.machine(1), key)
    site.clock.now += 86400
    turn(site)
    reopen(site)
    thumbprint = certificates.key_thumbprint(certificates.public_key_of(stolen.certificate)).hex()
    site.publisher.revoke_issuer(thumbprint, site.clock(), "stolen", site.clock(), "tester")
    status = verify_status(site.service.status(site.clock()), Trust(site.folder.root))
    trust = Trust(site.folder.root).with_status(status)
    # The thief certifies a publisher-issuer, and signs licences with it.
    thief = LocalKey.generate()
    grant = Grant("Acme Software", frozenset(), certificates.key_thumbprint(thief.public_key))
    leaf = certificates.make_end(stolen, thief.public_key, Role.PUBLISHER, grant, "thief", site.clock(), 7)
    forged = replace(verify_licence(kept, trust).licence, issued_at=site.clock())
    token = Issuer(thief, (leaf, stolen.certificate), site.folder.root).licence(forged)
    assert verify_licence(token, trust).revoked_at == site.clock()
    refusal = SignedRefusal(forged.issuer, forged.nonce, site.clock(), Refusal("key-blocked", {"partial": "ABCDE"}))
    with pytest.raises(RevokedError):
        verify(Issuer(thief, (leaf, stolen.certificate), site.folder.root).refusal(refusal), trust, REFUSAL)
    # What it signed before that second stays good, and what the new CA signs is.
    before = verify_licence(kept, trust)
    assert before.revoked_at is not None
    assert before.licence.issued_at < before.revoked_at
    assert verify_licence(licence_token(site, site.machine(2), key), trust).revoked_at is None
