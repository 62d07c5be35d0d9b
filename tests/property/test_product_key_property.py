# SPDX-License-Identifier: Apache-2.0
"""Product keys, for all keys and all texts: round trip, located typing errors, parses or raises one of four errors."""

from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from volact.core.product_key import (
    ALPHABET,
    Channel,
    ProductKey,
    ProductKeyFormatError,
    ProductKeyMalformedError,
    ProductKeySymbolError,
    ProductKeyTypoError,
)

NAMED = (ProductKeyMalformedError, ProductKeySymbolError, ProductKeyTypoError, ProductKeyFormatError)

keys = st.builds(
    ProductKey.new,
    st.sampled_from(Channel),
    st.integers(0, 0xFFF),
    st.integers(0, 0xFFFF),
    st.binary(min_size=7, max_size=7),
)
groups, places = st.integers(0, 4), st.integers(0, 4)
symbols = st.sampled_from(ALPHABET)


def wrong_groups(text: list[str]) -> list[int]:
    with pytest.raises(ProductKeyTypoError) as caught:
        ProductKey.parse("".join(text))
    return caught.value.groups


def exchange(text: list[str], one: int, other: int) -> None:
    assume(text[one] != text[other])
    text[one], text[other] = text[other], text[one]


@given(keys)
def test_a_key_reads_back_from_its_spelling(key):
    text = str(key)
    assert ProductKey.strict(text) == ProductKey.parse(text) == key
    assert str(ProductKey.parse(text.lower().replace("-", ""))) == text


@given(keys, keys)
def test_different_keys_are_spelled_differently(one, other):
    assert (one == other) == (str(one) == str(other))


@given(keys, groups, places, symbols)
def test_a_wrong_symbol_is_located_at_its_group(key, group, place, symbol):
    text = list(str(key).replace("-", ""))
    assume(text[5 * group + place] != symbol)
    text[5 * group + place] = symbol
    assert wrong_groups(text) == [group + 1]


@given(keys, groups, places, places)
def test_two_exchanged_symbols_are_located_at_their_group(key, group, one, other):
    text = list(str(key).replace("-", ""))
    exchange(text, 5 * group + one, 5 * group + other)
    assert wrong_groups(text) == [group + 1]


@given(keys, st.sampled_from([4, 9, 14, 19]))
def test_neighbours_exchanged_across_a_hyphen_are_located_at_both_groups(key, last):
    text = list(str(key).replace("-", ""))
    exchange(text, last, last + 1)
    assert wrong_groups(text) == [last // 5 + 1, last // 5 + 2]


@given(keys, groups, groups)
def test_exchanged_groups_are_both_located(key, one, other):
    assume(one != other)
    parts = str(key).split("-")
    parts[one], parts[other] = parts[other], parts[one]
    assert wrong_groups(["-".join(parts)]) == sorted([one + 1, other + 1])


@given(keys, st.dictionaries(groups, st.tuples(places, symbols), min_size=1))
def test_wrong_symbols_in_several_groups_are_reported_together(key, changes):
    text = list(str(key).replace("-", ""))
    for group, (place, symbol) in changes.items():
        assume(text[5 * group + place] != symbol)
        text[5 * group + place] = symbol
    assert wrong_groups(text) == sorted(group + 1 for group in changes)


@given(st.one_of(st.text(), st.text(ALPHABET + "-oO0 ", min_size=20, max_size=32), st.binary().map(bytes.hex)))
@example("\udc80" * 25)
@example("ß" * 25)
@example("\ufdfa")  # one character that compatibility normalisation makes 18 of
def test_any_text_parses_or_raises_a_named_error(text):
    with suppress(*NAMED):
        assert ProductKey.strict(str(ProductKey.parse(text))) == ProductKey.parse(text)


@given(st.lists(st.lists(symbols, min_size=4, max_size=4), min_size=5, max_size=5))
def test_any_symbols_with_agreeing_checks_are_a_key_or_of_an_unknown_format(data):
    checked = [
        [*part, ALPHABET[(sum(w * ALPHABET.index(s) for w, s in zip((2, 3, 4, 5), part, strict=True)) + n) % 23]]
        for n, part in enumerate(data, 1)
    ]
    text = "-".join("".join(part) for part in checked)
    with suppress(ProductKeyFormatError):
        assert str(ProductKey.parse(text)) == text


@given(keys, st.data())
def test_any_change_of_one_character_is_refused_or_the_same_key(key, data):
    text = str(key)
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters()) + text[place + 1 :]
    with suppress(*NAMED):
        assert ProductKey.parse(changed) == key
