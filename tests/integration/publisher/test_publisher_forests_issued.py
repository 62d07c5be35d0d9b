# SPDX-License-Identifier: Apache-2.0
"""The publisher binds forests: sealed requests in, signed objects out, places counted, each act in the ledger."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from volact.core.forest import Forest, ForestKind
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.publisher.rows.ledger import LedgerBrokenError
from volact.sealing.envelope import open_answer
from volact.sealing.objects import TrustedObject, verify_object_answer

DAY = 86400
FOREST = Forest(ForestKind.AD, "c7593518-e6e5-447a-b026-36d400922049", "ad.example.test", domain_sid="S-1-5-21-1-2-3")

Ask = Callable[..., TrustedObject | SignedRefusal]


def forest(number: int) -> Forest:
    return replace(FOREST, domain_sid=f"S-1-5-21-1-2-{number}")


@pytest.fixture
def ask(site: Any) -> Ask:
    """Asks for an object as the directory's tool does; ``request`` repeats one."""
    host = site.host("admin-pc")

    def asking(key: str, request: ActivationRequest | None = None, **changes: Any) -> TrustedObject | SignedRefusal:
        made = request or host.request(key, **({"forest": FOREST, "object_name": "Head office"} | changes))
        outcome = site.service.answer(site.descriptor.id, host.seal(made))
        token = open_answer(made.response_key, made.nonce, outcome.sealed).decode()
        return verify_object_answer(token, site.trust, made, tolerance=4 * 3600)

    return asking


def test_an_object_is_bound_to_the_forest_and_lasts_two_years(site: Any, ask: Ask) -> None:
    key = site.key()
    answer = ask(key)
    assert isinstance(answer, TrustedObject)
    made = answer.object
    assert (made.forest, made.name, made.organisation) == (FOREST, "Head office", "Example Ltd")
    assert made.partial == key[-5:]
    assert made.expires_at - made.issued_at == 730 * DAY
    assert len(made.groups) > 1, "those below the key's own group as well"
    last = site.publisher.store.ledger()[-1]
    assert last.act == "forest-activated"
    assert json.loads(last.data)["forest"] == FOREST.to_claim()
    site.publisher.store.check_ledger()


def test_the_seventh_forest_is_refused_and_the_first_one_is_still_renewed(site: Any, ask: Ask) -> None:
    key = site.key()
    for number in range(6):
        assert isinstance(ask(key, forest=forest(number)), TrustedObject)
    refused = ask(key, forest=forest(6))
    assert isinstance(refused, SignedRefusal)
    assert refused.refusal.code == "forest-limit-reached"
    site.clock.now += 600 * DAY
    renewed = ask(key, forest=forest(0))
    assert isinstance(renewed, TrustedObject)
    assert site.acts()[-1] == "forest-renewed"


def test_a_request_whose_answer_was_lost_gets_the_same_object_again(site: Any, ask: Ask) -> None:
    key = site.key()
    request = site.host().request(key, forest=FOREST, object_name="x")
    first = ask(key, request)
    site.clock.now += 60
    second = ask(key, request)
    assert isinstance(first, TrustedObject)
    assert isinstance(second, TrustedObject)
    assert first.object == second.object
    assert site.acts().count("forest-activated") == 1


def test_only_a_host_key_binds_a_forest_and_a_blocked_one_does_not(site: Any, ask: Ask) -> None:
    key = site.key()
    other = ask(key, channel=Channel.MAK)
    assert isinstance(other, SignedRefusal)
    assert other.refusal.code == "channel-not-served"
    found = site.publisher.store.keys()[0]
    site.publisher.store.set_blocked(found.key_id, "stolen", site.clock(), "tester", blocked=True)
    blocked = ask(key)
    assert isinstance(blocked, SignedRefusal)
    assert blocked.refusal.code == "key-blocked"


def test_an_object_taken_out_of_the_table_is_noticed(site: Any, ask: Ask) -> None:
    ask(site.key())
    with site.publisher.store.change() as change:
        change.conn.exec_driver_sql("DELETE FROM forest_activation")
    with pytest.raises(LedgerBrokenError):
        site.publisher.store.check_ledger()
