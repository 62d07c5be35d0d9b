# SPDX-License-Identifier: Apache-2.0
"""What was activated: machines, hosts with their certificates, forests; and messages of machines that were carried
here: sealed requests and proofs of return.

A carried message proves itself and names itself by its nonce: the same one is answered again, and nothing is counted
twice.  So it needs no Idempotency-Key; a return takes one, since its proof is taken once.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import Depends, Path, Query, Request, Response
from sqlalchemy import Connection

from volact.core.encoding import dump_object
from volact.core.errors import MalformedError, VolactError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.refusal import (
    ActivationReturnedError,
    ActivationUnknownError,
    KeyBlockedError,
    KeyUnknownError,
    RefusedError,
    WrongIssuerError,
)
from volact.publisher.answering.judging import AuthorityEndedError
from volact.publisher.answering.service import Outcome, ReceiptOutcome
from volact.publisher.api.access import Caller
from volact.publisher.api.models.base import KeyName, Name
from volact.publisher.api.models.machines import (
    Activations,
    ExchangeAnswer,
    ExchangeRequest,
    Forests,
    Hosts,
    RefusalShown,
    ReturnTaken,
    TakeReturn,
    activation_of,
    forest_of,
    host_of,
)
from volact.publisher.api.office import Office
from volact.publisher.api.route import Endpoint, TheAct, TheCaller, TheOffice
from volact.publisher.rows import listing
from volact.publisher.rows.records import CertificateMissingError, KeyMissingError
from volact.publisher.rules.issuing import Kind
from volact.sealing.envelope import SealError
from volact.sealing.jws import SignatureError, WrongTypeError
from volact.sealing.proof import RequestSignatureError
from volact.sealing.returns import verify_return
from volact.web.api.pagination import CursorUnfitError, Wanted, link, wanted
from volact.wire.server import IssuerUnknownError

PEM = "application/x-pem-file"

Row = TypeVar("Row")

Page = Annotated[Wanted, Depends(wanted)]
OrganisationQuery = Annotated[Name | None, Query(description="Only those of this organisation.")]
KeyQuery = Annotated[KeyName | None, Query(description="Only those of this key, by its ID or its last five symbols.")]


def list_activations(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: OrganisationQuery = None,
    key: KeyQuery = None,
    returned: Annotated[bool | None, Query(description="Only those that were given back, or that were not.")] = None,
) -> Activations:
    """Of machines, by MAK and retail keys, in the order in which they began."""
    rows = _rows(office, caller, page, organisation, key, partial(listing.activations, returned=returned))
    found = page.cut(rows, lambda one: (one.activation.id,))
    return Activations(items=list(map(activation_of, found.items)), next=link(request, response, found.after))


def list_hosts(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: OrganisationQuery = None,
    key: KeyQuery = None,
) -> Hosts:
    """KMS hosts and VM hosts: every certificate that was made for one."""
    rows = _rows(office, caller, page, organisation, key, listing.hosts)
    found = page.cut(rows, lambda one: (one[0],))
    return Hosts(items=[host_of(*one) for one in found.items], next=link(request, response, found.after))


def get_certificate(
    serial: Annotated[str, Path(pattern=r"^[0-9a-f]{1,50}$")], office: TheOffice, caller: TheCaller
) -> Response:
    """A host's certificate, in PEM."""
    with office.publisher.store.look() as conn:
        der = listing.certificate(conn, serial, caller.organisation)
    try:
        made = x509.load_der_x509_certificate(der) if der else None
    except ValueError:  # of a host that was activated by telephone the row holds something else
        made = None
    if made is None:
        raise CertificateMissingError(serial=serial)
    return Response(made.public_bytes(Encoding.PEM), media_type=PEM)


def list_forests(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: OrganisationQuery = None,
    key: KeyQuery = None,
) -> Forests:
    """Activation objects that were made for forests."""
    rows = _rows(office, caller, page, organisation, key, listing.forest_objects)
    found = page.cut(rows, lambda one: (one.id,))
    return Forests(items=list(map(forest_of, found.items)), next=link(request, response, found.after))


def take_return(body: TakeReturn, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Take an activation back by the proof that its machine made: `volact client deactivate --file FILE`."""
    proven = verify_return(body.proof.strip())
    if caller.organisation is not None and not _owns(office, caller, proven.value.key_id):
        raise KeyMissingError(key=proven.value.key_id)

    def take(_: object) -> ReturnTaken | VolactError:
        (outcome,) = office.service.answer_proven([proven], carried=True, actor=caller.actor)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, ReceiptOutcome), "a proof is answered by a receipt"
        if outcome.refusal is not None:
            return outcome.refusal.error()
        receipt = outcome.receipt
        assert receipt is not None, "what is not refused has a receipt"
        return ReturnTaken(
            machine=outcome.machine.hex(),
            key_id=receipt.key_id,
            credited=receipt.credited,
            used=receipt.used,
            remaining=receipt.remaining,
        )

    return act.once(take)


def answer_exchange(body: ExchangeRequest, office: TheOffice, caller: TheCaller) -> ExchangeAnswer:
    """Answer a request that was carried here: the body is the `.volreq` file, `answer` the `.volans` file.

    A refusal is an answer too, sealed for whoever asked; `outcome` says which of both it is.
    """
    return exchange(office, caller, read_request(body))


def read_request(body: ExchangeRequest) -> RequestFile:
    return RequestFile.from_bytes(dump_object(body.model_dump()))


def check_owner(office: Office, caller: Caller, request: RequestFile) -> None:
    """An organisation's token is for requests with its own keys; one with a key that nobody has is refused as such."""
    if caller.organisation is None:
        return
    owner = office.service.owner_of(request)
    if owner is not None and not caller.sees(owner):
        raise KeyMissingError(key="of this request")


def exchange(office: Office, caller: Caller, request: RequestFile) -> ExchangeAnswer:
    check_owner(office, caller, request)
    answer, outcome = office.service.answer_file(request, caller.actor)
    return shown_outcome(answer, outcome)


def shown_outcome(answer: AnswerFile, outcome: Outcome) -> ExchangeAnswer:
    refusal = outcome.refusal
    return ExchangeAnswer(
        answer=json.loads(answer.to_bytes()),
        outcome="refused" if refusal else str(outcome.kind or Kind.REPEATED),
        machine=outcome.machine.hex(),
        name=outcome.request.name,
        product=outcome.request.product,
        organisation=outcome.organisation or None,
        ends_at=outcome.ends_at,
        refusal=RefusalShown(code=refusal.code, fields=dict(refusal.fields)) if refusal else None,
    )


def _owns(office: Office, caller: Caller, key_id: str) -> bool:
    with office.publisher.store.look() as conn:
        return bool(listing.key_by_name(conn, key_id, caller.organisation))


EXCHANGE: tuple[type[VolactError], ...] = (
    IssuerUnknownError, KeyMissingError, MalformedError, SealError, SignatureError, WrongTypeError,
    RequestSignatureError, AuthorityEndedError,
)  # fmt: skip
_LIST: Any = (CursorUnfitError, KeyMissingError)


def _rows(
    office: Office,
    caller: Caller,
    page: Wanted,
    organisation: str | None,
    key: str | None,
    read: Callable[[Connection, str | None, str | None, int | None, int], Sequence[Row]],
) -> Sequence[Row]:
    """A page of what the caller sees, and one row more: of an organisation and of a key, where they are asked for."""
    (after,) = page.after(int) or (None,)
    if not caller.sees(organisation or caller.organisation):
        return []
    key_id = office.find_key(key, caller).key_id if key else None
    with office.publisher.store.look() as conn:
        return read(conn, caller.organisation or organisation, key_id, after, page.limit + 1)


ENDPOINTS = (
    Endpoint("GET", "/activations", list_activations, Activations, _LIST),
    Endpoint("GET", "/hosts", list_hosts, Hosts, _LIST),
    Endpoint(
        "GET", "/hosts/{serial}/certificate", get_certificate, None, (CertificateMissingError,), media_type=PEM
    ),
    Endpoint("GET", "/forests", list_forests, Forests, _LIST),
    Endpoint("POST", "/returns", take_return, ReturnTaken, (
        *EXCHANGE, RefusedError, ActivationReturnedError, ActivationUnknownError, KeyUnknownError, KeyBlockedError,
        WrongIssuerError,
    ), once=True),
    Endpoint("POST", "/exchange", answer_exchange, ExchangeAnswer, EXCHANGE),
)  # fmt: skip
