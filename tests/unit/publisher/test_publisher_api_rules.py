# SPDX-License-Identifier: Apache-2.0
"""What the HTTP API stands on: rate limits, cursors, kept answers, tokens.  Rules without a server."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, create_engine

from volact.publisher.api.problems import STATUSES
from volact.web.api.idempotency import (
    KEPT_SECONDS,
    Answer,
    Answers,
    IdempotencyKeyReusedError,
    IdempotencyKeyUnfitError,
    check_key,
    idempotency_table,
)
from volact.web.api.limits import Limit, Limiter, spend
from volact.web.api.pagination import CursorUnfitError, Wanted, decode, encode
from volact.web.api.tokens import TokenNeededError, TokenUnknownError, digest, new_secret, read_header

NOW = 1_800_000_000
LIMIT = Limit("test", 10, 60)


@given(st.lists(st.floats(0, 30, allow_nan=False), max_size=60))
def test_no_window_ever_holds_more_than_twice_the_limit_and_a_patient_caller_is_always_let_in(waits) -> None:
    """At most a full burst and then the even pace: in any window of ``seconds`` that is twice the limit."""
    due, now, allowed = None, 0.0, []
    for wait in waits:
        now += wait
        due, decision = spend(due, now, LIMIT)
        if decision.allowed:
            allowed.append(now)
        else:
            assert decision.remaining == 0
            assert spend(due, now + decision.retry_after, LIMIT)[1].allowed
    for start in allowed:
        assert sum(start <= at < start + LIMIT.seconds for at in allowed) <= 2 * LIMIT.requests


def test_a_burst_is_let_in_to_the_last_and_says_what_is_left() -> None:
    limiter = Limiter()
    decisions = [limiter.spend("a", 100.0, LIMIT) for _ in range(12)]
    assert [one.remaining for one in decisions] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert [one.allowed for one in decisions] == [True] * 10 + [False] * 2
    assert limiter.spend("b", 100.0, LIMIT).allowed
    assert decisions[-1].headers() == {"RateLimit-Policy": '"test";q=10;w=60', "RateLimit": '"test";r=0;t=60'}
    assert limiter.spend("a", 106.0, LIMIT).allowed


def test_callers_that_were_quiet_for_long_are_forgotten_first() -> None:
    limiter = Limiter(most=2)
    for name in ("a", "b", "a", "c"):
        limiter.spend(name, 0.0, LIMIT)
    assert limiter.spend("a", 0.0, LIMIT).remaining == 7  # known still
    assert limiter.spend("b", 0.0, LIMIT).remaining == 9


@given(st.tuples(st.integers(0, 2**63 - 1), st.text(st.characters(categories=["L", "N"]), max_size=40)))
def test_a_cursor_gives_its_key_back(key) -> None:
    assert decode(encode(key), (int, str)) == key


@given(st.text(max_size=60) | st.text("ABCabc019-_", max_size=60))
def test_any_other_text_is_no_cursor_or_a_whole_one(text) -> None:
    try:
        number, name = decode(text, (int, str))
    except CursorUnfitError:
        return
    assert 0 <= number < 2**63
    assert isinstance(name, str)


@given(st.lists(st.integers(0, 50), unique=True), st.integers(1, 7))
def test_pages_hold_every_row_once(rows, limit) -> None:
    found: list[int] = []
    cursor = None
    while True:
        page = Wanted(limit, cursor).slice(rows, lambda row: (row,), int)
        found += page.items
        if page.after is None:
            break
        cursor = encode(page.after)
    assert found == sorted(rows)


@pytest.fixture
def kept():
    metadata = MetaData()
    table = idempotency_table(metadata)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as conn:
        yield conn, Answers(table, b"s" * 32, secrets.token_bytes), table
    engine.dispose()


def test_an_answer_is_given_again_to_the_very_same_request_for_a_day(kept) -> None:
    conn, answers, _ = kept
    asked = answers.asked("t1", "k", "POST", "/keys?", b"{}")
    answer = Answer(201, {"ETag": '"x"'}, b'{"key":"SECRET"}')
    assert answers.find(conn, asked, NOW) is None
    answers.keep(conn, asked, answer, NOW)
    assert answers.find(conn, asked, NOW + KEPT_SECONDS - 1) == answer
    assert answers.find(conn, asked, NOW + KEPT_SECONDS) is None
    assert answers.find(conn, answers.asked("t2", "k", "POST", "/keys?", b"{}"), NOW) is None
    for other in (("PATCH", "/keys?", b"{}"), ("POST", "/keys?x", b"{}"), ("POST", "/keys?", b"{ }")):
        with pytest.raises(IdempotencyKeyReusedError):
            answers.find(conn, answers.asked("t1", "k", *other), NOW)
    answers.keep(conn, asked, answer, NOW + KEPT_SECONDS)  # the old one went


def test_a_kept_answer_is_sealed_for_its_place(kept) -> None:
    conn, answers, table = kept
    asked = answers.asked("t1", "k", "POST", "/keys?", b"{}")
    answers.keep(conn, asked, Answer(201, {}, b"SECRET"), NOW)
    (sealed,) = conn.execute(table.select().with_only_columns(table.c.sealed)).scalars()
    assert b"SECRET" not in sealed
    # With the key of another folder, or moved to another row, it is nothing: the request is a new one.
    assert Answers(table, b"o" * 32, secrets.token_bytes)._open(asked, sealed) is None
    assert answers._open(answers.asked("t2", "k", "POST", "/keys?", b"{}"), sealed) is None


@pytest.mark.parametrize("text", ["", '""', "a b", "ä", "x\n", "x" * 201])
def test_a_key_is_visible_ascii(text) -> None:
    with pytest.raises(IdempotencyKeyUnfitError):
        check_key(text)


def test_quotes_around_a_key_do_not_matter() -> None:
    assert check_key('"abc"') == check_key("abc") == "abc"


def test_a_token_is_read_from_its_header_and_nothing_else_is_one() -> None:
    secret = new_secret(secrets.token_bytes)
    assert read_header(f"Bearer {secret}") == read_header(f"bearer  {secret}") == digest(secret)
    for header in (None, "", "Basic x", "vlt_x"):
        with pytest.raises(TokenNeededError):
            read_header(header)
    for header in ("Bearer ", "Bearer x", f"Bearer {secret}A", f"Bearer {secret[:-1]}", f"Bearer {secret[:-1]}é"):
        with pytest.raises(TokenUnknownError):
            read_header(header)


def test_every_error_has_a_status_and_only_one_shows_500() -> None:
    from volact.core.errors import REGISTRY, VolactError

    assert {code for code, kind in REGISTRY.items() if STATUSES.status(kind) == 500} >= {"internal-error"}
    for code, kind in REGISTRY.items():
        assert 400 <= STATUSES.status(kind) < 600, code
    assert STATUSES.status(VolactError) == 500
