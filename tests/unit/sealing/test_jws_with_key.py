# SPDX-License-Identifier: Apache-2.0
"""Tokens that bring their own key: the quick way and the long way read the same from them, and refuse the same."""

import json

import pytest

from volact.core.encoding import Fields, b64decode, b64encode, dump_object
from volact.core.errors import VolactError
from volact.sealing import jws, proof
from volact.sealing.keys import LocalKey

KEY = LocalKey.generate()
JWK = jws.jwk_of(KEY.public_key)
OURS = jws.header(proof.REQUEST, jwk=JWK)


def with_header(members: object) -> str:
    return jws.sign(b64encode(json.dumps(members, separators=(",", ":")).encode()), {"iat": 1}, KEY)


def the_long_way(token: str) -> object:
    try:
        parsed = jws.parse(token, proof.REQUEST)
        key = jws.key_of(Fields(parsed.jwk, "machine key"))
    except VolactError as exc:
        return (exc.code,)
    return parsed.payload, parsed.signing_input, key.public_numbers(), jws.thumbprint(parsed.jwk or {})


def as_read(token: str) -> object:
    try:
        parsed, key, thumbprint = jws.parse_with_key(token, proof.REQUEST)
    except VolactError as exc:
        return (exc.code,)
    return parsed.payload, parsed.signing_input, key.public_numbers(), thumbprint


def test_our_own_header_takes_the_quick_way_and_reads_the_same(monkeypatch):
    token = jws.sign(OURS, {"iat": 1}, KEY)
    expected = the_long_way(token)
    monkeypatch.setattr(jws, "parse", None)
    assert as_read(token) == expected


@pytest.mark.parametrize(
    "members",
    [
        {"typ": proof.REQUEST, "alg": "ES256", "jwk": JWK},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": dict(reversed(JWK.items()))},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": {**JWK, "kid": "x"}},
        {"alg": "none", "typ": proof.REQUEST, "jwk": JWK},
        {"alg": "ES256", "typ": "volact-licence+jwt", "jwk": JWK},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": {**JWK, "y": JWK["x"]}},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": {**JWK, "x": JWK["x"][:-1] + "B"}},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": {**JWK, "x": "+" + JWK["x"][1:]}},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": {**JWK, "x": JWK["x"] + "A"}},
        {"alg": "ES256", "typ": proof.REQUEST, "jwk": {"crv": "P-384", **{n: JWK[n] for n in ("kty", "x", "y")}}},
        {"alg": "ES256", "typ": proof.REQUEST},
    ],
)
def test_every_other_header_reads_as_the_long_way_reads_it(members):
    token = with_header(members)
    assert as_read(token) == the_long_way(token)


@pytest.mark.parametrize("place", range(0, 4 * len(b64decode(OURS)) // 3 - 1, 3))
def test_a_character_exchanged_anywhere_in_the_header_reads_as_the_long_way_reads_it(place):
    changed = OURS[:place] + ("A" if OURS[place] != "A" else "B") + OURS[place + 1 :]
    token = jws.sign(changed, {"iat": 1}, KEY)
    assert as_read(token) == the_long_way(token)


def test_a_claim_set_is_written_in_one_way():
    assert dump_object({"b": 1, "a": 2}) == b'{"b":1,"a":2}'
