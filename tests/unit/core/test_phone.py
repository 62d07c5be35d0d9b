# SPDX-License-Identifier: Apache-2.0
"""Installation and confirmation IDs: what a typing error does, group by group, and the published vectors."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from volact.core import phone
from volact.core.errors import VolactError
from volact.core.fingerprint import Fingerprint
from volact.core.phone import (
    ConfirmationId,
    InstallationId,
    PhoneDayError,
    PhoneFormatError,
    PhoneLengthError,
    PhoneReferenceError,
    PhoneSymbolError,
    PhoneTypoError,
    Subject,
)
from volact.core.policy import DAY
from volact.core.product_key import Channel

REPOSITORY = Path(__file__).resolve().parents[3]
VECTORS = json.loads((REPOSITORY / "tests/vectors/phone.json").read_bytes())


def subject(vector):
    return Subject(vector["root"], vector["product"], vector["edition"], vector["group"], vector["key_id"])


def installation(vector):
    fingerprint = Fingerprint.from_claim(vector["fingerprint"])
    machine = bytes.fromhex(vector["machine"])
    channel = Channel(vector["channel"])
    return InstallationId.new(subject(vector), channel, machine, fingerprint, vector["now"], vector["serial"])


def each(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["name"])


def refused_as(vector, parse):
    with pytest.raises(VolactError) as caught:
        parse(vector["text"])
    assert caught.value.code == vector["error"]
    assert list(caught.value.fields.get("groups", [])) == vector.get("groups", [])


@each(VECTORS["activations"])
def test_an_installation_id_is_made_of_its_fields_and_read_back(vector):
    made = installation(vector)
    assert (str(made), made.to_bytes().hex()) == (vector["installation_id"], vector["bytes"])
    assert made.reference == vector["reference"]
    assert InstallationId.parse(vector["installation_id"]) == made


@each(VECTORS["activations"])
def test_both_sides_rebuild_the_same_message(vector):
    at_the_desk = InstallationId.parse(vector["installation_id"])
    assert phone.message(subject(vector), at_the_desk).hex() == vector["message"]


@each(VECTORS["activations"])
def test_a_confirmation_id_is_spelled_as_it_was_read(vector):
    confirmation = ConfirmationId.parse(vector["confirmation_id"])
    assert str(confirmation) == vector["confirmation_id"]
    assert confirmation.reference == vector["reference"]


@each(VECTORS["accepted"])
def test_people_write_digits_in_many_ways(vector):
    assert str(InstallationId.parse(vector["text"])) == vector["installation_id"]


@each(VECTORS["refused_installation_ids"])
def test_refused_installation_id(vector):
    refused_as(vector, InstallationId.parse)


@each(VECTORS["refused_confirmation_ids"])
def test_refused_confirmation_id(vector):
    refused_as(vector, ConfirmationId.parse)


@pytest.fixture
def mine():
    return installation(VECTORS["activations"][0])


def test_a_group_is_accepted_at_its_own_place_only(mine):
    first, second = mine.groups[:2]
    assert phone.parse_installation_group(1, f" {first[:6]}-{first[6]} ") == first
    with pytest.raises(PhoneTypoError) as caught:
        phone.parse_installation_group(2, first)
    assert caught.value.groups == [2]
    assert str(caught.value) == "the installation ID has a mistake in group 2"
    with pytest.raises(PhoneTypoError):
        phone.parse_installation_group(1, second)


@pytest.mark.parametrize("text", ["", "123456", "12345678", "1" * 100_000])
def test_a_group_that_is_too_short_or_too_long_is_named(text):
    with pytest.raises(PhoneLengthError, match=r"group 4 of the confirmation ID has \d+ digits instead of 7"):
        phone.parse_confirmation_group(4, text)


def test_a_group_with_a_letter_is_refused_by_its_letter():
    with pytest.raises(PhoneSymbolError, match="'O'"):
        phone.parse_confirmation_group(1, "12345O7")


def test_a_lost_digit_is_located_at_the_first_group_that_does_not_fit(mine):
    groups = list(mine.groups)
    groups[5] = groups[5][:3] + groups[5][4:]
    with pytest.raises(PhoneLengthError) as caught:
        InstallationId.parse("".join(groups))
    assert (caught.value.have, caught.value.need, caught.value.groups) == (76, 77, [6])


def test_every_group_that_is_wrong_is_named(mine):
    swapped = list(mine.groups)
    swapped[1], swapped[2] = swapped[2], swapped[1]
    with pytest.raises(PhoneTypoError, match="groups 2 and 3"):
        InstallationId.parse("-".join(swapped))


def test_the_first_group_tells_that_another_installation_is_answered(mine):
    confirmation = ConfirmationId(mine.reference, bytes(48))
    phone.check_reference(confirmation.groups[0], mine.reference)
    with pytest.raises(PhoneReferenceError):
        phone.check_reference(confirmation.groups[0], replace(mine, serial=mine.serial + 1).reference)


@pytest.mark.parametrize("now", [-1, (phone.LAST_DAY + 1) * DAY])
def test_a_clock_before_1970_or_after_2149_is_named(now):
    vector = VECTORS["activations"][0]
    with pytest.raises(PhoneDayError):
        InstallationId.new(subject(vector), Channel.MAK, bytes(32), Fingerprint({}), now, 0)


@pytest.mark.parametrize("change", [{"channel": Channel.VOLUME}, {"machine": bytes(9)}, {"day": 65536}, {"serial": -1}])
def test_fields_that_do_not_fit_are_a_caller_s_mistake(mine, change):
    with pytest.raises(RuntimeError):
        replace(mine, **change)


def test_stored_bytes_of_another_length_are_refused(mine):
    with pytest.raises(PhoneFormatError):
        InstallationId.from_bytes(mine.to_bytes() + b"\0")


def test_the_message_cannot_be_cut_differently():
    """Product and edition are framed: moving a letter from one to the other changes the message."""
    vector = VECTORS["activations"][0]
    one = replace(subject(vector), product="acme", edition="cad")
    other = replace(subject(vector), product="acmec", edition="ad")
    assert phone.message(one, installation(vector)) != phone.message(other, installation(vector))
    assert one.edition_tag != other.edition_tag


def test_the_script_writes_these_vectors(tmp_path):
    made = tmp_path / "phone.json"
    subprocess.run([sys.executable, REPOSITORY / "tools/make_phone_vectors.py", made], check=True)
    assert made.read_bytes() == (REPOSITORY / "tests/vectors/phone.json").read_bytes()
