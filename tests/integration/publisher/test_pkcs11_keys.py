# SPDX-License-Identifier: Apache-2.0
"""A publisher's keys in a PKCS#11 token, SoftHSM's: made there, never seen outside, used as any others."""

import json
import os
import re
import secrets
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization

from support import softhsm
from support.processes import Server, good, volact
from volact.core.errors import MalformedError
from volact.core.issuer import RevocationStatus
from volact.publisher.administration.publisher import Publisher
from volact.publisher.folder import hardware
from volact.publisher.folder.hardware import SIGNING_KEYS, KeyChangedError, KeyNameError, tokens_of
from volact.publisher.folder.making import init
from volact.publisher.folder.opening import PublisherFolder
from volact.sealing import certificates, jws, keys, pkcs11, verify
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.envelope import X25519
from volact.sealing.keys import LocalKey
from volact.sealing.pkcs11 import KeyReference, TokenKey, TokenPlace

pytestmark = pytest.mark.needs("softhsm")

NOW, PASSPHRASE = 1_800_000_000, b"a passphrase for tests"
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
HOST = LocalKey.generate()


@pytest.fixture(scope="session")
def tokens(tmp_path_factory):
    return softhsm.Tokens.configure(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture
def place(tokens):
    """A token of the test's own."""
    label = f"acme-{secrets.token_hex(4)}"
    pin_file = tokens.make(label)
    return TokenPlace(softhsm.module(), label, str(pin_file))


def make(path, place, names=SIGNING_KEYS, **changes):
    given = {"name": "Acme", "url": None, "suite": X25519, "passphrase": PASSPHRASE, "now": NOW, "actor": "tester"}
    return init(path, **{**given, **changes}, tokens=tokens_of(names, place))


def objects(place):
    with pkcs11._opened(place) as session:
        return len(list(session.get_objects()))


def test_a_key_in_a_token_signs_and_cannot_be_read_out(place):
    import pkcs11 as library

    key = pkcs11.generate(place, "Acme issuing")
    jws.verify_raw(key.public_key, key.sign(b"data"), b"data", "data")
    with pkcs11._opened(place) as session:
        private = key._find(session)
        assert private[library.Attribute.SENSITIVE]
        assert not private[library.Attribute.EXTRACTABLE]
        with pytest.raises(library.exceptions.AttributeSensitive):
            private[library.Attribute.VALUE]


def test_a_chain_signed_in_the_token_satisfies_openssl_and_our_own_verifier(place, tmp_path, find_command):
    root_key, issuing_key = (pkcs11.generate(place, name) for name in ("root", "issuing"))
    root = certificates.make_root(root_key, "Acme", NOW, 1)
    issuing = certificates.make_issuing(Certified(root, root_key), issuing_key.public_key, "Acme", NOW, 2)
    grant = Grant("Example Ltd", frozenset({101}), certificates.key_thumbprint(HOST.public_key))
    end = certificates.make_end(Certified(issuing, issuing_key), HOST.public_key, Role.KMS_HOST, grant, "kms", NOW, 3)
    for name, certificate in (("root", root), ("issuing", issuing), ("end", end)):
        (tmp_path / f"{name}.pem").write_bytes(certificates.pem(certificate))
        assert certificates.load_der(certificates.der(certificate)) == certificate
    command = [find_command("openssl"), "verify", "-x509_strict", "-attime", str(NOW), "-CAfile", "root.pem"]
    done = subprocess.run(
        [*command, "-untrusted", "issuing.pem", "end.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "end.pem: OK\n", done.stderr
    assert certificates.role_of(end) is Role.KMS_HOST
    assert certificates.grant_of(end) == grant


def test_a_certificate_is_the_same_whether_a_file_or_a_token_signs_it(place):
    """Both ways build the same to-be-signed bytes, so the verifier's vectors speak for both."""
    local = LocalKey.generate()
    one, other = (certificates.make_root(key, "Acme", NOW, 7) for key in (local.private, local))
    assert one.tbs_certificate_bytes == other.tbs_certificate_bytes


def test_a_signature_that_the_key_did_not_make_is_caught_before_it_is_used():
    class Broken:
        public_key = HOST.public_key

        def sign(self, data):
            return LocalKey.generate().sign(data)

    with pytest.raises(certificates.SignedWronglyError):
        certificates.make_root(Broken(), "Acme", NOW, 1)


def test_a_publisher_with_its_keys_in_a_token_leaves_no_signing_key_on_disk(place, tmp_path):
    made = make(tmp_path / "acme", place)
    private = [file.name for file in made.path.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()]
    assert private == ["sealing.key"]  # HPKE's, of another kind and encrypted
    with pytest.raises(keys.KeyFileError):
        keys.load_signing_key(made.path / "keys" / "sealing.key", PASSPHRASE)
    assert not list(made.path.rglob("root.key"))
    assert objects(place) == 2 * len(SIGNING_KEYS)
    for file in made.path.rglob("*.token"):
        assert softhsm.PIN not in file.read_text()


def test_it_defines_products_and_answers_requests_as_any_other(place, tmp_path, pick_port):
    folder, passphrase = tmp_path / "acme", tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    options = ["--pkcs11-module", place.module, "--token", place.token, "--pin-file", place.pin_file]
    with_passphrase = ["--dir", folder, "--passphrase-file", passphrase]
    port = pick_port()
    good("publisher", "init", "--name", "Acme", "--url", f"http://127.0.0.1:{port}", *with_passphrase, *options)
    good("publisher", "product", "add", "examples/acme-cad.toml", *with_passphrase)
    good("publisher", "organisation", "add", "Example Ltd", "--dir", folder)
    issue = ["publisher", "key", "issue", "--organisation", "Example Ltd", "--product", "acme-cad"]
    key = good(*issue, "--kind", "mak", "--group", "clients", "--activations", "1", *with_passphrase, "--json").json
    root = good("publisher", "certificate", "--dir", folder).out.strip()
    definition = tmp_path / "acme.volproduct"
    good("publisher", "product", "export", "acme-cad", "-o", definition, "--dir", folder)
    words = ["publisher", "serve", *with_passphrase, "--listen", "127.0.0.1", "--port", port, "--workers", 2]
    server = Server(words, tmp_path / "log", port).wait_until()
    try:
        client = ["--dir", tmp_path / "client"]
        good("client", "add-product", definition, "--root", root, *client)
        good("client", "install-key", "acme-cad", _text(key), "--edition", "professional", *client)
        good("client", "activate", "acme-cad", *client)
        assert good("client", "check", "acme-cad", "--root", root, *client)
    finally:
        server.stop()


def _text(issued):
    found = re.search(r"[A-Z0-9]{5}(-[A-Z0-9]{5}){4}", json.dumps(issued))
    assert found is not None
    return found.group()


def test_hardware_show_lets_each_key_sign(place, tmp_path):
    made = make(tmp_path / "acme", place, ["root", "issuing"])
    shown = good("publisher", "hardware", "show", "--dir", made.path, "--json").json
    assert {one["key"]: one["in"] for one in shown} == {
        "root": "token", "issuing": "token", "publisher-issuer": "file", "definition": "file", "revocation": "file"
    }  # fmt: skip
    assert all(one["problem"] is None for one in shown)
    made.root_key.unlink()
    shown = good("publisher", "hardware", "show", "--dir", made.path, "--json").json
    assert shown[0]["in"] == "elsewhere"


def test_keys_in_files_follow_into_a_token_by_a_rotation(place, tmp_path):
    made = make(tmp_path / "acme", place, [])
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    options = ["--pkcs11-module", place.module, "--token", place.token, "--pin-file", place.pin_file]
    good("publisher", "rotate", "issuing", "--dir", made.path, "--passphrase-file", passphrase, *options)
    shown = good("publisher", "hardware", "show", "--dir", made.path, "--json").json
    assert {one["key"]: one["in"] for one in shown}["issuing"] == "token"
    assert [one["key"] for one in shown if one["in"] == "file"] == ["root"]
    assert PublisherFolder.open(made.path).open_keys(PASSPHRASE).issuing.certificate.serial_number


def test_a_root_in_a_file_is_followed_by_one_in_a_token_and_that_by_another(tokens, place, tmp_path):
    made = make(tmp_path / "acme", place, [])
    old = made.fingerprint
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    where = ["--dir", made.path, "--passphrase-file", passphrase, "--json"]
    options = ["--pkcs11-module", place.module, "--token", place.token, "--pin-file", place.pin_file]
    first = good("publisher", "rotate", "root", *where, *options).json
    other = f"root-{secrets.token_hex(4)}"
    pin_file = tokens.make(other)
    second = good(
        "publisher", "rotate", "root", *where, *options, "--root-token", other, "--root-pin-file", pin_file
    ).json  # the present root signs in its token, the next one is made in another
    assert (first["before"], second["before"], second["publisher"]) == (old, first["root"], old)
    folder = PublisherFolder.open(made.path)
    assert hardware.read_reference(folder.root_key).place.token == other
    assert (len(folder.roots), len(folder.links)) == (3, 4)
    issuer = folder.open_keys(PASSPHRASE).revocation
    token = issuer.status(RevocationStatus(1, int(time.time())))
    assert verify.verify_status(token, verify.Trust(folder.roots[0])).epoch == 1
    assert good("publisher", "hardware", "show", "--dir", made.path, "--json").json


def test_the_roots_token_can_be_another_and_be_taken_away(tokens, place, tmp_path):
    other = f"root-{secrets.token_hex(4)}"
    pin_file = tokens.make(other)
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    options = ["--pkcs11-module", place.module, "--token", place.token, "--pin-file", place.pin_file]
    words = ["--root-token", other, "--root-pin-file", pin_file, "--dir", tmp_path / "acme"]
    good("publisher", "init", "--name", "Acme", "--passphrase-file", passphrase, *options, *words)
    folder = PublisherFolder.open(tmp_path / "acme")
    assert hardware.read_reference(folder.root_key).place.token == other
    folder.root_key.unlink()
    assert folder.open_keys(PASSPHRASE).issuing.certificate


def test_an_init_that_fails_leaves_nothing_in_the_token(place, tmp_path):
    with pytest.raises(Exception, match="database"):
        make(tmp_path / "acme", place, database="postgresql://nobody@127.0.0.1:1/none")
    assert objects(place) == 0
    assert not list(tmp_path.iterdir())


def test_options_of_a_token_come_together_or_not_at_all(tmp_path):
    words = ["publisher", "init", "--name", "Acme", "--dir", tmp_path / "acme", "--token", "acme"]
    (tmp_path / "passphrase").write_text("one\n")
    done = volact(*words, "--passphrase-file", tmp_path / "passphrase")
    assert done.code == 1
    assert done.errors == ["keys in a token need --pkcs11-module, --token and --pin-file; --pkcs11-module is missing"]
    assert not (tmp_path / "acme").exists()


def test_a_key_that_no_publisher_has_is_named(place):
    with pytest.raises(KeyNameError, match="sealing"):
        tokens_of(["root", "sealing"], place)


def test_a_wrong_pin_is_refused_by_name(tokens, place, tmp_path):
    (tmp_path / "pin").write_text("00000\n")
    wrong = TokenPlace(place.module, place.token, str(tmp_path / "pin"))
    with pytest.raises(pkcs11.TokenPinError):
        pkcs11.generate(wrong, "key")
    pkcs11.generate(place, "key")
    with pytest.raises(pkcs11.TokenPinError):  # nor does a session that is open by now let it in
        pkcs11.generate(wrong, "key")


@pytest.mark.parametrize(("module", "token"), [("/nowhere.so", "acme"), (softhsm.module(), "nobody's")])
def test_a_token_that_is_not_there_is_refused_by_name(tokens, place, module, token):
    with pytest.raises(pkcs11.TokenError):
        pkcs11.generate(TokenPlace(module, token, place.pin_file), "key")


def test_a_key_that_is_not_in_the_token_is_refused_by_name(place):
    with pytest.raises(pkcs11.TokenKeyMissingError):
        TokenKey(KeyReference(place, "gone", bytes(16)))


def test_a_key_that_could_be_read_out_is_refused(place):
    import pkcs11 as library

    reference = KeyReference(place, "imported", os.urandom(16))
    with pkcs11._opened(place) as session:
        curve = {library.Attribute.EC_PARAMS: library.util.ec.encode_named_curve_parameters("secp256r1")}
        parameters = session.create_domain_parameters(library.KeyType.EC, curve, local=True)
        template = {library.Attribute.SENSITIVE: False, library.Attribute.EXTRACTABLE: True}
        parameters.generate_keypair(store=True, label="imported", id=reference.id, private_template=template)
    with pytest.raises(pkcs11.TokenKeyExtractableError):
        TokenKey(reference)


def test_another_key_in_a_keys_place_is_refused(place, tmp_path):
    made = make(tmp_path / "acme", place)
    other = pkcs11.generate(place, "another")
    (made.path / "keys" / "issuing.token").write_bytes(other.reference.to_bytes())
    with pytest.raises(KeyChangedError):
        made.open_keys(PASSPHRASE)
    done = volact("publisher", "hardware", "show", "--dir", made.path)
    assert done.code == 1
    assert "not the one that its certificate is for" in done.out


def test_a_token_that_forgot_our_session_is_asked_anew(place):
    key = pkcs11.generate(place, "key")
    pkcs11._tokens[place.module, place.token].session.close()
    jws.verify_raw(key.public_key, key.sign(b"data"), b"data", "data")


def test_a_forked_child_signs_with_the_same_key(place):
    script = f"""
import os, sys
from volact.sealing import jws, pkcs11
place = pkcs11.TokenPlace({place.module!r}, {place.token!r}, {place.pin_file!r})
key = pkcs11.generate(place, "key")
child = os.fork()
if child == 0:
    jws.verify_raw(key.public_key, key.sign(b"child"), b"child", "child")
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
jws.verify_raw(key.public_key, key.sign(b"parent"), b"parent", "parent")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_threads_share_a_key(place, together):
    key = pkcs11.generate(place, "key")
    data = [str(number).encode() for number in range(16)]
    signatures = together([lambda one=one: key.sign(one) for one in data])
    for one, signature in zip(data, signatures, strict=True):
        jws.verify_raw(key.public_key, signature, one, "data")


def test_a_reference_reads_back_as_it_was_written_and_nothing_else_does(place):
    reference = KeyReference(place, "Acme issuing", bytes(range(16)))
    assert KeyReference.from_bytes(reference.to_bytes()) == reference
    for data in (b"", b"{}", reference.to_bytes().replace(b"0001", b"000X"), reference.to_bytes()[:-20]):
        with pytest.raises(MalformedError):
            KeyReference.from_bytes(data)


def test_the_public_half_is_the_certificates(place, tmp_path):
    made = make(tmp_path / "acme", place, ["issuing"])
    with Publisher.open(made.path) as publisher:
        opened = publisher.folder.open_keys(PASSPHRASE)
    issuing = opened.issuing
    assert isinstance(issuing.key, pkcs11.TokenKey)
    assert issuing.key.public_key.public_bytes(*SPKI) == issuing.certificate.public_key().public_bytes(*SPKI)
