# SPDX-License-Identifier: Apache-2.0
"""This machine's TPM counter: offered with a request, read while a licence is bound to it, moved on to give it back.

Only a machine whose key is in its TPM (``bind-tpm``) has one, a counter for each product.  Products run as anybody and
may not use the TPM, so whoever may reads it: a reading, signed by the machine's own key, says where the counter stood
and when, and vouches for a licence for some time.  A licence is itself the first reading.

Spec: docs/spec/returns.md §5.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from volact.client.folder.store import ClientStore
from volact.core.counter import READING, Counter, CounterOffer, CounterProof, CounterReading
from volact.core.errors import MalformedError, VolactError
from volact.core.licence import Licence
from volact.sealing import attestation, returns
from volact.sealing.tpm import FIRST_INDEX, INDEXES, TpmCounter, TpmKey

ACTIVATION, RETURN = "activation", "return"  # what a TPM's statement is made for
FRESH_SECONDS = 20 * 3600  # a reading younger than this is not made anew


@dataclass(frozen=True, slots=True)
class Held:
    """What the newest reading says of a licence: until when it vouches, or that the counter has moved on."""

    vouched_until: int
    moved: bool


def offer(store: ClientStore, root: str, product: str, machine: bytes, nonce: bytes) -> CounterOffer | None:
    """The counter for a request of this machine; ``None`` where there is none, and why is noted.  Never raises."""
    try:
        counter = _counter(store, root, product)
        if counter is None:
            return None
        certificate = counter.endorsement()
        if certificate is None:
            store.note("the TPM's maker left no certificate in it: licences are not bound to its counter")
            return None
        counter.prepare()
        return CounterOffer(certificate, counter.certify(attestation.qualifying(ACTIVATION, machine, nonce)))
    except VolactError as exc:
        store.note(f"licences are not bound to the TPM's counter: {exc}")
        return None


def refresh(store: ClientStore, root: str, product: str, bound: Counter, now: int, *, anew: bool = False) -> None:
    """Read the counter that a licence is bound to, unless that was done lately.  Where it cannot be read, the last
    reading goes on vouching until it is too old."""
    kept = _load(store, product)
    if not anew and kept is not None and kept.name == bound.name and 0 <= now - kept.at < FRESH_SECONDS:
        return
    with suppress(VolactError):
        counter = _counter(store, root, product)
        state = None if counter is None else counter.read()
        if state is not None:
            reading = CounterReading(now, *state)
            store.save_counter(product, returns.sign_counter(reading, store.machine_key()))


def held(store: ClientStore, product: str, licence: Licence) -> Held:
    """Of a licence that is bound to a counter."""
    assert licence.counter is not None
    bound, kept = licence.counter, _load(store, product)
    if kept is None or kept.name != bound.name or kept.value < bound.value:
        return Held(licence.issued_at + READING, moved=False)
    return Held(max(licence.issued_at, kept.at) + READING, moved=kept.value > bound.value)


def give_up(store: ClientStore, root: str, licence: Licence, nonce: bytes, now: int) -> CounterProof | None:
    """Move the counter on, which ends every licence that is bound to where it stood, and have the TPM say so.

    May be done again: a counter that has moved on stays where it is.  ``None`` where the TPM cannot be used; then
    nothing vouches for the return.
    """
    assert licence.counter is not None
    product = licence.product
    try:
        counter = _counter(store, root, product)
        state = None if counter is None else counter.read()
        if counter is None or state is None or state[0] != licence.counter.name:
            return None
        secret = counter.take_out(licence.counter.credential)
        if state[1] <= licence.counter.value:
            counter.count_on()
        refresh(store, root, product, licence.counter, now, anew=True)
        attested = counter.certify(attestation.qualifying(RETURN, licence.machine, nonce))
        return CounterProof(licence.counter.value, secret, attested)
    except VolactError as exc:
        store.note(f"the TPM does not vouch for the return: {exc}")
        return None


def _counter(store: ClientStore, root: str, product: str) -> TpmCounter | None:
    key = store.machine_key() if store.is_bound_to_tpm() else None
    if not isinstance(key, TpmKey):
        return None
    place = hashlib.sha256(f"{root} {product}".encode()).digest()
    return TpmCounter(key.tcti, FIRST_INDEX + int.from_bytes(place[:4]) % INDEXES)


def _load(store: ClientStore, product: str) -> CounterReading | None:
    return store.load_counter(product, lambda token: _verified(token, store.machine_id()))


def _verified(token: str, machine: bytes | None) -> CounterReading:
    proven = returns.verify_counter(token)
    if proven.machine != machine:
        raise MalformedError(what="reading of the counter", why="another machine made it")
    return proven.value
