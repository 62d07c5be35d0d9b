# SPDX-License-Identifier: Apache-2.0
"""A key serves six forests; renewing one of them takes nothing, and two forests are told apart by what they cannot
choose."""

from dataclasses import replace

from volact.core.forest import Forest, ForestKind
from volact.core.product_key import Channel
from volact.core.refusal import Refusal
from volact.publisher.rules.forests import decide_forest, forest_limit
from volact.publisher.rules.issuing import IssuedKey, Kind
from volact.testing import Site

KEY = IssuedKey("0" * 32, "ABCDE", Channel.KMS_HOST, "acme-cad", 102, "Contoso", 6, 10, 1)
GUID = "c7593518-e6e5-447a-b026-36d400922049"
AD = Forest(ForestKind.AD, GUID, "ad.example.test", domain_sid="S-1-5-21-1-2-3")
LDAP = Forest(ForestKind.LDAP, GUID, "dc=example", tls=bytes(32))


def others(number: int) -> list[str]:
    return [f"ad:{n}" for n in range(number)]


def test_the_sixth_forest_is_the_last_one() -> None:
    assert decide_forest(KEY, others(5), AD, 6) is Kind.ACTIVATED
    refused = decide_forest(KEY, others(6), AD, 6)
    assert isinstance(refused, Refusal)
    assert (refused.code, dict(refused.fields)) == ("forest-limit-reached", {"partial": "ABCDE", "limit": 6})


def test_a_forest_with_a_place_is_renewed_at_the_limit_and_under_another_name() -> None:
    known = [*others(5), AD.identity]
    assert decide_forest(KEY, known, AD, 6) is Kind.RENEWED
    assert decide_forest(KEY, known, replace(AD, name="new-name.test"), 6) is Kind.RENEWED


def test_forests_differ_by_sid_guid_and_tls_key() -> None:
    differing = [
        AD,
        LDAP,
        replace(AD, domain_sid="S-1-5-21-1-2-4"),
        replace(AD, id=GUID.replace("c", "d")),
        replace(LDAP, tls=bytes(31) + b"\1"),
    ]
    assert len({forest.identity for forest in differing}) == len(differing)


def test_the_least_generous_edition_that_a_key_covers_sets_the_limit() -> None:
    definition = Site.make(forests_per_key=4).definition
    editions = [
        replace(e, policy=replace(e.policy, forests_per_key=n))
        for e, n in zip(definition.editions, (2, 5), strict=True)
    ]
    definition = replace(definition, editions=tuple(editions))
    assert forest_limit(102, definition) == 2
    assert forest_limit(101, definition) == 2
