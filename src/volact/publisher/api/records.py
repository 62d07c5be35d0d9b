# SPDX-License-Identifier: Apache-2.0
"""The ledger and who did what; revocations, and the signed status that tells the world of them."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from volact.core.licence import Checkpoint
from volact.publisher.administration import tokens
from volact.publisher.administration.errors import (
    HostAmbiguousError,
    HostMissingError,
    ReasonUnfitError,
    ThumbprintError,
)
from volact.publisher.answering.service import CARRIED, ONLINE
from volact.publisher.api.access import Caller
from volact.publisher.api.models.base import KeyName, Name, TimeIn, read_time
from volact.publisher.api.models.records import (
    CheckpointShown,
    Ledger,
    LedgerVerified,
    RevocationState,
    Revoke,
    RevokedShown,
    RevokedSigner,
    VerifyLedger,
    revoked_of,
    row_of,
)
from volact.publisher.api.office import Office
from volact.publisher.api.route import Endpoint, TheAct, TheCaller, TheOffice
from volact.publisher.rows import listing
from volact.publisher.rows.ledger import Act, Comparison, LedgerBrokenError, lines
from volact.publisher.rows.listing import LedgerFilter
from volact.publisher.rows.records import (
    KeyAmbiguousError,
    KeyMissingError,
    OrganisationBlockedError,
    OrganisationMissingError,
)
from volact.web.api.pagination import CursorUnfitError, Wanted, link, wanted
from volact.web.api.problems import RequestInvalidError

NDJSON = "application/x-ndjson"
STATUS_SECONDS = 300  # how long a proxy may keep the status; clients that care ask for a fresh one of an issuer
MOST_TIME = 40

Page = Annotated[Wanted, Depends(wanted)]
ActQuery = Annotated[Act | None, Query(description="Only acts of this kind.")]
ActorQuery = Annotated[Name | None, Query(description="Only acts of this one, as rows call them.")]
TimeQuery = Annotated[
    str | None,
    Query(max_length=MOST_TIME, description="RFC 3339.", json_schema_extra={"format": "date-time"}),
]


def show_revocation_status(request: Request, office: TheOffice) -> Response:
    """Who is revoked, from when, and the signed status itself: public, as it has to be."""
    now = office.clock()
    token, state = office.service.status(now), office.publisher.store.revocations(0)
    made = RevocationState(
        epoch=state.epoch,
        began_at=state.issued_at,
        revoked=[RevokedSigner(signer=one, since=at) for one, at in sorted(state.revoked.items())],
        status=token,
    )
    headers = {"ETag": f'"{state.epoch}-{now // 86400}"', "Cache-Control": f"public, max-age={STATUS_SECONDS}"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(made.model_dump_json(), headers=headers, media_type="application/json")


def revoke(body: Revoke, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Void what a host, any issuer's key, or all hosts of an organisation sign, from a time on.  Never taken back."""
    now = office.clock()
    since = now if body.since is None else body.since
    publisher = office.publisher
    how = {
        "host": publisher.revoke_host,
        "issuer": publisher.revoke_issuer,
        "organisation": publisher.revoke_organisation,
    }[body.what]
    return act.once(lambda _: revoked_of(how(body.name, since, body.reason, now, caller.actor)), 201)


def list_ledger(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: Annotated[Name | None, Query()] = None,
    key: Annotated[KeyName | None, Query()] = None,
    act: ActQuery = None,
    actor: ActorQuery = None,
    since: TimeQuery = None,
    until: TimeQuery = None,
) -> Ledger:
    """Every act, in its order.  An organisation's token is shown the rows of its keys, and those that name it."""
    if not caller.sees(organisation or caller.organisation):
        return Ledger(items=[], next=link(request, response, None))
    key_id = office.find_key(key, caller).key_id if key else None
    wanted = LedgerFilter(
        organisation=caller.organisation or organisation,
        act=str(act) if act else None,
        actor=actor,
        key_id=key_id,
        since=_time("since", since),
        until=_time("until", until),
    )
    return _page(request, response, office, wanted, page)


def list_audit(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    actor: ActorQuery = None,
    since: TimeQuery = None,
    until: TimeQuery = None,
) -> Ledger:
    """Who did what: the ledger's acts of people and tokens, without those that machines asked the service for.

    An organisation's token is shown the acts of that organisation's tokens.
    """
    wanted = LedgerFilter(
        actor=actor,
        actors=_own_actors(office, caller),
        without=(ONLINE, CARRIED),
        since=_time("since", since),
        until=_time("until", until),
    )
    return _page(request, response, office, wanted, page)


def show_checkpoint(office: TheOffice) -> CheckpointShown:
    """The ledger's end as it is now.  Kept elsewhere, it shows later whether rows before it were changed."""
    last = office.publisher.store.last_row()
    assert last is not None, "a publisher's first act is its own making"
    return CheckpointShown(size=last.seq, head=last.hash)


def verify_ledger(body: VerifyLedger, office: TheOffice) -> LedgerVerified:
    """Check every row's hash, and the tables beside it; and that an earlier checkpoint is in it."""
    if (body.size is None) != (body.head is None):
        raise RequestInvalidError(faults=[{"where": "body", "why": "a checkpoint has size and head"}])
    kept = [] if body.size is None or body.head is None else [Checkpoint(body.size, body.head)]
    comparison = Comparison.with_checkpoints(kept)
    last = office.publisher.store.check_ledger(comparison.see)
    comparison.finish()
    assert last is not None, "a publisher's first act is its own making"
    return LedgerVerified(rows=last.seq, head=last.hash, compared=bool(kept))


def export_ledger(office: TheOffice) -> Response:
    """The whole ledger, one row a line as it is hashed, after it was verified."""
    store = office.publisher.store
    last = store.check_ledger()
    return StreamingResponse(lines(store.ledger_rows(1, last.seq if last else 0)), media_type=NDJSON)


def _page(request: Request, response: Response, office: Office, wanted: LedgerFilter, page: Wanted) -> Ledger:
    (after,) = page.after(int) or (0,)
    with office.publisher.store.look() as conn:
        rows = listing.ledger(conn, wanted, after, page.limit + 1)
    found = page.cut(rows, lambda one: (one.seq,))
    return Ledger(items=list(map(row_of, found.items)), next=link(request, response, found.after))


def _own_actors(office: Office, caller: Caller) -> tuple[str, ...] | None:
    if caller.organisation is None:
        return None
    return tuple(token.actor for token in tokens.listed(office.publisher.store, caller.organisation))


def _time(where: str, text: str | None) -> TimeIn | None:
    try:
        return None if text is None else read_time(text)
    except ValueError:
        raise RequestInvalidError(
            faults=[{"where": f"query.{where}", "why": "it is no time as RFC 3339 has it"}]
        ) from None


ENDPOINTS = (
    Endpoint("GET", "/revocation-status", show_revocation_status, RevocationState),
    Endpoint("POST", "/revocations", revoke, RevokedShown, (
        HostMissingError, HostAmbiguousError, ThumbprintError, ReasonUnfitError, OrganisationMissingError,
        OrganisationBlockedError,
    ), status=201, once=True),
    Endpoint("GET", "/ledger", list_ledger, Ledger, (CursorUnfitError, KeyMissingError, KeyAmbiguousError)),
    Endpoint("GET", "/ledger/checkpoint", show_checkpoint, CheckpointShown),
    Endpoint("POST", "/ledger/verify", verify_ledger, LedgerVerified, (LedgerBrokenError,)),
    Endpoint("GET", "/ledger/export", export_ledger, None, (LedgerBrokenError,), media_type=NDJSON),
    Endpoint("GET", "/audit", list_audit, Ledger, (CursorUnfitError,)),
)  # fmt: skip
