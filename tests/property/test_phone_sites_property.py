# SPDX-License-Identifier: Apache-2.0
"""What strangers put where hosts and forests that called are read: it parses, or raises the one named error."""

import base64
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import MalformedError, TrustError
from volact.core.phone import INSTALLATION_BYTES, PhoneFormatError
from volact.core.phone_object import PREFIX, PhoneObject
from volact.core.phone_site import SiteInstallationId, SiteKind, parse_installation_id
from volact.sealing import certificates, verify
from volact.sealing.objects import verify_activation_object
from volact.sealing.phone_certificates import HostConfirmation

VECTORS = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "phone-sites.json").read_bytes())
GOOD = VECTORS["objects"][0]["token"]
TRUST = verify.Trust(
    certificates.load_der(base64.b64decode(VECTORS["root"])), phone_key=bytes.fromhex(VECTORS["phone_key"])
)

sites = st.builds(
    SiteInstallationId,
    st.sampled_from(list(SiteKind)),
    st.binary(min_size=3, max_size=3),
    st.binary(min_size=5, max_size=5),
    st.binary(min_size=14, max_size=14),
    st.integers(0, 65535),
    st.integers(0, 65535),
)


@given(sites)
def test_an_installation_id_is_read_as_it_was_shown(site: SiteInstallationId) -> None:
    assert parse_installation_id(str(site)) == site
    assert SiteInstallationId.from_bytes(site.to_bytes()) == site


@given(st.binary(max_size=INSTALLATION_BYTES + 1))
def test_bytes_are_an_installation_id_or_of_no_known_kind(data: bytes) -> None:
    with contextlib.suppress(PhoneFormatError):
        assert SiteInstallationId.from_bytes(data).to_bytes() == data


@given(st.binary(max_size=300))
def test_an_extension_is_a_confirmation_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        HostConfirmation.from_der(data)


@given(st.text(max_size=200), st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_an_object_with_anything_changed_is_refused_by_name(text: str, place: int, char: str) -> None:
    for token in (f"{PREFIX}.{text}", text, GOOD[:place], GOOD[:place] + char + GOOD[place + 1 :]):
        if token == GOOD:
            continue
        try:
            found = verify_activation_object(token, TRUST).object
        except (TrustError, MalformedError):
            continue
        assert found.forest.identity == PhoneObject.from_token(GOOD).forest.identity  # names alone are not signed


def test_the_good_one_is_good() -> None:
    assert verify_activation_object(GOOD, TRUST).object.groups == {101, 102}
    with pytest.raises(MalformedError):
        PhoneObject.from_token(GOOD[:-9])
