# SPDX-License-Identifier: Apache-2.0
"""The count: how many machines a KMS host says it has seen, and whether two of them share one machine ID.

Pure: callers pass days, histograms and known fingerprints; keeping them is the store's work (``host/store.py``).
Spec: docs/spec/count.md.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import eq
from typing import NamedTuple

SECONDS_PER_DAY = 86_400
FUTURE_DAYS = 1  # hosts that share a store do not change day in the same instant
WINDOW_DAYS = 30  # default of the policy's count_window_days
CLONE_PROOF_DAYS = 30  # hardware put back after longer than this is a repair, not a second machine


class Verdict(StrEnum):
    """What a request's fingerprint says about its machine ID.  None of them changes the count."""

    NEW = "new"  # a machine ID not known before
    SAME = "same"  # the hardware it had the last time
    CHANGED = "changed"  # other hardware: an exchange of parts, or the first sign of a clone
    CLONE = "clone"  # hardware that had been replaced is back: two machines share one machine ID
    SHARED = "shared"  # hardware known under another machine ID, where policy counts identical hardware once


class KnownFingerprint(NamedTuple):
    fingerprint: bytes
    last_seen: int


def day_of(at: int) -> int:
    """The UTC day's number: days since 1970-01-01."""
    return at // SECONDS_PER_DAY


def first_day(today: int, window_days: int = WINDOW_DAYS) -> int:
    """The earliest last-seen day that still counts today."""
    return today - window_days + 1


def in_window(last_seen_day: int, today: int, window_days: int = WINDOW_DAYS) -> bool:
    """Whether a machine last seen on that day counts today.

    Tomorrow counts: hosts that share a store do not change day in the same instant.  Later days do not: they were
    written by a clock that was wrong, and would count until the real day comes.
    """
    return first_day(today, window_days) <= last_seen_day <= today + FUTURE_DAYS


def count(histogram: Mapping[int, int], today: int, window_days: int = WINDOW_DAYS) -> int:
    """Sums a histogram {last-seen day: machines} over the window."""
    return sum(machines for day, machines in histogram.items() if in_window(day, today, window_days))


def classify(
    known: Sequence[KnownFingerprint],
    seen: bytes,
    today: int,
    same: Callable[[bytes, bytes], bool] = eq,
) -> Verdict:
    """Judges a request's fingerprint by the ones its machine ID had before, the latest of them last.

    One change proves nothing, since parts are exchanged and virtual machines move.  A fingerprint that comes back
    within :data:`CLONE_PROOF_DAYS` of having been replaced does: both machines are alive.  ``same`` is the product's
    comparison; with n-of-m comparison a new network card is no change at all.
    """
    if not known:
        return Verdict.NEW
    if same(known[-1].fingerprint, seen):
        return Verdict.SAME
    if any(_is_recent(one, today) and same(one.fingerprint, seen) for one in known[:-1]):
        return Verdict.CLONE
    return Verdict.CHANGED


def _is_recent(one: KnownFingerprint, today: int) -> bool:
    return in_window(day_of(one.last_seen), today, CLONE_PROOF_DAYS)
