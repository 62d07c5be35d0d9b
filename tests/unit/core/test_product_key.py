# SPDX-License-Identifier: Apache-2.0
"""Product keys: what a person may type, what is refused and how well the refusal tells where to look."""

import itertools
import json

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from volact.core.errors import REGISTRY, InputError
from volact.core.product_key import (
    ALPHABET,
    CHANNEL_TAGS,
    Channel,
    ProductKey,
    ProductKeyFormatError,
    ProductKeyMalformedError,
    ProductKeySymbolError,
    ProductKeyTypoError,
    publisher_tag,
)

KEY = ProductKey.new(Channel.KMS_HOST, publisher_tag=0xABC, group=17, secret_bytes=bytes(range(1, 8)))
TEXT = "AEANN-WPM73-M3TEA-FNH9P-33GJK"


def test_alphabet_is_23_symbols_without_look_alikes():
    assert len(set(ALPHABET)) == len(ALPHABET) == 23
    assert not set(ALPHABET) & set("0OQ1IL5S2Z8BU")


def test_a_key_has_one_spelling():
    assert str(KEY) == TEXT
    assert ProductKey.parse(TEXT) == KEY
    assert ProductKey.strict(TEXT) == KEY


def test_channel_publisher_and_group_are_readable_offline():
    key = ProductKey.parse(TEXT)
    assert (key.channel, key.publisher_tag, key.group) == (Channel.KMS_HOST, 0xABC, 17)
    assert key.partial == "33GJK"


def test_channel_tags_are_part_of_the_format():
    assert {str(channel): tag for channel, tag in CHANNEL_TAGS.items()} == {
        "retail": 1, "oem": 2, "mak": 3, "kms-host": 4, "volume": 5, "vm": 6, "vm-host": 7,
    }  # fmt: skip


@pytest.mark.parametrize("channel", Channel)
def test_every_channel_round_trips_at_the_edges_of_its_fields(channel):
    for filler in (0x00, 0xFF):
        key = ProductKey.new(channel, 0xFFF & (filler << 4 | filler), filler << 8 | filler, bytes([filler]) * 7)
        assert ProductKey.strict(str(key)) == key


@pytest.mark.parametrize(
    "pasted",
    [
        TEXT.lower(),
        TEXT.replace("-", ""),
        TEXT.replace("-", " "),
        f"  {TEXT}\r\n",
        TEXT.replace("-", "\u2011"),  # non-breaking hyphen
        TEXT.replace("-", "\u2013"),  # en dash, as word processors put it
        TEXT.replace("-", "\u2212"),  # minus sign
        TEXT.replace("-", "\u00a0-\u00a0"),
        "\ufeff" + TEXT.replace("-", "-\u200b"),  # byte order mark, zero-width space
        " ".join(TEXT),
        TEXT.translate({ord(c): ord(c) + 0xFEE0 for c in ALPHABET}),  # full-width, as East Asian input methods type
    ],
)
def test_paste_is_accepted_but_is_not_canonical(pasted):
    assert ProductKey.parse(pasted) == KEY
    with pytest.raises(ProductKeyMalformedError, match="canonical"):
        ProductKey.strict(pasted)


@pytest.mark.parametrize("text", ["", "-----", TEXT[:-1], TEXT + "A", TEXT * 2])
def test_wrong_length_says_how_many_symbols_there_are(text):
    with pytest.raises(ProductKeyMalformedError) as caught:
        ProductKey.parse(text)
    assert caught.value.have == len(text.replace("-", ""))
    assert f"{caught.value.have} symbols instead of 25" in str(caught.value)


def test_a_lost_symbol_is_located_while_the_hyphens_are_there():
    with pytest.raises(ProductKeyMalformedError, match=r"24 symbols instead of 25 \(group 3 has 4\)"):
        ProductKey.parse("AEANN-WPM73-M3TE-FNH9P-33GJK")


@pytest.mark.parametrize("symbol", "0OQ1IL5S2Z8BUobé#'")
def test_a_symbol_no_key_contains_is_named_with_its_place(symbol):
    with pytest.raises(ProductKeySymbolError) as caught:
        ProductKey.parse(TEXT[:7] + symbol + TEXT[8:])
    error = caught.value
    assert (error.position, error.group, error.positions) == (7, 2, [7])
    assert "2nd symbol of group 2" in str(error)
    assert "never the look-alikes 0 O Q" in error.hint


def test_all_unknown_symbols_are_reported_together():
    with pytest.raises(ProductKeySymbolError) as caught:
        ProductKey.parse("0EANN-WPM73-M3TEA-FNH9P-33GJ1")
    assert caught.value.positions == [1, 25]


def test_a_typing_error_is_located_at_its_group():
    with pytest.raises(ProductKeyTypoError, match=r"typing error in group 3$") as caught:
        ProductKey.parse("AEANN-WPM73-M3TEC-FNH9P-33GJK")
    assert caught.value.groups == [3]


@pytest.mark.parametrize("places", list(itertools.combinations(range(5), 2)), ids=str)
def test_two_equal_symbols_mistyped_alike_are_located(places):
    keys = (str(ProductKey(Channel.MAK, 0, 0, secret * 0x9E3779B97F4A % 2**56)) for secret in range(2000))
    text = next(text for text in keys if len({text[24 + place] for place in places}) == 1)
    for symbol in set(ALPHABET) - {text[24 + places[0]]}:
        mistyped = "".join(symbol if at - 24 in places else old for at, old in enumerate(text))
        with pytest.raises(ProductKeyTypoError) as caught:
            ProductKey.parse(mistyped)
        assert caught.value.groups == [5]


def test_several_wrong_groups_are_reported_together():
    with pytest.raises(ProductKeyTypoError, match="groups 1, 3 and 5") as caught:
        ProductKey.parse("EAANN-WPM73-M3TEC-FNH9P-33GKK")
    assert caught.value.groups == [1, 3, 5]


def test_a_group_in_anothers_place_is_a_typing_error_of_both():
    with pytest.raises(ProductKeyTypoError) as caught:
        ProductKey.parse("AEANN-M3TEA-WPM73-FNH9P-33GJK")
    assert caught.value.groups == [2, 3]


@pytest.mark.parametrize("symbol", ALPHABET)
def test_the_same_symbol_25_times_is_no_key(symbol):
    with pytest.raises(ProductKeyTypoError):
        ProductKey.parse(symbol * 25)


def spell(number: int) -> str:
    """A key from any number: a second, slower reading of the specification, so that it can spell refused keys too."""
    digits = [number // 23 ** (19 - i) % 23 for i in range(20)]
    groups = [digits[i : i + 4] for i in range(0, 20, 4)]
    for place, (a, b, c, d) in enumerate(groups):
        groups[place] = [a, b, c, d, (2 * a + 3 * b + 4 * c + 5 * d + place + 1) % 23]
    return "-".join("".join(ALPHABET[value] for value in group) for group in groups)


def test_the_second_reading_of_the_specification_agrees():
    assert spell(1 << 88 | 4 << 84 | 0xABC << 72 | 17 << 56 | 0x01020304050607) == TEXT


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (0 << 88 | 1 << 84, "format 0"),
        (2 << 88 | 1 << 84, "format 2"),
        (3 << 88 | 1 << 84, "format 3"),
        (1 << 90, "format 4"),
        (23**20 - 1, "format 5"),
        (1 << 88 | 0 << 84, "channel 0"),
        (1 << 88 | 8 << 84, "channel 8"),
        (1 << 88 | 15 << 84, "channel 15"),
    ],
)
def test_unknown_formats_and_channels_are_refused_by_their_own_name(number, found):
    with pytest.raises(ProductKeyFormatError, match=f"{found}$"):
        ProductKey.parse(spell(number))


def test_repr_does_not_reveal_the_key():
    assert repr(KEY) == "<ProductKey kms-host group=17 …33GJK>"
    assert "AEANN" not in f"{[KEY]!r}"
    assert str(KEY.secret) not in repr(KEY)


def test_key_id_is_the_documented_derivation_and_shows_nothing_of_the_key():
    kdf = Scrypt(salt=b"volact/product-key/v1", length=16, n=4096, r=8, p=1)  # not the library that the code uses
    expected = kdf.derive(TEXT.encode()).hex()
    assert KEY.key_id == ProductKey.parse(TEXT.lower()).key_id == expected


def test_publisher_tag_is_the_first_12_bits_of_the_root_fingerprint():
    assert publisher_tag("sha256:abcd" + "00" * 30) == 0xABC


@pytest.mark.parametrize(
    "fields", [(0x1000, 0, bytes(7)), (-1, 0, bytes(7)), (0, 0x10000, bytes(7)), (0, 0, bytes(6)), (0, 0, bytes(8))]
)
def test_fields_that_do_not_fit_are_the_callers_fault(fields):
    with pytest.raises(RuntimeError):
        ProductKey.new(Channel.MAK, *fields)


@pytest.mark.parametrize("text", ["", TEXT[:7] + "\udc80" + TEXT[8:], "AEANN-WPM73-M3TEC-FNH9P-33GJK", spell(0)])
def test_errors_are_registered_and_can_be_shown_as_json(text):
    with pytest.raises(InputError) as caught:
        ProductKey.parse(text)
    assert REGISTRY[caught.value.code] is type(caught.value)
    assert json.loads(json.dumps(caught.value.to_dict()))["code"] == caught.value.code
    str(caught.value).encode()  # printable, whatever was typed
