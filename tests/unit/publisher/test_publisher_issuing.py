# SPDX-License-Identifier: Apache-2.0
"""The rules of host keys, on rows made by hand."""

import pytest

from volact.core.product_key import Channel
from volact.core.refusal import Refusal
from volact.publisher.rules.issuing import (
    RENEWAL_WINDOW,
    Granted,
    HostAct,
    HostUse,
    IssuedKey,
    Kind,
    decide_host_activation,
    granted_groups,
)

DAY = 86400
NOW = 1_800_000_000
KEY = IssuedKey("id", "ABCDE", Channel.KMS_HOST, "acme-cad", 101, "Example Ltd", hosts=6, activations=10, issued_at=NOW)


def act(kind: Kind, ends_at: int = NOW + 365 * DAY, nonce: bytes = b"old") -> HostAct:
    return HostAct(kind, nonce, NOW, ends_at, b"certificate")


def decide(others: int, *own: HostAct, nonce: bytes = b"new") -> Granted | Refusal:
    return decide_host_activation(KEY, HostUse(others, own), nonce, NOW)


@pytest.mark.parametrize("others", range(6))
def test_a_new_host_takes_a_free_place(others: int) -> None:
    assert decide(others) == Granted(Kind.ACTIVATED)


@pytest.mark.parametrize("others", [6, 7])
def test_a_new_host_is_refused_where_no_place_is_free(others: int) -> None:
    assert decide(others) == Refusal("host-limit-reached", {"partial": "ABCDE", "limit": 6})


def test_a_host_with_a_place_activates_again_on_a_full_key() -> None:
    assert decide(5, act(Kind.ACTIVATED)) == Granted(Kind.REACTIVATED)
    assert decide(9, act(Kind.ACTIVATED)) == Granted(Kind.REACTIVATED)


def test_the_tenth_activation_is_granted_and_the_eleventh_refused() -> None:
    acts = [act(Kind.ACTIVATED), *[act(Kind.REACTIVATED)] * 8]
    assert decide(0, *acts) == Granted(Kind.REACTIVATED)
    refusal = Refusal("activation-limit-reached", {"partial": "ABCDE", "limit": 10})
    assert decide(0, *acts, act(Kind.REACTIVATED)) == refusal


def test_renewals_do_not_count() -> None:
    assert decide(0, act(Kind.ACTIVATED), *[act(Kind.RENEWED)] * 20) == Granted(Kind.REACTIVATED)


@pytest.mark.parametrize(
    ("left", "kind"),
    [
        (RENEWAL_WINDOW + 1, Kind.REACTIVATED),
        (RENEWAL_WINDOW, Kind.RENEWED),
        (0, Kind.RENEWED),
        (-400 * DAY, Kind.RENEWED),
    ],
)
def test_a_certificate_near_its_end_is_renewed(left: int, kind: Kind) -> None:
    assert decide(0, act(Kind.ACTIVATED, ends_at=NOW + left)) == Granted(kind)


def test_the_newest_certificate_decides_whether_it_is_a_renewal() -> None:
    old, new = act(Kind.ACTIVATED, ends_at=NOW + DAY), act(Kind.RENEWED)
    assert decide(0, old, new) == Granted(Kind.REACTIVATED)


def test_the_same_nonce_is_a_repetition_whatever_the_limits_say() -> None:
    acts = [act(Kind.ACTIVATED, nonce=bytes([n])) for n in range(10)]
    assert decide(9, *acts, nonce=bytes([3])) == Granted(Kind.REPEATED, acts[3])


def test_a_grant_is_never_empty_since_that_would_mean_every_group() -> None:
    assert granted_groups(7, []) == {7}
