# SPDX-License-Identifier: Apache-2.0
"""Telephone activation, one call at a time, and many machines at once by whoever speaks for them (MAK proxy).

The same installation ID gets the same confirmation ID again, so that neither needs an Idempotency-Key.  In a proxied
list each machine is decided on its own: one that is refused keeps nobody from being confirmed.
"""

from typing import Any

from volact.core.definition import ProductDefinition
from volact.core.errors import VolactError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.phone import (
    PhoneFormatError,
    PhoneLengthError,
    PhoneSymbolError,
    PhoneTypoError,
)
from volact.core.phone_site import parse_installation_id
from volact.core.refusal import (
    ActivationLimitError,
    ActivationReturnedError,
    ActivationsExhaustedError,
    AgreementEndedError,
    AgreementNotBegunError,
    ChannelNotServedError,
    ClockSkewError,
    EditionUnknownError,
    ForestLimitError,
    HostLimitError,
    HostRevokedError,
    KeyBlockedError,
    KeyGroupMismatchError,
)
from volact.publisher.administration.errors import ReasonUnfitError
from volact.publisher.answering.phone import (
    AnyCall,
    Call,
    CallerEditionError,
    CallerGroupsError,
    CallerKeyError,
    CallerUnknownError,
    Confirmed,
    GuessesError,
    PhoneKeyMissingError,
    ReasonMissingError,
)
from volact.publisher.answering.phone_sites import SiteConfirmed
from volact.publisher.answering.service import MAX_BATCH, Outcome
from volact.publisher.api.access import Caller
from volact.publisher.api.keys import PARSED
from volact.publisher.api.machines import check_owner, read_request, shown_outcome
from volact.publisher.api.models.base import show_time
from volact.publisher.api.models.calls import (
    CallConfirmed,
    CallShown,
    ConfirmCall,
    ConfirmProxied,
    LookUpCall,
    ProxiedAnswer,
    ProxiedAnswers,
    ProxiedMachine,
)
from volact.publisher.api.models.problems import Problem
from volact.publisher.api.office import Office
from volact.publisher.api.problems import STATUSES
from volact.publisher.api.route import Endpoint, TheCaller, TheOffice
from volact.publisher.rules.issuing import POOLED
from volact.web.api.problems import RequestInvalidError
from volact.web.errors import InternalError


def look_up_call(body: LookUpCall, office: TheOffice, caller: TheCaller) -> CallShown:
    """What an installation ID is about: whose key, which product, what is left.  Nothing is decided or written."""
    call = _look_up(office, caller, body.installation_id)
    edition = call.edition if isinstance(call, Call) else None
    activations, remaining, held = _places(call)
    return CallShown(
        caller="machine" if isinstance(call, Call) else str(call.installation.kind),
        organisation=call.key.organisation,
        product=call.definition.product,
        product_name=call.definition.name,
        edition=edition.id if edition else None,
        edition_name=edition.name if edition else None,
        kind=str(call.key.channel),
        key_id=call.key.key_id,
        activations=activations,
        remaining=remaining,
        blocked=call.key.blocked_at is not None,
        asked_on=show_time(_asked_at(call))[:10],
        held=held,
    )


def confirm_call(body: ConfirmCall, office: TheOffice, caller: TheCaller) -> CallConfirmed:
    """Answer an installation ID with a confirmation ID.  Whoever calls shows that they hold the key."""
    return _confirm(office, caller, body.installation_id, body.key, body.reason)


def confirm_proxied(body: ConfirmProxied, office: TheOffice, caller: TheCaller) -> ProxiedAnswers:
    """Confirm many machines, each by its digits and key or by its sealed request, each answered on its own, in order.

    A machine that was answered before gets the same answer again and uses nothing up.
    """
    answers: dict[int, ProxiedAnswer] = _answer_requests(office, caller, body.machines)
    for number, machine in enumerate(body.machines):
        if number not in answers:
            answers[number] = _answer_digits(office, caller, machine, body.reason)
    return ProxiedAnswers(items=[answers[number] for number in range(len(body.machines))])


def _answer_digits(office: Office, caller: Caller, machine: ProxiedMachine, reason: str) -> ProxiedAnswer:
    try:
        if machine.request is not None or machine.installation_id is None or machine.key is None:
            raise RequestInvalidError(
                faults=[{"where": machine.id, "why": "it has either installation_id and key, or request"}]
            )
        confirmed = _confirm(office, caller, machine.installation_id, machine.key, reason)
        return ProxiedAnswer(id=machine.id, confirmation=confirmed)
    except VolactError as exc:
        return _problem(machine, exc)


def _answer_requests(office: Office, caller: Caller, machines: list[ProxiedMachine]) -> dict[int, ProxiedAnswer]:
    """Those that are sealed requests, in batches as the online service takes them."""
    answers: dict[int, ProxiedAnswer] = {}
    fit: list[tuple[int, RequestFile]] = []
    for number, machine in enumerate(machines):
        if machine.request is None or machine.installation_id is not None or machine.key is not None:
            continue
        try:
            request = read_request(machine.request)
            check_owner(office, caller, request)
            fit.append((number, request))
        except VolactError as exc:
            answers[number] = _problem(machine, exc)
    for start in range(0, len(fit), MAX_BATCH):
        batch = fit[start : start + MAX_BATCH]
        asked = [(request.issuer, request.sealed) for _, request in batch]
        outcomes = office.service.answer_all(asked, carried=True, actor=caller.actor)
        for (number, request), outcome in zip(batch, outcomes, strict=True):
            answers[number] = _answered(machines[number], request, outcome)
    return answers


def _answered(machine: ProxiedMachine, request: RequestFile, outcome: Any) -> ProxiedAnswer:
    if isinstance(outcome, Outcome):
        answer = shown_outcome(AnswerFile(request.issuer, outcome.sealed), outcome)
        return ProxiedAnswer(id=machine.id, answer=answer)
    if isinstance(outcome, VolactError):
        return _problem(machine, outcome)
    if isinstance(outcome, Exception):
        return _problem(machine, InternalError())
    return _problem(machine, RequestInvalidError(faults=[{"where": machine.id, "why": "it asks for no licence"}]))


def _look_up(office: Office, caller: Caller, digits: str) -> AnyCall:
    """An organisation's token is shown calls with its own keys only."""
    call: AnyCall = office.desk.look_up(parse_installation_id(digits))
    if not caller.sees(call.key.organisation):
        raise CallerUnknownError()
    return call


def _confirm(office: Office, caller: Caller, digits: str, key: str, reason: str) -> CallConfirmed:
    call = _look_up(office, caller, digits)
    confirmed: Confirmed | SiteConfirmed = office.desk.confirm(call, key, reason, office.clock(), caller.actor)
    issued, definition = confirmed.key, _definition(call)
    return CallConfirmed(
        confirmation_id=str(confirmed.confirmation),
        groups=list(confirmed.confirmation.groups),
        kind=str(confirmed.kind),
        organisation=issued.organisation,
        product=definition.product,
        edition=call.edition.id if isinstance(call, Call) else None,
        key_id=issued.key_id,
        partial=issued.partial,
        remaining=issued.remaining if issued.channel in POOLED else None,
        ends_at=confirmed.ends_at if isinstance(confirmed, SiteConfirmed) else None,
    )


def _places(call: AnyCall) -> tuple[int, int, bool]:
    if isinstance(call, Call):
        return call.key.activations, call.key.remaining, call.held is not None
    return call.limit, max(0, call.limit - call.places), call.held


def _asked_at(call: AnyCall) -> int:
    return call.installation.requested_at if isinstance(call, Call) else call.installation.begins_at


def _definition(call: AnyCall) -> ProductDefinition:
    return call.definition


def _problem(machine: ProxiedMachine, error: VolactError) -> ProxiedAnswer:
    return ProxiedAnswer(id=machine.id, problem=Problem(**STATUSES.document(error)))


_LOOK_UP: tuple[type[VolactError], ...] = (
    PhoneKeyMissingError, CallerUnknownError, CallerEditionError, CallerGroupsError, PhoneSymbolError,
    PhoneLengthError, PhoneTypoError, PhoneFormatError,
)  # fmt: skip
_REFUSED: tuple[type[VolactError], ...] = (
    KeyBlockedError, ActivationsExhaustedError, ActivationReturnedError, AgreementEndedError, AgreementNotBegunError,
    ClockSkewError, ChannelNotServedError, EditionUnknownError, KeyGroupMismatchError, HostLimitError,
    ActivationLimitError, ForestLimitError, HostRevokedError,
)  # fmt: skip
ENDPOINTS = (
    Endpoint("POST", "/phone/calls", look_up_call, CallShown, _LOOK_UP),
    Endpoint("POST", "/phone/confirmations", confirm_call, CallConfirmed, (
        *_LOOK_UP, *_REFUSED, *PARSED, CallerKeyError, GuessesError, ReasonMissingError, ReasonUnfitError,
    )),
    Endpoint("POST", "/proxy/confirmations", confirm_proxied, ProxiedAnswers),
)  # fmt: skip
