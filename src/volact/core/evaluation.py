# SPDX-License-Identifier: Apache-2.0
"""Evaluation: from (policy, stored answers, machine, trusted time) to the licence's state.  Spec: docs/spec/states.md.

The state is recomputed at every look and never stored, so no file can claim it and no failed attempt can spoil it.
Callers pass only answers that :mod:`volact.sealing.verify` has accepted; this module decides what they are worth:

* only an answer for this machine, product, edition and channel counts, and for the ``volume`` channel only one whose
  count meets the edition's threshold, or that was read from the forest's directory;
* a lease ends no later than the policy's lease after its issue, nor than its issuer's certificate;
* answers that are worth nothing never take away what another one gives.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from volact.core.definition import Edition
from volact.core.errors import ConfigError, VolactError
from volact.core.fingerprint import Fingerprint, compare
from volact.core.licence import Licence
from volact.core.marker import Sight
from volact.core.policy import DAY, Policy
from volact.core.product_key import Channel
from volact.core.states import Enforcement, State


class Reason(VolactError):  # noqa: N818 - a reason is shown beside a state and never raised
    """Why a state is not ``licensed``: shown beside it, never raised."""


class NoKeyReason(Reason):
    code = "no-key-installed"
    fmt = "no product key is installed for {product}"
    remedy = "run `volact client install-key {product} KEY`"


class NoAnswerReason(Reason):
    code = "not-activated"
    fmt = "{product} has not been activated yet"
    remedy = "run `volact client activate {product}`"


class CountBelowThresholdReason(Reason):
    code = "count-below-threshold"
    fmt = "the KMS host has counted {count} of the {threshold} machines that the policy asks for"
    remedy = "activate {missing} more of its group's machines against the same host; this one tries again by itself"


class LeaseEndedReason(Reason):
    code = "lease-ended"
    fmt = "the licence of {product} ended and has not been renewed"
    remedy = "make a KMS host reachable again and run `volact client activate {product}`"


class CounterUnreadReason(Reason):
    code = "tpm-counter-unread"
    fmt = "nobody has read the counter of this machine's TPM for 30 days, which the licence is bound to"
    remedy = "let the licensing service run, or run `volact client activate` as a user who may use the TPM"


class HardwareChangedReason(Reason):
    code = "hardware-out-of-tolerance"
    fmt = "this machine's hardware differs from the licensed one in: {traits}"
    remedy = "run `volact client activate {product}` to license the changed machine"


class IssuerRevokedReason(Reason):
    code = "issuer-revoked"
    fmt = "the publisher has revoked the issuer of this machine's licence"
    remedy = (
        "ask the organisation's administrator for a host with a valid key, then run `volact client activate {product}`"
    )


class GraceEndedReason(Reason):
    code = "grace-ended"
    fmt = "the grace period of {product} is over and it is not activated"
    remedy = "run `volact client activate {product}`"


class MarkerMissingReason(Reason, ConfigError):  # noqa: N818 - a reason first of all
    """Also raised, by an activation that needs a marker and looks for it."""

    code = "firmware-marker-missing"
    fmt = "the firmware of this computer holds no marker of its maker that covers {product}"
    remedy = (
        "after a board was replaced, let the maker's service write the marker into the new one; on a computer that did "
        "not come with {product}, install a key of another channel"
    )


class MarkerMismatchReason(Reason, ConfigError):  # noqa: N818
    """The same of a marker that is there."""

    code = "oem-marker-mismatch"
    fmt = "the marker in the firmware of this computer was made for {made_for}, and this is another"
    remedy = "a marker counts only on the model or device it was made for: ask the computer's maker for its own"


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified licence and what its verification found out: the end of its issuer's certificate (or of the
    activation object that it was read from), and the second from which that issuer is revoked, if it is.
    ``by_directory``: made from an activation object; a directory counts nobody, so no count is asked of it.
    ``vouched_until``: of a licence that is bound to the TPM's counter, how long its last reading is good for."""

    licence: Licence
    issuer_ends_at: int
    issuer_revoked_at: int | None = None
    by_directory: bool = False
    vouched_until: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What is observed of the machine and its installation; observations, not verdicts.

    ``installed_at``: when grace began (definition added, or rearmed).  ``hardware_changed_at``: when a fingerprint out
    of tolerance was first seen, else ``None``.  ``revocation_seen_at``: when the machine first heard that the issuer of
    its licence is revoked, else ``None``.  ``marker``: what the last look into the firmware showed, ``None`` where
    nobody has looked; ``marked``: a good one was seen before; ``made_for``: whom the one that is there is for.
    """

    id: bytes
    fingerprint: Fingerprint
    installed_at: int
    hardware_changed_at: int | None = None
    revocation_seen_at: int | None = None
    marker: Sight | None = None
    marked: bool = False
    made_for: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``until``: when ``state`` ends by itself (``None``: never).  ``count``: of the newest answer that has one."""

    state: State
    enforcement: Enforcement
    until: int | None
    reason: Reason | None
    licence: Licence | None
    count: int | None

    @property
    def licensed(self) -> bool:
        return self.state is State.LICENSED


def evaluate(
    edition: Edition | None,
    product: str,
    channel: Channel | None,
    answers: Iterable[Answer],
    machine: Machine,
    now: int,
) -> Evaluation:
    """What the stored answers are worth at trusted second ``now``; total: every input has a state."""
    if edition is None or channel is None:
        return _result(_DEFAULT, State.UNLICENSED, None, NoKeyReason(product=product), None, None)
    policy = edition.policy
    mine = [a for a in answers if _is_for(a, edition, product, channel, machine)]
    count = _newest_count(mine)
    lacking = marker_lacking(policy, channel, machine, product)
    if lacking is not None:
        return _without_marker(policy, machine, now, lacking, product, count)
    good = [a for a in mine if a.by_directory or meets_policy(a.licence, policy)]
    trusted = [_with_answer(a, policy, product, machine, now, count) for a in good if not _revoked(a)]
    if trusted:
        return max(trusted, key=_worth)
    if good:
        return _revoked_answer(max(good, key=_issued_at), policy, product, machine, now, count)
    reason: Reason = NoAnswerReason(product=product)
    if count is not None:
        reason = CountBelowThresholdReason(count=count, threshold=policy.threshold, missing=policy.threshold - count)
    return _without_answer(policy, machine.installed_at, now, reason, product, count)


def meets_policy(licence: Licence, policy: Policy) -> bool:
    """``count >= threshold`` on the counted channel; the others are not counted."""
    return licence.channel is not Channel.VOLUME or (licence.count is not None and licence.count >= policy.threshold)


def marker_lacking(policy: Policy, channel: Channel, machine: Machine, product: str) -> Reason | None:
    """Why the firmware does not vouch for this computer, where the channel or the policy asks for it."""
    if (channel is not Channel.OEM and not policy.requires_marker) or machine.marker is Sight.PRESENT:
        return None
    if machine.marker is Sight.MISMATCH:
        return MarkerMismatchReason(made_for=machine.made_for or "another computer")
    return MarkerMissingReason(product=product)


def lease_end(answer: Answer, policy: Policy) -> int | None:
    """When an answer stops licensing: its own ``exp``, clamped to the policy's lease and its issuer's certificate.

    ``None`` for perpetual licences, which only the publisher's channels have and which outlive its certificates; bound
    to a TPM's counter they run from one reading of it to the next.
    """
    return _end(answer, policy)


def trusted_time(clock: int, high_water: int) -> int:
    """The later of the clock and the latest time ever seen: turning the clock back gains nothing."""
    return max(clock, high_water)


_DEFAULT = Policy()
_FOREVER = 1 << 62
_LEASED = (Channel.VOLUME, Channel.VM)
# What an answer can come to, best first: time takes each only further down, so the best of several sinks too.
_RANKS = (State.LICENSED, State.OUT_OF_TOLERANCE_GRACE, State.EXTENDED_GRACE, State.NOTIFICATION)


def _issued_at(answer: Answer) -> int:
    return answer.licence.issued_at


def _newest_count(answers: Iterable[Answer]) -> int | None:
    counted = [a for a in answers if a.licence.count is not None]
    return max(counted, key=_issued_at).licence.count if counted else None


def _worth(evaluation: Evaluation) -> tuple[int, int, int]:
    """The better state, then the one that lasts longer, then the newer licence."""
    until = _FOREVER if evaluation.until is None else evaluation.until
    issued_at = evaluation.licence.issued_at if evaluation.licence else 0
    return -_RANKS.index(evaluation.state), until, issued_at


def _is_for(answer: Answer, edition: Edition, product: str, channel: Channel, machine: Machine) -> bool:
    licence = answer.licence
    return (
        licence.machine == machine.id
        and licence.product == product
        and licence.edition == edition.id
        and licence.group == edition.group
        and licence.channel is channel
    )


def _revoked(answer: Answer) -> bool:
    return answer.issuer_revoked_at is not None and answer.licence.issued_at >= answer.issuer_revoked_at


def _end(answer: Answer, policy: Policy) -> int | None:
    licence = answer.licence
    if licence.channel not in _LEASED:
        ends = [end for end in (licence.expires_at, answer.vouched_until) if end is not None]
        return min(ends, default=None)
    end = min(licence.issued_at + policy.lease, answer.issuer_ends_at)
    return end if licence.expires_at is None else min(end, licence.expires_at)


def _with_answer(
    answer: Answer, policy: Policy, product: str, machine: Machine, now: int, count: int | None
) -> Evaluation:
    end = _end(answer, policy)
    match = compare(answer.licence.fingerprint, machine.fingerprint, policy.tolerance)
    if not match.within:
        reason: Reason = HardwareChangedReason(product=product, traits=", ".join(match.differing) or "every trait")
        ended = machine.hardware_changed_at if machine.hardware_changed_at is not None else now
        ended = ended if end is None else min(end, ended)
    elif end is None or now < end:
        return _result(policy, State.LICENSED, end, None, answer.licence, count)
    else:
        unread = answer.vouched_until is not None and end == answer.vouched_until
        reason, ended = CounterUnreadReason(product=product) if unread else LeaseEndedReason(product=product), end
    return _after(
        policy, State.OUT_OF_TOLERANCE_GRACE, ended, policy.out_of_tolerance_grace_days, now, reason, answer, count
    )


def _revoked_answer(
    answer: Answer, policy: Policy, product: str, machine: Machine, now: int, count: int | None
) -> Evaluation:
    """The grace begins when the machine hears of the revocation, whatever day it is dated back to.  Nobody gains by it:
    where the licence's own end would have come to notification earlier, it still does."""
    reason = IssuerRevokedReason(product=product)
    heard = now if machine.revocation_seen_at is None else machine.revocation_seen_at
    until, end = heard + policy.non_genuine_grace_days * DAY, _end(answer, policy)
    if end is not None:
        until = min(until, end + (policy.out_of_tolerance_grace_days + policy.extended_grace_days) * DAY)
    state, ends = (State.NON_GENUINE_GRACE, until) if now < until else (State.NOTIFICATION, None)
    return _result(policy, state, ends, reason, answer.licence, count)


def _without_answer(
    policy: Policy, installed_at: int, now: int, reason: Reason, product: str, count: int | None
) -> Evaluation:
    ended = GraceEndedReason(product=product) if reason.code == NoAnswerReason.code else reason
    evaluation = _after(policy, State.INITIAL_GRACE, installed_at, policy.initial_grace_days, now, reason, None, count)
    if evaluation.state is State.NOTIFICATION:
        return _result(policy, State.NOTIFICATION, None, ended, None, count)
    return evaluation


def _without_marker(
    policy: Policy, machine: Machine, now: int, reason: Reason, product: str, count: int | None
) -> Evaluation:
    """A computer that had a marker and lost it is as one whose hardware changed; another never began."""
    if not machine.marked:
        return _without_answer(policy, machine.installed_at, now, reason, product, count)
    began = now if machine.hardware_changed_at is None else machine.hardware_changed_at
    days = policy.out_of_tolerance_grace_days
    return _after(policy, State.OUT_OF_TOLERANCE_GRACE, began, days, now, reason, None, count)


def _after(
    policy: Policy,
    grace: State,
    began: int,
    days: int,
    now: int,
    reason: Reason,
    answer: Answer | None,
    count: int | None,
) -> Evaluation:
    """The grace ``grace`` for ``days`` from ``began``, then the policy's extended grace, then notification."""
    licence = answer.licence if answer else None
    first = began + days * DAY
    extended = first + policy.extended_grace_days * DAY
    if now < first:
        return _result(policy, grace, first, reason, licence, count)
    if now < extended:
        return _result(policy, State.EXTENDED_GRACE, extended, reason, licence, count)
    return _result(policy, State.NOTIFICATION, None, reason, licence, count)


def _result(
    policy: Policy, state: State, until: int | None, reason: Reason | None, licence: Licence | None, count: int | None
) -> Evaluation:
    return Evaluation(state, policy.enforcement[state], until, reason, licence, count)
