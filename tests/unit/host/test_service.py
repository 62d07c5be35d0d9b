# SPDX-License-Identifier: Apache-2.0
"""The host's service in one process: real keys, real store, a clock that is set."""

import asyncio
import dataclasses
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.site import Request, Vendor, make_request
from volact.core.count import day_of
from volact.core.encoding import b64encode
from volact.core.errors import StoreError, VolactError
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.host import service as service_module
from volact.host.application import load_serving, open_store
from volact.host.issuing import Intervals, decide
from volact.host.recording import HOST_SCOPE
from volact.host.service import HostService
from volact.host.store import HostStore
from volact.sealing import envelope, jws, verify
from volact.sealing.envelope import OpeningKey
from volact.sealing.keys import LocalKey
from volact.testing import FakeClock
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP
from volact.wire.server import BusyError, IssuerUnknownError


@dataclasses.dataclass
class Here:
    """One host, its service and its publisher, on one clock."""

    vendor: Vendor
    service: HostService
    store: HostStore
    opening: OpeningKey
    clock: FakeClock

    def request(self, number: int, **changes: Any) -> Request:
        return make_request(self.vendor, self.opening, number, **{"at": self.clock(), **changes})

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def ask(self, *requests: Request) -> list[Any]:
        """All at once: the answers, opened and verified, or the errors."""

        async def all_at_once() -> list[Any]:
            asked = (self.service.activate(self.opening.id, one.sealed) for one in requests)
            return await asyncio.gather(*asked, return_exceptions=True)

        return [self._read(one, answer) for one, answer in zip(requests, self.run(all_at_once()), strict=True)]

    def count(self, group: int = CLIENT_GROUP) -> int:
        (scope,) = [one.id for one in self.store.scopes() if one.product_group == group]
        return self.store.count(scope, day_of(self.clock()))

    def _read(self, request: Request, answer: Any) -> Any:
        if isinstance(answer, BaseException):
            return answer
        try:
            return request.open(answer, self.vendor.publisher.trust, group=None)
        except VolactError as exc:
            return exc


@pytest.fixture
def here(tmp_path: Path):
    yield from _host(tmp_path)


def _host(path: Path, **policy: Any):
    clock = FakeClock()
    vendor = Vendor.make(path, clock=clock, **policy)
    folder = vendor.give_host(path / "host")
    store = open_store(folder)
    service = HostService(store, clock)
    service.use(load_serving(folder, store, "kms1.example.com"), Intervals())
    (key,) = folder.host_keys()
    yield Here(vendor, service, store, key.opening_key(folder.passphrase()), clock)
    store.close()


def code_of(answer: Any) -> str:
    if isinstance(answer, SignedRefusal):
        return answer.refusal.code
    assert isinstance(answer, VolactError), answer
    return answer.code


def test_each_new_machine_is_told_the_count_with_itself_in_it(here):
    assert [here.ask(here.request(n))[0].licence.count for n in range(1, 6)] == [1, 2, 3, 4, 5]


def test_the_same_machine_counts_once_however_often_it_asks(here):
    key = LocalKey.generate()
    assert [here.ask(here.request(1, key=key))[0].licence.count for _ in range(4)] == [1, 1, 1, 1]
    same = here.request(2)
    answers = here.ask(same, same, same)
    assert [answer.licence.count for answer in answers] == [2, 2, 2]


def test_a_hundred_at_once_are_answered_in_few_transactions_and_each_with_a_count_of_its_own(here, monkeypatch):
    batches: list[int] = []
    record = here.store.record

    def counted(seen: list[Any], *rest: Any) -> Any:
        batches.append(len(seen))
        return record(seen, *rest)

    monkeypatch.setattr(here.store, "record", counted)
    answers = here.ask(*(here.request(n) for n in range(100)))
    assert sorted(answer.licence.count for answer in answers) == list(range(1, 101))
    assert sum(batches) == 100
    assert len(batches) <= 4
    assert max(batches) <= service_module.MAX_BATCH


def test_who_sends_rubbish_fills_no_log_and_is_counted_all_the_same(here):
    garbage = dataclasses.replace(here.request(1), sealed=b"x" * 300)
    most = service_module.UNPROVEN_EVENTS

    def events() -> int:
        return len(list(here.store.events(codes=["seal-broken"])))

    here.ask(*[garbage] * (most + 40))
    assert events() == most
    assert here.store.counters(HOST_SCOPE)["refused:seal-broken"] == most + 40
    late = here.request(3, at=here.clock() - 5 * 3600)
    here.ask(late)
    assert len(list(here.store.events(codes=["clock-skew"]))) == 1
    here.clock.advance(seconds=60)
    here.ask(garbage)
    assert events() == most + 1


def test_good_and_bad_requests_of_one_batch_get_each_their_own_answer(here):
    others_key = OpeningKey.generate()
    garbage = dataclasses.replace(here.request(1), sealed=b"x" * 300)
    elsewhere = make_request(here.vendor, others_key, 2, at=here.clock())
    late = here.request(3, at=here.clock() - 5 * 3600)
    answers = here.ask(
        here.request(4),
        garbage,
        elsewhere,
        late,
        here.request(5, edition="giant"),
        here.request(6, product="beta-tool"),
        here.request(7, channel=Channel.MAK),
        here.request(8, issuer="0" * 32),
        here.request(9, edition="server"),
    )
    assert answers[0].licence.count == 1
    assert list(map(code_of, answers[1:8])) == [
        "seal-broken",
        "seal-broken",
        "clock-skew",
        "edition-unknown",
        "product-unknown",
        "channel-not-served",
        "nonce-mismatch",  # "wrong-issuer", which only who made such a request can take for an answer to it
    ]
    assert answers[8].licence.group == SERVER_GROUP
    assert (here.count(CLIENT_GROUP), here.count(SERVER_GROUP)) == (1, 1)


def test_what_cannot_be_read_for_no_good_reason_takes_nobody_else_along(here, monkeypatch):
    real = decide

    def broken(request: ActivationRequest, **how: Any) -> Any:
        if request.name == "odd":
            raise RuntimeError("a fault of ours")
        return real(request, **how)

    monkeypatch.setattr(service_module, "decide", broken)
    good, odd, other = here.ask(here.request(1), here.request(2, name="odd"), here.request(3))
    assert isinstance(odd, RuntimeError)
    assert {good.licence.count, other.licence.count} == {1, 2}
    assert here.store.counters(HOST_SCOPE)["refused:internal"] == 1


def test_what_cannot_be_signed_takes_nobody_else_along(here, monkeypatch):
    real = envelope.seal_answer

    def broken(key: bytes, nonce: bytes, text: bytes) -> bytes:
        if nonce == bytes(16):
            raise RuntimeError("a fault of ours")
        return real(key, nonce, text)

    monkeypatch.setattr(envelope, "seal_answer", broken)
    good, odd = here.ask(here.request(1), here.request(2, nonce=bytes(16)))
    assert isinstance(odd, RuntimeError)
    assert good.licence.count in (1, 2)


def test_nothing_is_acknowledged_that_the_store_did_not_take(here, monkeypatch):
    """A full disk: every request of the batch gets the error, and the host goes on when there is room again."""
    here.ask(here.request(0))
    pages = _full(here.store)
    answers = here.ask(*(here.request(n) for n in range(1, 65)))
    assert {code_of(answer) for answer in answers} == {"disk-full"}
    assert all(isinstance(answer, StoreError) for answer in answers)
    assert here.count() == 1
    _room(here.store, pages)
    assert here.ask(here.request(100))[0].licence.count == 2


def _full(store: HostStore) -> int:
    """SQLite's own limit of pages, set to what there is: to SQLite that is a full disk."""
    from volact.sql.transaction import write_cursor

    with write_cursor(store._engine) as cursor:
        limit = cursor.execute("PRAGMA max_page_count").fetchone()[0]
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
    _room(store, pages)
    return int(limit)


def _room(store: HostStore, pages: int) -> None:
    from volact.sql.transaction import write_cursor

    with write_cursor(store._engine) as cursor:
        cursor.execute(f"PRAGMA max_page_count = {pages}")


def test_beyond_the_soft_limit_newcomers_are_asked_to_come_back_signed_and_are_not_counted(here, monkeypatch):
    monkeypatch.setattr(service_module, "SOFT_LIMIT", 10)
    answers = here.ask(*(here.request(n) for n in range(30)))
    refused = [answer for answer in answers if isinstance(answer, SignedRefusal)]
    assert {answer.refusal.code for answer in refused} == {"issuer-busy"}
    assert {answer.refusal.retry_after for answer in refused} == {service_module.BACK_OFF}
    assert len(refused) == 20
    assert here.count() == 10


def test_beyond_the_hard_limit_they_are_turned_away_unread(here, monkeypatch):
    monkeypatch.setattr(service_module, "HARD_LIMIT", 10)
    answers = here.ask(*(here.request(n) for n in range(30)))
    turned_away = [answer for answer in answers if isinstance(answer, BusyError)]
    assert len(turned_away) == 20
    assert all(error.retry_after == service_module.BACK_OFF for error in turned_away)
    assert here.count() == 10
    assert here.ask(here.request(99))[0].licence.count == 11


def test_a_client_that_hangs_up_is_counted_and_holds_nobody_up(here):
    async def hang_up() -> Any:
        first = asyncio.ensure_future(here.service.activate(here.opening.id, here.request(1).sealed))
        second = asyncio.ensure_future(here.service.activate(here.opening.id, (kept := here.request(2)).sealed))
        await asyncio.sleep(0)
        first.cancel()
        return kept, await second

    kept, answer = here.run(hang_up())
    assert here._read(kept, answer).licence.count == 2


def test_a_graceful_stop_answers_everybody_who_was_let_in(here):
    requests = [here.request(n) for n in range(200)]

    async def stop_amid() -> list[Any]:
        waiting = [asyncio.ensure_future(here.service.activate(here.opening.id, one.sealed)) for one in requests]
        await asyncio.sleep(0)
        await here.service.finish()
        assert all(one.done() for one in waiting)
        return [one.result() for one in waiting]

    answers = here.run(stop_amid())
    assert {here._read(one, answer).licence.machine for one, answer in zip(requests, answers, strict=True)} == {
        one.machine for one in requests
    }
    here.run(here.service.finish())  # with nothing to wait for


def test_keys_that_are_replaced_still_answer_those_who_wait(here):
    async def replace_amid() -> Any:
        request = here.request(1)
        waiting = asyncio.ensure_future(here.service.activate(here.opening.id, request.sealed))
        await asyncio.sleep(0)
        here.service.use([], Intervals())
        return request, await waiting

    request, answer = here.run(replace_amid())
    assert here._read(request, answer).licence.count == 1
    assert not here.service.ready
    assert isinstance(here.ask(here.request(2))[0], IssuerUnknownError)


def test_readiness_ends_with_the_certificate(here):
    assert here.service.ready
    here.clock.advance(days=365)
    assert not here.service.ready


# ---- descriptors


def describe(here: Here, **changes: Any) -> str:
    values: dict[str, Any] = {"root": here.vendor.root, "product": "acme-cad", "group": CLIENT_GROUP}
    return str(here.run(here.service.descriptor(**values | {"nonce": b"n" * 16} | changes)))


def test_a_descriptor_carries_the_nonce_and_ends_with_the_certificate(here):
    def claims() -> dict[str, Any]:
        return jws.parse(describe(here), verify.DESCRIPTOR).claims()._value

    first = claims()
    assert first["exp"] == here.clock() + DAY
    assert b64encode(b"n" * 16) in str(first)
    here.clock.advance(days=364, hours=12)
    assert claims()["exp"] == here.clock.now - 364 * DAY - DAY // 2 + 365 * DAY


def test_another_root_or_product_is_told_that_no_key_is_activated_for_it(here):
    for changes in ({"root": "sha256:" + "0" * 64}, {"product": "beta-tool"}, {"product": ""}, {"root": ""}):
        with pytest.raises(VolactError) as caught:
            describe(here, **changes)
        assert caught.value.code == "no-activated-key"


def test_a_group_without_a_key_gets_a_descriptor_so_that_the_refusal_can_be_signed(here):
    assert describe(here, group=999)


@pytest.mark.parametrize("size", [1, 15, 17, 64])
def test_a_nonce_has_sixteen_bytes_or_none(here, size):
    assert describe(here, nonce=b"")
    with pytest.raises(VolactError) as caught:
        describe(here, nonce=bytes(size))
    assert caught.value.code == "nonce-size"


# ---- 180 days


def test_a_machine_that_does_not_renew_leaves_the_count_after_thirty_days(here):
    keys = [LocalKey.generate() for _ in range(30)]
    here.ask(*(here.request(n, key=key) for n, key in enumerate(keys)))
    assert here.count() == 30
    for week in range(1, 27):  # 20 machines renew each week for 180 days, ten have gone
        here.clock.advance(days=7)
        answers = here.ask(*(here.request(n, key=key) for n, key in enumerate(keys[:20])))
        expected = 30 if week * 7 < 30 else 20
        assert {answer.licence.count for answer in answers} == {expected}, week
        assert {answer.licence.expires_at for answer in answers} == {here.clock() + 180 * DAY}
    assert here.count() == 20
    here.clock.advance(days=29)
    assert here.count() == 20
    here.clock.advance(days=1)
    assert here.count() == 0
    assert here.ask(here.request(0, key=keys[0]))[0].licence.count == 1


def test_a_lease_never_outlasts_the_hosts_certificate(here):
    ends = here.clock() + 365 * DAY
    here.clock.advance(days=300)
    (answer,) = here.ask(here.request(1))
    assert answer.licence.expires_at == ends
    here.clock.advance(days=60)
    (answer,) = here.ask(here.request(2))
    assert answer.licence.expires_at == ends


def test_the_hosts_intervals_reach_the_licence(here):
    serving = list(here.service._serving.values())
    here.service.use(serving, Intervals(15, 43200))
    licence = here.ask(here.request(1))[0].licence
    assert (licence.activation_interval_minutes, licence.renewal_interval_minutes) == (15, 43200)


def test_intervals_that_are_changed_reach_the_next_licence_of_the_same_edition(here):
    before = here.ask(here.request(1))[0].licence
    here.service.use(list(here.service._serving.values()), Intervals(16, 43_000))
    after = here.ask(here.request(2))[0].licence
    assert (before.activation_interval_minutes, before.renewal_interval_minutes) != (16, 43_000)
    assert (after.activation_interval_minutes, after.renewal_interval_minutes) == (16, 43_000)


def test_a_batch_under_way_while_a_key_is_replaced_leaves_nothing_of_the_old_one_behind(here, monkeypatch):
    (old,) = here.service._serving.values()
    new = dataclasses.replace(old, key_id="9" * 32)
    record = here.store.record

    def replaced_amid(*batch: Any) -> Any:
        here.service.use([new], Intervals())
        return record(*batch)

    monkeypatch.setattr(here.store, "record", replaced_amid)
    assert here.ask(here.request(1))[0].licence.key_id == old.key_id
    monkeypatch.undo()
    assert [answer.licence.key_id for answer in here.ask(here.request(2), here.request(3))] == [new.key_id] * 2


def test_identical_hardware_counts_once_where_the_policy_says_so(tmp_path):
    for here in _host(tmp_path, collapse_identical_hardware=True):
        answers = [here.ask(here.request(7))[0] for _ in range(5)]
        assert [answer.licence.count for answer in answers] == [1] * 5
        assert here.ask(here.request(8))[0].licence.count == 2


# ---- whatever comes


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    yield from _host(tmp_path_factory.mktemp("lasting"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=500))
def test_any_bytes_get_one_of_the_named_errors(lasting, data):
    (answer,) = lasting.ask(dataclasses.replace(lasting.request(1), sealed=data))
    assert code_of(answer) in ("seal-broken", "malformed")


@given(text=st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_any_text_under_a_proper_seal_gets_one_of_the_named_errors(lasting, text):
    opening = lasting.opening
    sealed = envelope.seal_request(opening.suite, opening.public, text.encode("utf-8", "surrogatepass"))
    (answer,) = lasting.ask(dataclasses.replace(lasting.request(1), sealed=sealed))
    assert code_of(answer) == "malformed"


@given(place=st.integers(0, 2000), byte=st.integers(0, 255))
def test_one_changed_byte_of_a_signed_request_gets_an_error_or_the_same_answer(lasting, place, byte):
    opening, request = lasting.opening, lasting.request(1)
    token = bytearray(opening.open_request(request.sealed))
    token[place % len(token)] = byte
    sealed = envelope.seal_request(opening.suite, opening.public, bytes(token))
    (answer,) = lasting.ask(dataclasses.replace(request, sealed=sealed))
    if isinstance(answer, Exception):
        assert code_of(answer) in ("malformed", "token-type", "request-unproven", "signature-invalid")
    else:
        assert bytes(token) == opening.open_request(request.sealed)
