# SPDX-License-Identifier: Apache-2.0
"""Every parser of the directory's formats: any bytes parse, or raise the one named error."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from volact.core.activation_object import ActivationObject, Reading
from volact.core.encoding import Fields, parse_object
from volact.core.errors import MalformedError
from volact.core.forest import Forest
from volact.directory.errors import KeytabError
from volact.directory.locate import read_keytab
from volact.directory.place import plain_dn
from volact.directory.settings import read_settings

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = [
    *("v", "iss", "jti", "iat", "exp", "volact", "root", "groups", "forest", "key", "partial", "name", "organisation"),
    *("product", "kind", "id", "domain_sid", "tls", "object", "account", "member", "server", "fingerprint"),
    *("enabled", "port", "domain", "base", "keytab"),
]
CLAIMS = st.dictionaries(st.sampled_from(MEMBERS), ANY_JSON | st.dictionaries(st.sampled_from(MEMBERS), ANY_JSON))


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"\x05\x02" + data))
def test_any_bytes_are_a_keytab_or_the_named_error(data: bytes) -> None:
    with suppress(KeytabError):
        read_keytab(data)


@given(CLAIMS)
def test_any_claims_are_an_object_a_reading_a_forest_or_malformed(claims: dict[str, Any]) -> None:
    for kind in (ActivationObject, Reading, Forest):
        with suppress(MalformedError):
            kind.from_claim(Fields(claims, "claims"))


@given(CLAIMS.map(lambda claims: json.dumps(claims).encode()) | st.binary(max_size=100))
def test_any_bytes_are_settings_or_malformed(data: bytes) -> None:
    with suppress(MalformedError):
        read_settings(data)
    with suppress(MalformedError):
        parse_object(data, "x")


@given(st.text(max_size=100))
def test_any_text_is_a_dn_with_or_without_what_stands_before_it(text: str) -> None:
    assert text.endswith(plain_dn(text))
