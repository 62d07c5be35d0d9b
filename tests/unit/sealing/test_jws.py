# SPDX-License-Identifier: Apache-2.0
"""The JWS codec, and issuers and machines that sign with it: what the vectors cannot hold."""

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.encoding import Fields, b64decode, b64encode, dump_object
from volact.core.errors import MalformedError
from volact.sealing import envelope, jws, proof, sign, verify
from volact.sealing.keys import LocalKey
from volact.testing import Site

KEY = LocalKey.generate()
TYP = proof.REQUEST


def token(claims):
    return jws.sign(jws.header(TYP, jwk=jws.jwk_of(KEY.public_key)), claims, KEY)


def test_a_signed_token_comes_back():
    parsed = jws.parse(token({"a": 1}), TYP)
    parsed.verify(KEY.public_key)
    assert parsed.claims().integer("a") == 1


def test_another_keys_signature_does_not_fit():
    with pytest.raises(jws.SignatureError):
        jws.parse(token({"a": 1}), TYP).verify(LocalKey.generate().public_key)


@pytest.mark.parametrize("number", [0, 2**256 - 1])
def test_numbers_out_of_range_are_no_signature(number):
    with pytest.raises(jws.SignatureError):
        jws.verify_raw(KEY.public_key, number.to_bytes(32) * 2, b"data", "data")


def test_a_token_longer_than_any_of_ours_is_malformed_before_it_is_read():
    with pytest.raises(MalformedError, match="longer"):
        jws.parse("A" * (jws.MAX_TOKEN + 1), TYP)


def test_the_thumbprint_is_that_of_rfc_7638():
    jwk = jws.jwk_of(KEY.public_key)
    text = '{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}'.format(jwk["x"], jwk["y"])
    assert jws.thumbprint(jwk) == hashlib.sha256(text.encode()).digest()
    assert jws.thumbprint(dict(reversed(jwk.items()))) == jws.thumbprint(jwk)


def test_coordinates_keep_their_leading_zeros():
    """One key in 128 has one; 32 bytes are 32 bytes."""
    number = next(n for n in range(1, 5000) if x_of(n) < 2**248)
    jwk = jws.jwk_of(ec.derive_private_key(number, ec.SECP256R1()).public_key())
    assert len(b64decode(jwk["x"])) == 32
    assert jws.key_of(Fields(jwk, "key")).public_numbers().x == x_of(number)


def x_of(number):
    return ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers().x


def test_a_point_off_the_curve_is_malformed():
    jwk = jws.jwk_of(KEY.public_key)
    with pytest.raises(MalformedError, match="point"):
        jws.key_of(Fields(jwk | {"y": b64encode(b"\1" * 32)}, "key"))


def test_the_header_says_algorithm_type_and_key_and_nothing_else():
    header = json.loads(b64decode(token({}).split(".")[0]))
    assert header == {"alg": "ES256", "typ": TYP, "jwk": jws.jwk_of(KEY.public_key)}


def test_a_machines_id_is_the_thumbprint_of_its_key():
    signer = sign.MachineSigner(KEY)
    assert signer.machine == jws.thumbprint(jws.jwk_of(KEY.public_key))


def test_an_issuer_knows_its_role_its_grant_and_its_end():
    host = Site.make().kms_host()
    issuer = host.issuer
    assert issuer.role == "kms-host"
    assert issuer.grant.groups == host.groups
    assert issuer.thumbprint == issuer.grant.descriptor_signer
    assert issuer.ends_at == host.clock() + 365 * 86400


def test_only_definitions_bring_their_root():
    site = Site.make()
    lengths = {
        typ: len(jws.parse(made, typ).x5c)
        for typ, made in ((verify.DEFINITION, site.token), (verify.STATUS, site.publisher.status_token()))
    }
    assert lengths == {verify.DEFINITION: 3, verify.STATUS: 2}


def test_no_two_answers_are_sealed_alike():
    key, nonce = bytes(32), bytes(16)
    first, second = (envelope.seal_answer(key, nonce, b"text") for _ in range(2))
    assert first[:12] != second[:12]
    assert first[12:] != second[12:]


def test_a_request_for_an_unknown_suite_is_not_sealed():
    with pytest.raises(envelope.SuiteError):
        envelope.seal_request("rot13", bytes(32), b"text")
    with pytest.raises(envelope.SuiteError):
        envelope.OpeningKey.generate("rot13")


def test_a_payload_is_not_read_before_its_signature_is_checked():
    """``claims`` is a second step: a caller that only parses has bytes, not claims."""
    head = jws.header(TYP, jwk=jws.jwk_of(KEY.public_key))
    body = b64encode(b"no JSON at all")
    signature = b64encode(KEY.sign(f"{head}.{body}".encode()))
    parsed = jws.parse(f"{head}.{body}.{signature}", TYP)
    parsed.verify(KEY.public_key)
    with pytest.raises(MalformedError):
        parsed.claims()


def test_members_are_written_in_the_order_given():
    assert b64decode(token({"b": 1, "a": 2}).split(".")[1]) == dump_object({"b": 1, "a": 2}) == b'{"b":1,"a":2}'
