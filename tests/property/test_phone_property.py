# SPDX-License-Identifier: Apache-2.0
"""Every ID reads back; every slip of one digit, every exchange of neighbours is caught, and located."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core import phone
from volact.core.errors import InputError
from volact.core.phone import ConfirmationId, InstallationId, PhoneTypoError
from volact.core.product_key import Channel

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
