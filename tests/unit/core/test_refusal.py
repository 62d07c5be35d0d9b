# SPDX-License-Identifier: Apache-2.0
"""Refusals: values that become one sentence, whatever a newer issuer puts into them."""

import pytest

from volact.core.encoding import Fields, b64encode
from volact.core.errors import REGISTRY, MalformedError
from volact.core.refusal import MOST_RETRY_AFTER, ClockSkewError, KeyBlockedError, Refusal, RefusedError, SignedRefusal


def signed(**changes):
    inner = {"v": 1, "nonce": b64encode(bytes(16)), "code": "key-blocked", "fields": {"partial": "33GJK"}}
    inner |= {"retry_after": 60} | changes
    return SignedRefusal.from_claim(Fields({"iss": "issuer", "iat": 1, "volact": inner}, "refusal"))


def test_a_known_code_is_its_own_error():
    error = Refusal.of(ClockSkewError, difference=20000, tolerance=14400).error()
    assert type(error) is ClockSkewError
    assert str(error) == "this machine's clock differs from the issuer's by 20000 seconds, 14400 are allowed"
    assert error.difference == 20000


def test_a_code_of_a_newer_issuer_still_gives_a_sentence():
    error = Refusal("quota-of-the-year-2040", {"limit": 3}).error()
    assert type(error) is RefusedError
    assert str(error) == "the issuer refused the request: quota-of-the-year-2040"


def test_an_error_that_is_no_refusal_is_not_made_one():
    assert type(Refusal("malformed", {"what": "x", "why": "y"}).error()) is RefusedError


@pytest.mark.parametrize("fields", [{}, {"other": 1}, {"self": 1, "partial": "x"}, {"partial": "x", "more": "{0}"}])
def test_fields_that_do_not_fit_still_give_a_sentence(fields):
    error = Refusal("key-blocked", fields).error()
    assert isinstance(error, RefusedError)
    assert str(error)
    assert error.hint


@pytest.mark.parametrize("code", [c for c, kind in REGISTRY.items() if issubclass(kind, RefusedError)])
def test_every_refusal_gives_a_sentence_without_its_fields(code):
    error = Refusal(code).error()
    assert isinstance(error, RefusedError)
    assert error.hint


def test_braces_in_a_field_are_text():
    assert str(Refusal.of(KeyBlockedError, partial="{partial!r:>9999999}").error()).count("{partial!r:>9999999}") == 1


def test_a_signed_refusal_comes_back_as_it_was_written():
    refusal = SignedRefusal("issuer", bytes(16), 7, Refusal.of(KeyBlockedError, 60, partial="33GJK"))
    assert SignedRefusal.from_claim(Fields(refusal.to_claim(), "refusal")) == refusal


def test_nobody_can_be_told_to_wait_for_ever():
    assert signed(retry_after=10**9).refusal.retry_after == MOST_RETRY_AFTER == 24 * 3600


@pytest.mark.parametrize(
    "fields",
    [
        {"partial": "a\x1b[2Jb"},
        {"partial": "a" * 201},
        {"partial": "\u202e"},
        {"partial": True},
        {"partial": None},
        {"partial": {}},
        {"Partial": 1},
        {"": 1},
        {"a" * 33: 1},
        {f"f{n}": n for n in range(17)},
        [],
    ],
    ids=["escape", "long", "mark", "true", "null", "object", "capital", "nameless", "long name", "17", "list"],
)
def test_fields_that_could_harm_whoever_reads_them_are_malformed(fields):
    with pytest.raises(MalformedError):
        signed(fields=fields)


@pytest.mark.parametrize("retry_after", [-1, "60", True, None])
def test_a_wait_that_is_no_number_is_malformed(retry_after):
    with pytest.raises(MalformedError):
        signed(retry_after=retry_after)
