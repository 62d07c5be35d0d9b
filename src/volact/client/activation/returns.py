# SPDX-License-Identifier: Apache-2.0
"""Giving an activation back, online or by a proof that is carried; and asking what is left of a key.

Once given back, this machine is without its licence whatever becomes of the proof: the proof is kept, and the licences
are gone, before anybody is asked.  So a lost answer costs the organisation nothing but a second try, and nobody keeps a
licence whose activation the pool has again.  (Who rolls the disk back has both; docs/spec/returns.md says how the
publisher bounds that.)
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from volact.client.discovery.routes import IssuerServer
from volact.client.folder.records import Returned
from volact.client.folder.store import ClientStore
from volact.client.products.installing import remove_key
from volact.client.products.loading import LoadedProduct, load_product
from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.counter import CounterProof
from volact.core.definition import Edition
from volact.core.errors import ConfigError, MalformedError
from volact.core.licence import Licence
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.refusal import ActivationReturnedError, SignedRefusal
from volact.core.returning import Inquiry, Receipt, ReturnProof
from volact.sealing import answers, envelope, returns
from volact.sealing.answers import TrustedDescriptor

POOLED = (Channel.MAK, Channel.RETAIL)


class NothingToReturnError(ConfigError):
    code = "nothing-to-return"
    fmt = "{product} holds no activation of a MAK or retail key"
    remedy = "licences of KMS hosts end by themselves; `volact client info {product}` shows what this machine holds"


class NoPoolKeyError(ConfigError):
    code = "key-without-pool"
    fmt = "no MAK or retail key is installed for {product}"
    remedy = "install it with `volact client install-key {product} KEY`; only these keys are used up"


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What this machine gave back.  ``receipt``: the publisher's, where it was asked and had not taken it before."""

    product: str
    returned: Returned
    receipt: Receipt | None = None


def give_back(product: str, store: ClientStore, clock: Callable[[], int]) -> GivenBack:
    """Give up the activation here and now, and keep the proof of it.  Nothing was asked of the publisher yet.

    A proof that the publisher has not confirmed yet is given again.  Raises :class:`NothingToReturnError`.
    """
    with store.lock():
        kept, loaded = store.returned(product), load_product(store, product)
        held = _held(loaded)
        if held is None:
            waiting = next((one for one in reversed(kept) if not one.confirmed), None)
            if waiting is None:
                raise NothingToReturnError(product=product)
            return GivenBack(product, waiting)
        # (0) where a TPM counts: the licence ends by its counter, which is done again if the power goes here
        proof = _prove(held, loaded, store, clock())
        # (1) from here on the licence counts no more, (2) it is gone, (3) and so is the key, which would get another
        store.save_returned(product, (*kept, proof, *_by_telephone(loaded, proof)))
        store.remove_answers(product)
        remove_key(store, product)
    return GivenBack(product, proof)


def report(given: GivenBack, store: ClientStore, server: IssuerServer, clock: Callable[[], int]) -> GivenBack:
    """Bring the publisher the proof.  Raises its refusal, or what kept it from an answer; the proof stays then."""
    loaded = load_product(store, given.product)
    proof = returns.verify_return(given.returned.proof).value
    edition = next(iter(loaded.definition.editions))
    issuer = _issuer(loaded, edition, server, clock())
    answer = _exchange(given.returned.proof, proof.nonce, proof.response_key, issuer, server)
    if isinstance(answer, SignedRefusal):
        if answer.refusal.code != ActivationReturnedError.code:
            raise answer.refusal.error()
        receipt = None  # an earlier answer was lost: it has been taken
    else:
        receipt = answer
    with store.lock():
        done = given.returned._replace(confirmed=True)
        others = (done if one == given.returned else one for one in store.returned(given.product))
        store.save_returned(given.product, tuple(others))
    return GivenBack(given.product, done, receipt)


def ask_remaining(product: str, store: ClientStore, server: IssuerServer, clock: Callable[[], int]) -> Receipt:
    """What is left of the installed key's pool, from the publisher itself."""
    loaded, key = load_product(store, product), store.key(product)
    if key is None or key.channel not in POOLED or loaded.edition is None:
        raise NoPoolKeyError(product=product)
    issuer = _issuer(loaded, loaded.edition, server, clock())
    nonce, response_key = secrets.token_bytes(NONCE_SIZE), secrets.token_bytes(RESPONSE_KEY_SIZE)
    inquiry = Inquiry(issuer.descriptor.id, str(key), nonce, response_key, clock())
    answer = _exchange(returns.sign_inquiry(inquiry, store.machine_key()), nonce, response_key, issuer, server)
    if isinstance(answer, SignedRefusal):
        raise answer.refusal.error()
    return answer


def _held(loaded: LoadedProduct) -> Licence | None:
    """The newest licence of this machine from a pool: the publisher takes back what it granted last.

    Of one by telephone only the day is known, and it counts as made at that day's first second.
    """
    stored = [one.licence for one in (*loaded.answers, *loaded.over)] + ([loaded.phone.licence] if loaded.phone else [])
    mine = [one for one in stored if one.channel in POOLED and one.machine == loaded.machine]
    return max(mine, key=lambda licence: licence.issued_at, default=None)


def _by_telephone(loaded: LoadedProduct, proof: Returned) -> list[Returned]:
    """The licence by telephone goes with a newer one of the same key: named by its nonce, and nothing to report."""
    if loaded.phone is None or loaded.phone.licence.nonce.hex() == proof.activation:
        return []
    licence = loaded.phone.licence
    return [Returned(licence.key_id, licence.nonce.hex(), 0, proof.proof, confirmed=True)]


def _prove(licence: Licence, loaded: LoadedProduct, store: ClientStore, now: int) -> Returned:
    root, nonce = loaded.trust.fingerprint, secrets.token_bytes(NONCE_SIZE)
    proof = ReturnProof(
        root=root,
        product=licence.product,
        key_id=licence.key_id,
        activation=licence.nonce,
        nonce=nonce,
        at=now,
        response_key=secrets.token_bytes(RESPONSE_KEY_SIZE),
        counter=_counter(store, root, licence, nonce, now),
    )
    token = returns.sign_return(proof, store.machine_key())
    return Returned(licence.key_id, licence.nonce.hex(), licence.issued_at, token)


def _counter(store: ClientStore, root: str, licence: Licence, nonce: bytes, now: int) -> CounterProof | None:
    if licence.counter is None or not store.is_bound_to_tpm():
        return None
    from volact.client.products import counters

    return counters.give_up(store, root, licence, nonce, now)


def _issuer(loaded: LoadedProduct, edition: Edition, server: IssuerServer, now: int) -> TrustedDescriptor:
    nonce = secrets.token_bytes(NONCE_SIZE)
    token = server.get_issuer(loaded.trust.fingerprint, loaded.product, edition.group, nonce)
    return answers.verify_descriptor(
        token,
        loaded.trust,
        Channel.MAK,
        now=now,
        nonce=nonce,
        suites=edition.policy.suites,
        status_max_age=edition.policy.status_max_age_days * DAY,
    )


def _exchange(
    token: str, nonce: bytes, response_key: bytes, issuer: TrustedDescriptor, server: IssuerServer
) -> Receipt | SignedRefusal:
    descriptor = issuer.descriptor
    sealed = envelope.seal_request(descriptor.suite, descriptor.public_key, token.encode())
    answer = envelope.open_answer(response_key, nonce, server.activate(descriptor.id, sealed))
    try:
        text = answer.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError(what="answer", why="not a signed token") from None
    return returns.verify_receipt(text, issuer.trust, nonce)
