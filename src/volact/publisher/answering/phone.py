# SPDX-License-Identifier: Apache-2.0
"""The phone desk: from the digits that a caller reads out to the confirmation ID that is read back.

It decides by the rules of the online service (``issuing``, ``pools``) over the same rows, in one transaction with the
ledger's: a confirmation ID that nobody wrote down does not exist, and one that was lost on the line is given again.
What digits cannot carry is filled in: the machine ID is known by its first 80 bits, the hardware by 32 bits of its
fingerprint's digest.  Spec: docs/spec/phone.md §4.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias, overload

from volact.core.binding import RESPONSE_KEY_SIZE
from volact.core.definition import Edition, ProductDefinition
from volact.core.errors import ConfigError, InputError
from volact.core.phone import (
    ConfirmationId,
    InstallationId,
    Subject,
    message,
    name_of,
    shows,
    stand_in,
)
from volact.core.phone_site import KEY_CHANNELS, AnyInstallationId, SiteInstallationId, whole_name
from volact.core.policy import DAY
from volact.core.product_key import Channel, ProductKey
from volact.core.refusal import (
    ActivationReturnedError,
    ChannelNotServedError,
    ClockSkewError,
    KeyBlockedError,
    Refusal,
)
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.publisher.administration.opened import check_reason
from volact.publisher.administration.publisher import Publisher
from volact.publisher.answering import phone_sites
from volact.publisher.answering.phone_sites import SiteCall, SiteConfirmed
from volact.publisher.rows.activations import Ask
from volact.publisher.rows.change import TELEPHONE, Change
from volact.publisher.rows.ledger import Act
from volact.publisher.rules import issuing, pools
from volact.publisher.rules.issuing import CARRIED_AGE, IssuedKey, Kind
from volact.publisher.rules.pools import Activation
from volact.sealing.confirmation import PhoneKey

PARTIAL_SYMBOLS = 5
# Five symbols are 24 bits of which the caller shows all; so many wrong ones in an hour are slips, more are guesses.
GUESSES_PER_KEY, GUESSES_PER_ACTOR = 5, 20


class PhoneKeyMissingError(ConfigError):
    code = "phone-key-missing"
    fmt = "this publisher has no phone key"
    remedy = (
        "make one with `volact publisher phone --make-key`, then add a new version of each product, so that its "
        "definition names the key"
    )


class CallerUnknownError(ConfigError):
    code = "phone-caller-unknown"
    fmt = "no product key that was issued here fits this installation ID"
    remedy = "ask which publisher's product it is for; if it is yours, the key was not issued by this folder"


class CallerEditionError(ConfigError):
    code = "phone-edition-unknown"
    fmt = "the installation ID is for no edition that the key ending in {partial} covers"
    remedy = (
        "ask which product and edition is installed; a newer definition may have dropped it, or the key is another's"
    )


class CallerGroupsError(ConfigError):
    code = "phone-groups-unknown"
    fmt = "the installation ID is for product groups that no definition has for the key ending in {partial}"
    remedy = "ask which definition the caller's host or directory tool was given; add the publisher's newest to it"


class CallerKeyError(ConfigError):
    code = "phone-caller-key"
    fmt = "the key in the installation ID does not end in {given}"
    remedy = "ask the caller to read the last five symbols of the product key again; without them nothing is confirmed"


class ReasonMissingError(InputError):
    code = "phone-reason-missing"
    fmt = "the ledger takes no confirmation ID without a reason"
    remedy = "say why this machine is activated by telephone, and who called: --reason TEXT"


class GuessesError(ConfigError):
    """Nobody may try out the five symbols, neither at the desk nor by many calls for one key."""

    code = "phone-too-many-guesses"
    fmt = "the key's symbols were given wrong {wrong} times within an hour, {where}"
    remedy = "ask for the whole product key, which is taken at any time; or wait, and ask who calls"


@dataclass(frozen=True, slots=True)
class Call:
    """An installation ID with what it was found to be about.  Nothing is decided yet.

    ``held``: the activation that this machine has of this key already.
    """

    installation: InstallationId
    key: IssuedKey
    definition: ProductDefinition
    edition: Edition
    held: Activation | None

    @property
    def subject(self) -> Subject:
        definition, edition = self.definition, self.edition
        return Subject(definition.root, definition.product, edition.id, edition.group, self.key.key_id)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """``key``: with what is left of its pool now."""

    confirmation: ConfirmationId
    kind: Kind
    key: IssuedKey


AnyCall: TypeAlias = Call | SiteCall


class PhoneDesk:
    def __init__(self, publisher: Publisher, phone_key: PhoneKey) -> None:
        self._publisher, self._phone_key = publisher, phone_key

    @classmethod
    def open(cls, publisher: Publisher, phone_key: PhoneKey | None) -> "PhoneDesk":
        if phone_key is None:
            raise PhoneKeyMissingError()
        return cls(publisher, phone_key)

    @overload
    def look_up(self, installation: InstallationId) -> Call: ...
    @overload
    def look_up(self, installation: SiteInstallationId) -> SiteCall: ...

    def look_up(self, installation: AnyInstallationId) -> AnyCall:
        """Raises :class:`CallerUnknownError`, :class:`CallerEditionError`, :class:`CallerGroupsError`."""
        if isinstance(installation, SiteInstallationId):
            return self._look_up_site(installation)
        key = self._find_key(installation.key_tag, installation.channel)
        definition, edition = self._find_edition(installation, key)
        known = self._publisher.store.activations_beginning(key.key_id, installation.machine)
        held = _find_held(known, definition, installation)
        return Call(installation, key, definition, edition, held)

    @overload
    def confirm(self, call: Call, caller_key: str, reason: str, now: int, actor: str) -> Confirmed: ...
    @overload
    def confirm(self, call: SiteCall, caller_key: str, reason: str, now: int, actor: str) -> SiteConfirmed: ...

    def confirm(self, call: AnyCall, caller_key: str, reason: str, now: int, actor: str) -> Confirmed | SiteConfirmed:
        """Raises :class:`CallerKeyError`, :class:`ReasonMissingError`, and refusals as ``RefusedError``.

        (1) who calls holds the key; (2) decide by the rows; (3) write down, or the refusal; (4) sign.
        """
        _check_reason(reason)
        holds_key, guessable = _holds_key(call.key, caller_key), len(caller_key.strip()) <= PARTIAL_SYMBOLS
        with self._publisher.store.change() as change:
            if guessable:
                _check_guesses(change, call, now, actor)
            if not holds_key:
                _note_stranger(change, call, now, actor)
        if not holds_key:
            raise CallerKeyError(given=caller_key.strip()[-PARTIAL_SYMBOLS:].upper())
        with self._publisher.store.change() as change:
            outcome = self._decide_any(change, call, now, actor)
            if isinstance(outcome, Refusal):
                change.record_refusal(outcome, call.key.key_id, _who(call), TELEPHONE, now, actor)
            elif isinstance(call, SiteCall):
                phone_sites.record_call(change, call, outcome.kind, reason, now, actor)
            else:
                _record_call(change, call, outcome.kind, reason, now, actor)
        if isinstance(outcome, Refusal):
            raise outcome.error()
        return outcome

    def _look_up_site(self, installation: SiteInstallationId) -> SiteCall:
        key = self._find_key(installation.key_tag, KEY_CHANNELS[installation.kind])
        publisher = self._publisher
        newest_first = map(publisher.definition, publisher.store.every_version())
        definition = phone_sites.find_definition(installation, key, newest_first)
        if definition is None:
            raise CallerGroupsError(partial=key.partial)
        newest = publisher.newest(definition.product)
        with publisher.store.change() as change:
            return phone_sites.look_up(change, installation, key, definition, newest)

    def _decide_any(self, change: Change, call: AnyCall, now: int, actor: str) -> Confirmed | SiteConfirmed | Refusal:
        if not isinstance(call, SiteCall):
            return self._decide(change, call, now, actor)
        issued = change.key(call.key.key_id)
        assert issued is not None, "keys are never removed"
        return phone_sites.decide(change, call, issued, self._phone_key.sign, now, actor)

    def _decide(self, change: Change, call: Call, now: int, actor: str) -> Confirmed | Refusal:
        issued = change.key(call.key.key_id)
        assert issued is not None, "keys are never removed"
        refusal = _check(call, issued, now)
        if refusal is not None:
            return refusal
        known = change.activations_beginning(issued.key_id, call.installation.machine)
        ask = _ask(known, call)
        # the same installation ID again: its confirmation ID was lost on the line
        asks = [ask, *(replace(ask, machine=machine) for machine in _names(known, call.installation))]
        change.activations.load(asks)
        earlier = next((found for found in map(change.activations.earlier, asks) if found is not None), None)
        if earlier is not None and earlier.returned_at is not None:
            return Refusal.of(ActivationReturnedError)
        if earlier is not None and _is_about(earlier, call):
            return self._confirmed(call, Kind.REPEATED, issued)
        return self._place(change, call, issued, ask, now, actor)

    def _place(
        self, change: Change, call: Call, issued: IssuedKey, ask: Ask, now: int, actor: str
    ) -> Confirmed | Refusal:
        request = _request(call, ask, now)
        refusal = pools.check_edition(issued, request, call.definition)
        if refusal is not None:
            return refusal
        known, policy = change.activations.known(ask), call.edition.policy
        place = pools.decide_activation(issued, known, request, ask.machine, policy)
        if isinstance(place, Refusal):
            return place
        made = change.activations.place(ask, request, place, now)
        change.record_machine(place.kind, made, place.units, now, actor)
        return self._confirmed(call, place.kind, replace(issued, used=issued.used + place.units))

    def _confirmed(self, call: Call, kind: Kind, key: IssuedKey) -> Confirmed:
        signature = self._phone_key.sign(message(call.subject, call.installation))
        return Confirmed(ConfirmationId(call.installation.reference, signature), kind, key)

    def _find_key(self, tag: bytes, channel: Channel) -> IssuedKey:
        found = [key for key in self._publisher.store.keys_beginning(tag.hex()) if key.channel is channel]
        if len(found) != 1:  # two with the same 40 bits: once in a million keys of a publisher, never yet seen
            raise CallerUnknownError()
        return found[0]

    def _find_edition(self, installation: InstallationId, key: IssuedKey) -> tuple[ProductDefinition, Edition]:
        for signed in self._publisher.store.newest_of_all():
            definition = self._publisher.definition(signed)
            for edition in definition.editions:
                subject = Subject(definition.root, definition.product, edition.id, edition.group, key.key_id)
                if edition.group == key.group and subject.edition_tag == installation.edition_tag:
                    return definition, edition
        raise CallerEditionError(partial=key.partial)


def _who(call: AnyCall) -> bytes:
    """The caller's machine ID, as much of it as was read out."""
    if isinstance(call, SiteCall):
        return whole_name(call.installation.name)
    return name_of(call.installation.machine)


def _check_guesses(change: Change, call: AnyCall, now: int, actor: str) -> None:
    """By the ledger's rows, so that it holds for every desk, command and process.  Raises :class:`GuessesError`."""
    of_key, of_actor = change.wrong_callers(CallerKeyError.code, call.key.key_id, actor, now)
    if of_key >= GUESSES_PER_KEY:
        raise GuessesError(wrong=of_key, where="for this key")
    if of_actor >= GUESSES_PER_ACTOR:
        raise GuessesError(wrong=of_actor, where=f"at this desk, by {actor}")


def _note_stranger(change: Change, call: AnyCall, now: int, actor: str) -> None:
    """In the ledger, so that somebody who guesses is seen; a guess that finds no room there is one too many."""
    refusal = Refusal(CallerKeyError.code)
    if not change.record_refusal(refusal, call.key.key_id, _who(call), TELEPHONE, now, actor):
        raise GuessesError(wrong=GUESSES_PER_KEY, where="for this key")


def _holds_key(key: IssuedKey, text: str) -> bool:
    """Key IDs are public, in every licence: whoever calls must show that they hold the key."""
    given = text.strip().upper()
    if len(given) <= PARTIAL_SYMBOLS:
        return given == key.partial
    return ProductKey.parse(given).key_id == key.key_id


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise ReasonMissingError()
    check_reason(reason)


def _check(call: Call, issued: IssuedKey, now: int) -> Refusal | None:
    """What the online service checks of a request and its key."""
    installation, tolerance = call.installation, call.edition.policy.clock_tolerance
    early, late = installation.requested_at - now, now - installation.requested_at - DAY
    if early > tolerance or late > CARRIED_AGE:
        allowed = tolerance if early > tolerance else CARRIED_AGE
        return Refusal.of(ClockSkewError, difference=max(early, late), tolerance=allowed)
    if issued.channel is not installation.channel or issued.channel not in issuing.POOLED:
        return Refusal.of(ChannelNotServedError, channel=str(issued.channel))
    if issued.blocked_at is not None:
        return Refusal.of(KeyBlockedError, partial=issued.partial)
    return issuing.check_agreement(issued, now)


def _ask(known: Iterable[Activation], call: Call) -> Ask:
    """As the activation that the machine holds already, else as a machine of which no more is known."""
    installation, held = call.installation, _find_held(known, call.definition, call.installation)
    if held is None:
        return Ask(call.key.key_id, name_of(installation.machine), installation.nonce, stand_in(installation))
    return Ask(call.key.key_id, held.machine, installation.nonce, held.fingerprint)


def _names(known: Iterable[Activation], installation: InstallationId) -> list[bytes]:
    """Every machine ID that the caller's may be."""
    return sorted({name_of(installation.machine), *(one.machine for one in known)})


def _find_held(
    known: Iterable[Activation], definition: ProductDefinition, installation: InstallationId
) -> Activation | None:
    for one in known:
        if (
            one.returned_at is None
            and one.product == definition.product
            and shows(one.fingerprint, installation.fingerprint)
        ):
            return one
    return None


def _is_about(earlier: Activation, call: Call) -> bool:
    """A machine online chooses its nonces, and may have chosen that of an installation ID to come."""
    same = (earlier.product, earlier.edition) == (call.definition.product, call.edition.id)
    return same and shows(earlier.fingerprint, call.installation.fingerprint)


def _request(call: Call, ask: Ask, now: int) -> ActivationRequest:
    """The request that the machine would have sealed and sent."""
    return ActivationRequest(
        issuer=TELEPHONE,
        product=call.definition.product,
        version=call.definition.version,
        edition=call.edition.id,
        channel=call.installation.channel,
        nonce=call.installation.nonce,
        response_key=bytes(RESPONSE_KEY_SIZE),
        at=now,
        state=State.INITIAL_GRACE,
        fingerprint=ask.fingerprint,
    )


def _record_call(change: Change, call: Call, kind: Kind, reason: str, now: int, actor: str) -> None:
    data = {
        "kind": str(kind),
        "installation_id": str(call.installation),
        "machine": call.installation.machine.hex(),
        "product": call.definition.product,
        "edition": call.edition.id,
        "reason": reason,
    }
    change.append(now, Act.PHONE_CONFIRMED, actor, call.key.key_id, data)
