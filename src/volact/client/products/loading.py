# SPDX-License-Identifier: Apache-2.0
"""Products as they stand on this machine: loaded with all their stored answers, verified, and evaluated.

A product's state is computed here from verified files at every look (:mod:`volact.core.evaluation`); nothing stores
it.  Asking an issuer is ``activation``'s work.  Spec: docs/spec/states.md.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from volact.client.folder.records import Installation
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.core.counter import READING
from volact.core.definition import Edition, ProductDefinition
from volact.core.errors import ConfigError, MalformedError, StoreError
from volact.core.evaluation import (
    Answer,
    Evaluation,
    HardwareChangedReason,
    IssuerRevokedReason,
    Machine,
    MarkerMismatchReason,
    MarkerMissingReason,
    evaluate,
    trusted_time,
)
from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.sealing import verify
from volact.sealing.verify import Trust, TrustedDefinition, TrustedLicence

if TYPE_CHECKING:
    from volact.client.products.sightings import Firmware

POOLED = (Channel.MAK, Channel.RETAIL)  # each activation uses up one of the key's
NO_MACHINE = bytes(32)  # the ID of a machine that has no key yet: no licence names it


class NoKeyError(ConfigError):
    code = "key-missing"
    fmt = "no product key is installed for {product}"
    remedy = "run `volact client install-key {product} --generic`, or with the key that was bought"


class DefinitionMissingError(StoreError):
    code = "definition-missing"
    fmt = "the definition of {product} is not in the client's folder"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


class DefinitionDamagedError(StoreError):
    code = "definition-damaged"
    fmt = "the stored definition of {product} is damaged, and so is its copy: {why}"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A stored answer that was verified, under the name of its file; ``vouched_until`` by its TPM counter's reading."""

    name: str
    token: str
    trusted: TrustedLicence
    vouched_until: int | None = None

    @property
    def licence(self) -> Licence:
        return self.trusted.licence

    @property
    def answer(self) -> Answer:
        licence, until = self.trusted.licence, self.vouched_until
        if until is None and licence.counter is not None:
            until = licence.issued_at + READING  # a licence is the first reading of the counter that it is bound to
        return Answer(licence, self.trusted.issuer_ends_at, self.trusted.revoked_at, vouched_until=until)


@dataclass(frozen=True, slots=True)
class LoadedProduct:
    """Everything about one product that was read and verified; evaluating it costs microseconds."""

    trusted: TrustedDefinition
    trust: Trust
    installation: Installation
    machine: bytes | None
    answers: tuple[StoredAnswer, ...]
    latest_time: int
    phone: Answer | None = None
    directory: Answer | None = None
    firmware: "Firmware | None" = None
    over: tuple[StoredAnswer, ...] = ()  # those whose TPM counter has moved on

    @property
    def definition(self) -> ProductDefinition:
        return self.trusted.definition

    @property
    def product(self) -> str:
        return self.trusted.definition.product

    @property
    def edition(self) -> Edition | None:
        wanted = self.installation.edition
        return None if wanted is None else self.definition.edition(wanted)

    def answer(self, name: str) -> StoredAnswer | None:
        return next((answer for answer in self.answers if answer.name == name), None)

    def evaluate(
        self, fingerprint: Fingerprint, clock: int, answers: Sequence[StoredAnswer] | None = None
    ) -> Evaluation:
        """The licence's state when the clock says ``clock``; a clock behind its high-water mark gains nothing.

        ``answers``: these alone, instead of all that is stored, phone licence and reading of the directory included.
        """
        installation, firmware = self.installation, self.firmware
        machine = Machine(
            self.machine or NO_MACHINE,
            fingerprint,
            installation.installed_at,
            installation.hardware_changed_at,
            installation.revocation_seen_at,
            firmware.sight if firmware else None,
            firmware is not None and firmware.marked,
            firmware.made_for if firmware else "",
        )
        chosen = [one.answer for one in (self.answers if answers is None else answers)]
        if answers is None:
            others = (self.phone, self.directory, firmware.answer if firmware else None)
            chosen += [one for one in others if one is not None]
        now = trusted_time(clock, self.latest_time)
        return evaluate(self.edition, self.product, installation.channel, chosen, machine, now)

    def asks_by_itself(self, evaluation: Evaluation) -> bool:
        """A permanent licence is never asked for again: each time would use up an activation of its key."""
        channel, licence = self.installation.channel, evaluation.licence
        permanent = evaluation.licensed and (licence is None or licence.expires_at is None)
        return channel is not None and not (channel in POOLED and permanent)


def load_product(store: ClientStore, product: str) -> LoadedProduct:
    """A product under the root it was added with.  Raises :class:`ProductUnknownHereError`, ``TrustError``, …"""
    anchor = store.anchor(product)
    return load_under_root(store, product, anchor.root, anchor.min_version)


def load_under_root(store: ClientStore, product: str, root: str, min_version: int) -> LoadedProduct:
    """A product under the root that the *product* embeds: the folder's own anchor is not asked."""

    def definition(token: str) -> TrustedDefinition:
        return verify.verify_definition(token, root, product=product, min_version=min_version)

    store.anchor(product)
    try:
        trusted = store.load_definition(product, definition)
    except MalformedError as exc:
        raise DefinitionDamagedError(product=product, why=str(exc)) from None
    if trusted is None:
        raise DefinitionMissingError(product=product)
    trust = _newest_status(store, trusted.trust)
    trusted.check_status(trust.status)
    machine = store.machine_id()
    installation = store.installation(product)
    answers = _answers(store, product, trust)
    return LoadedProduct(
        trusted=trusted,
        trust=trust,
        installation=installation,
        machine=machine,
        answers=tuple(answer for answer, moved in answers if not moved),
        over=tuple(answer for answer, moved in answers if moved),
        latest_time=store.latest_time(),
        phone=_phone_licence(store, trusted.definition, machine),
        directory=_reading(store, trusted.definition, trust, machine, installation),
        firmware=_sighting(store, trusted.definition, trust, machine, installation),
    )


def evaluate_product(store: ClientStore, product: str, machine: LocalMachine, now: int) -> Evaluation:
    """The product's state when the clock says ``now``.  What could not be read or believed is in ``store.notes``."""
    loaded = load_product(store, product)
    return loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now)


def record(store: ClientStore, loaded: LoadedProduct, evaluation: Evaluation, clock: int, step: int = 0) -> None:
    """Keep what an evaluation observed: the time, and when the hardware was first seen to differ, or the issuer to be
    revoked.

    For looks that are not meant to change anything: where the folder cannot be written, it is left as it is.
    ``step``: how far the stored time may lag, for callers that look often.
    """
    with suppress(StoreError):
        if clock > loaded.latest_time + step:
            store.raise_latest_time(clock)
        _record_changes(store, loaded, evaluation, trusted_time(clock, loaded.latest_time))


def _record_changes(store: ClientStore, loaded: LoadedProduct, evaluation: Evaluation, now: int) -> None:
    """What was seen keeps its first moment until it is over: a revocation, when the product is licensed again."""
    before = loaded.installation
    differs = isinstance(evaluation.reason, HardwareChangedReason | MarkerMissingReason | MarkerMismatchReason)
    revoked = isinstance(evaluation.reason, IssuerRevokedReason)
    changed_at = (before.hardware_changed_at or now) if differs else None
    seen_at = (before.revocation_seen_at or now) if revoked else before.revocation_seen_at
    if evaluation.licensed:
        seen_at = None
    if (changed_at, seen_at) == (before.hardware_changed_at, before.revocation_seen_at):
        return
    with store.lock():
        kept = store.installation(loaded.product)
        changed = kept._replace(hardware_changed_at=changed_at, revocation_seen_at=seen_at)
        store.save_installation(loaded.product, changed)


def _newest_status(store: ClientStore, trust: Trust) -> Trust:
    status = store.load_status(trust.fingerprint, lambda token: verify.verify_status(token, trust))
    return trust if status is None else trust.with_status(status)


def _reading(
    store: ClientStore, definition: ProductDefinition, trust: Trust, machine: bytes | None, installation: Installation
) -> Answer | None:
    """What this machine read in its forest's directory, verified."""
    if machine is None or installation.edition is None or not store.has_reading(definition.product):
        return None
    from volact.client.products.readings import load_answer

    return load_answer(store, definition.product, trust, machine, definition.edition(installation.edition))


def _sighting(
    store: ClientStore, definition: ProductDefinition, trust: Trust, machine: bytes | None, installation: Installation
) -> "Firmware | None":
    """What the last look into the firmware showed, for the editions that ask for it."""
    edition = definition.edition(installation.edition) if installation.edition else None
    channel = installation.channel
    if machine is None or edition is None or channel is None or not store.has_sighting(definition.product):
        return None
    if channel is not Channel.OEM and not edition.policy.requires_marker:
        return None
    from volact.client.products.sightings import load

    return load(store, definition, trust, machine, edition, channel)


def _phone_licence(store: ClientStore, definition: ProductDefinition, machine: bytes | None) -> Answer | None:
    """What was activated by telephone, verified; what that needs is imported only where there is such a licence."""
    if machine is None or not store.has_phone_licence(definition.product):
        return None
    from volact.client.products.phone_licence import load_licence

    return load_licence(store, definition, machine)


def _answers(store: ClientStore, product: str, trust: Trust) -> list[tuple[StoredAnswer, bool]]:
    """Every stored answer that verifies and was not given back, and whether its TPM counter has moved on; the others
    are noted and count for nothing."""
    found, returned = [], store.returned(product)
    for name in store.answer_names(product):

        def verified(token: str, name: str = name) -> StoredAnswer:
            return StoredAnswer(name, token, verify.verify_licence(token, trust))

        answer = store.load_answer(product, name, verified)
        if answer is None:
            continue
        licence = answer.licence
        if any(one.covers(licence.key_id, licence.nonce, licence.issued_at) for one in returned):
            store.note(f"{store.answer_file(product, name)} is left aside: its activation was given back")
            continue
        found.append(_by_counter(store, product, answer))
    return found


def _by_counter(store: ClientStore, product: str, answer: StoredAnswer) -> tuple[StoredAnswer, bool]:
    if answer.licence.counter is None:
        return answer, False
    from volact.client.products.counters import held

    found = held(store, product, answer.licence)
    if found.moved:
        store.note(f"{store.answer_file(product, answer.name)} is left aside: the TPM's counter says it was given back")
    return replace(answer, vouched_until=found.vouched_until), found.moved
