# SPDX-License-Identifier: Apache-2.0
"""Every ID reads back; every slip of one digit, every exchange of neighbours is caught, and located."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volact.client.products.phone_licence import PhoneLicence, PhoneRequest
from volact.core import phone
from volact.core.errors import InputError, MalformedError
from volact.core.fingerprint import Fingerprint
from volact.core.phone import ConfirmationId, InstallationId, PhoneTypoError
from volact.core.product_key import Channel
from volact.sealing.confirmation import (
    ConfirmationInvalidError,
    PhoneKey,
    read_keystore,
    verify_confirmation,
    write_keystore,
)
from volact.sealing.keys import KeyFileError, PassphraseError

INSTALLATIONS = st.builds(
    InstallationId,
    st.sampled_from(phone.CHANNELS),
    st.binary(min_size=3, max_size=3),
    st.binary(min_size=5, max_size=5),
    st.binary(min_size=10, max_size=10),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 65535),
    st.integers(0, 65535),
)
CONFIRMATIONS = st.builds(ConfirmationId, st.integers(0, 9999), st.binary(min_size=48, max_size=48))
GROUPS = INSTALLATIONS.map(lambda one: one.groups)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)

SEEN = Fingerprint({"machine-id": b"\x11" * 16})
REQUEST = PhoneRequest(
    InstallationId(Channel.MAK, bytes(3), bytes(5), bytes(10), phone.commit(SEEN), 20_000, 7), "client", "0" * 32, SEEN
)
FILE = PhoneLicence(REQUEST, bytes(48)).to_bytes()
CLAIM = json.loads(FILE)
KEY = PhoneKey.derive(bytes(32))
KEYSTORE = write_keystore(bytes(31) + b"\1", b"x", bytes(32), bytes(16))


@given(INSTALLATIONS)
def test_installation_ids_read_back(one):
    assert InstallationId.parse(str(one)) == one
    assert InstallationId.from_bytes(one.to_bytes()) == one


@given(CONFIRMATIONS)
def test_confirmation_ids_read_back(one):
    assert ConfirmationId.parse(str(one)) == one


@given(GROUPS, st.integers(0, 10), st.integers(0, 6), st.integers(1, 9))
def test_every_wrong_digit_is_located(groups, group, at, by):
    typed = list(groups)
    digit = str((int(typed[group][at]) + by) % 10)
    typed[group] = typed[group][:at] + digit + typed[group][at + 1 :]
    with pytest.raises(PhoneTypoError) as caught:
        InstallationId.parse("".join(typed))
    assert caught.value.groups == [group + 1]


@given(GROUPS, st.integers(0, 10), st.integers(0, 5))
def test_every_exchange_of_neighbours_is_located(groups, group, at):
    typed = list(groups)
    one, other = typed[group][at : at + 2]
    typed[group] = typed[group][:at] + other + one + typed[group][at + 2 :]
    if one == other:
        return
    with pytest.raises(PhoneTypoError) as caught:
        InstallationId.parse("".join(typed))
    assert caught.value.groups == [group + 1]


@given(CONFIRMATIONS, st.integers(0, 19), st.integers(0, 19))
def test_groups_less_than_ten_apart_cannot_be_exchanged(one, here, there):
    typed = list(one.groups)
    typed[here], typed[there] = typed[there], typed[here]
    if here % 10 == there % 10:
        return
    with pytest.raises(PhoneTypoError) as caught:
        ConfirmationId.parse("".join(typed))
    assert set(caught.value.groups) == {here + 1, there + 1}


@given(CONFIRMATIONS, st.integers(0, 18))
def test_a_skipped_group_is_noticed_at_the_next_one(one, skipped):
    with pytest.raises(PhoneTypoError):
        phone.parse_confirmation_group(skipped + 1, one.groups[skipped + 1])


@given(st.one_of(st.text(), st.text("0123456789- \n", max_size=200)))
def test_any_text_parses_or_is_refused_as_input(text):
    for parse in (InstallationId.parse, ConfirmationId.parse):
        try:
            one = parse(text)
        except InputError:
            continue
        assert parse(str(one)) == one


@given(st.binary(max_size=40))
def test_any_bytes_are_an_installation_id_or_refused_as_input(data):
    try:
        one = InstallationId.from_bytes(data)
    except InputError:
        return
    assert one.to_bytes() == data
    assert one.channel in (Channel.MAK, Channel.RETAIL)


@given(st.binary(max_size=400))
def test_any_file_is_a_phone_licence_or_refused_as_input(data):
    with contextlib.suppress(InputError):
        PhoneLicence.from_bytes(data)


@given(st.data())
def test_a_phone_licence_with_any_members_changed_parses_or_is_refused_as_input(data):
    claim = dict(CLAIM)
    for name in data.draw(st.lists(st.sampled_from(sorted(claim)), min_size=1, max_size=3)):
        claim[name] = data.draw(JSON)
    try:
        one = PhoneLicence.from_bytes(json.dumps(claim).encode())
    except InputError:
        return
    assert PhoneLicence.from_bytes(one.to_bytes()) == one


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_phone_licence_with_any_byte_changed_parses_or_is_refused_as_input(at, by):
    with contextlib.suppress(InputError):
        PhoneLicence.from_bytes(FILE[:at] + bytes([FILE[at] ^ by]) + FILE[at + 1 :])
    with contextlib.suppress(InputError):
        PhoneLicence.from_bytes(FILE[:at])


@given(JSON)
def test_any_json_is_a_key_file_or_a_named_error(value):
    with contextlib.suppress(KeyFileError, PassphraseError):
        read_keystore(json.dumps(value).encode(), b"x", "phone.json")


@given(st.sampled_from(["kdf", "checksum", "cipher"]), JSON)
def test_a_key_file_with_any_part_changed_is_a_named_error(part, value):
    store = json.loads(KEYSTORE)
    store["crypto"][part] = value
    with contextlib.suppress(KeyFileError, PassphraseError):
        read_keystore(json.dumps(store).encode(), b"x", "phone.json")


@settings(max_examples=30)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes_in_the_place_of_points_are_refused_by_name(public, signature):
    with pytest.raises((MalformedError, ConfirmationInvalidError)):
        verify_confirmation(public, b"", signature)
    with pytest.raises(ConfirmationInvalidError):
        verify_confirmation(KEY.public, b"", signature)
