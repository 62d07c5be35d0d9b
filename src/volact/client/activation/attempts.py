# SPDX-License-Identifier: Apache-2.0
"""Attempts: what is noted of one, when the next is due, and which of several errors is told."""

from random import Random

from volact.client.activation.asking import Asking, printable
from volact.client.discovery.routes import NoRouteError
from volact.client.folder.records import Attempt, Tried
from volact.core.errors import MalformedError, TransportError, TrustError, VolactError
from volact.core.evaluation import Evaluation
from volact.core.licence import Licence
from volact.core.policy import LEAST_INTERVAL, MINUTE, MOST_INTERVAL
from volact.core.refusal import MOST_RETRY_AFTER, RefusedError, SignedRefusal
from volact.wire.client import ServerError

JITTER = 0.1  # of an interval, either way: a fleet that started in one second does not come back in one
LICENSED = "licensed"  # how an attempt ends that led to a licence


def attempt_of(
    asking: Asking, evaluation: Evaluation, licence: Licence, tried: tuple[Tried, ...], now: int, random: Random
) -> Attempt:
    activation = _clamp(licence.activation_interval_minutes or asking.policy.activation_interval_minutes)
    renewal = _clamp(licence.renewal_interval_minutes or asking.policy.renewal_interval_minutes)
    minutes = _within_lease(renewal, asking) if evaluation.licensed else activation
    reason = evaluation.reason
    return Attempt(
        at=now,
        code=LICENSED if reason is None else reason.code,
        message="" if reason is None else printable(str(reason)),
        next_due=now + _jittered(minutes * MINUTE, random),
        tried=tried,
        activation_minutes=activation,
        renewal_minutes=renewal,
    )


def failed(asking: Asking, errors: list[VolactError], tried: tuple[Tried, ...], random: Random) -> VolactError:
    """Note the attempt, and choose the error to raise: the most telling, the first of its rank."""
    if not errors:
        raise NoRouteError(channel=str(asking.channel), product=asking.loaded.product)
    error = min(errors, key=_rank)
    error.fields["attempts"] = [
        {"host": one.host, "source": one.source, "code": one.code, "message": one.message} for one in tried
    ]
    store, product, now = asking.store, asking.loaded.product, asking.clock()
    last = store.attempt(product)
    minutes = (last.activation_minutes if last else None) or asking.policy.activation_interval_minutes
    due = _jittered(_clamp(minutes) * MINUTE, random)
    attempt = Attempt(
        at=now,
        code=error.code,
        message=printable(str(error)),
        next_due=now + max(due, _later(max(map(_retry_after, errors)), random)),
        tried=tried,
        activation_minutes=last.activation_minutes if last else None,
        renewal_minutes=last.renewal_minutes if last else None,
    )
    store.save_attempt(product, attempt)
    return error


def refused(signed: SignedRefusal) -> VolactError:
    error = signed.refusal.error()
    error.fields["retry_after"] = min(signed.refusal.retry_after, MOST_RETRY_AFTER)
    return error


def _retry_after(error: VolactError) -> int:
    value = error.fields.get("retry_after", 0) if isinstance(error, RefusedError) else 0
    return value if isinstance(value, int) else 0


def _rank(error: VolactError) -> int:
    """A signed refusal says most, then what is wrong with an answer, then a server's unsigned word."""
    if isinstance(error, RefusedError):
        return 0
    if isinstance(error, TrustError | MalformedError):
        return 1
    if isinstance(error, ServerError):
        return 2
    return 3 if isinstance(error, TransportError) else 1


def _clamp(minutes: int) -> int:
    return min(max(minutes, LEAST_INTERVAL), MOST_INTERVAL)


def _within_lease(minutes: int, asking: Asking) -> int:
    """At least one renewal falls into a lease, whatever the host asks for."""
    return max(LEAST_INTERVAL, min(minutes, asking.policy.lease // MINUTE // 2))


def _jittered(seconds: int, random: Random) -> int:
    return int(seconds * random.uniform(1 - JITTER, 1 + JITTER))


def _later(seconds: int, random: Random) -> int:
    """Never before the time that an issuer asked for."""
    return int(seconds * random.uniform(1, 1 + JITTER))
