# SPDX-License-Identifier: Apache-2.0
"""What a KMS host answers to a proven request, by the rules alone."""

from dataclasses import replace

import pytest

from volact.core.definition import ProductDefinition
from volact.core.fingerprint import Fingerprint
from volact.core.product_key import Channel
from volact.core.refusal import Refusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.host.issuing import Accepted, Intervals, decide, licence_for
from volact.testing import Site
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP

NOW, DAY = 1_800_000_000, 86400
SITE = Site.make(NOW)
BOTH = frozenset({CLIENT_GROUP, SERVER_GROUP})
REQUEST = ActivationRequest(
    issuer="ab" * 16,
    product="acme-cad",
    version=1,
    edition="client",
    channel=Channel.VOLUME,
    nonce=bytes(16),
    response_key=bytes(32),
    at=NOW,
    state=State.INITIAL_GRACE,
    fingerprint=Fingerprint({}),
)


def decided(definition: ProductDefinition | None = SITE.definition, groups=BOTH, now: int = NOW, **changes):
    return decide(replace(REQUEST, **changes), issuer="ab" * 16, definition=definition, groups=groups, now=now)


def refused(answer) -> str:
    assert isinstance(answer, Refusal)
    assert answer.error().hint
    return answer.code


@pytest.mark.parametrize("state", State)
def test_a_valid_request_is_accepted_in_every_state_of_the_client(state):
    answer = decided(state=state)
    assert isinstance(answer, Accepted)
    assert answer.edition.group == CLIENT_GROUP


@pytest.mark.parametrize("difference", [0, 4 * 3600, -4 * 3600])
def test_clocks_may_differ_by_four_hours(difference):
    assert isinstance(decided(at=NOW + difference), Accepted)


@pytest.mark.parametrize("difference", [4 * 3600 + 1, -4 * 3600 - 1, 40 * 365 * DAY])
def test_beyond_that_the_refusal_says_by_how_much(difference):
    answer = decided(at=max(0, NOW + difference))
    assert refused(answer) == "clock-skew"
    assert answer.fields == {"difference": abs(difference), "tolerance": 4 * 3600}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issuer": "cd" * 16}, "wrong-issuer"),
        ({"definition": None}, "product-unknown"),
        ({"edition": "giant"}, "edition-unknown"),
        ({"edition": ""}, "edition-unknown"),
        ({"groups": frozenset({SERVER_GROUP})}, "group-not-granted"),
        ({"groups": frozenset()}, "group-not-granted"),
        *(({"channel": channel}, "channel-not-served") for channel in Channel if channel is not Channel.VOLUME),
    ],
)
def test_each_other_refusal_has_its_name(changes, code):
    assert refused(decided(**changes)) == code


def test_a_clients_newer_definition_is_served_by_the_hosts_own():
    assert isinstance(decided(version=99), Accepted)


def licence(now: int = NOW, ends: int = NOW + 365 * DAY, **intervals: int):
    accepted = decided()
    assert isinstance(accepted, Accepted)
    return licence_for(
        REQUEST,
        accepted,
        b"m" * 32,
        count=7,
        key_id="0" * 32,
        organisation="Contoso",
        certificate_ends_at=ends,
        intervals=Intervals(**intervals),
        now=now,
    )


def test_a_licence_repeats_what_was_asked_and_says_the_count():
    made = licence()
    assert (made.issuer, made.nonce, made.product, made.edition) == ("ab" * 16, bytes(16), "acme-cad", "client")
    assert (made.machine, made.group, made.channel, made.count) == (b"m" * 32, CLIENT_GROUP, Channel.VOLUME, 7)
    assert (made.organisation, made.key_id, made.issued_at) == ("Contoso", "0" * 32, NOW)


def test_a_lease_is_the_policys_and_ends_with_the_hosts_certificate_at_the_latest():
    assert licence().expires_at == NOW + 180 * DAY
    assert licence(ends=NOW + 10 * DAY).expires_at == NOW + 10 * DAY


def test_intervals_are_the_hosts_where_it_sets_them_and_the_policys_elsewhere():
    made = licence()
    assert (made.activation_interval_minutes, made.renewal_interval_minutes) == (120, 10080)
    made = licence(activation_minutes=15)
    assert (made.activation_interval_minutes, made.renewal_interval_minutes) == (15, 10080)
