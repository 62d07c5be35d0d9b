# SPDX-License-Identifier: Apache-2.0
"""Product keys: issued (and shown once), listed with what is left, raised, blocked, superseded.

No If-Match here: every act on a key is decided by its row in the transaction of the act, and none can undo another one
by mistake: a key is only raised, is blocked once, and is superseded once.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response

from volact.core.errors import VolactError
from volact.core.product_key import (
    Channel,
    ProductKey,
    ProductKeyFormatError,
    ProductKeyMalformedError,
    ProductKeySymbolError,
    ProductKeyTypoError,
)
from volact.publisher.administration.errors import (
    AgreementGroupError,
    KeyCountError,
    KeyNotRaisedError,
    KeySupersededError,
    LimitUnfitError,
    ReasonUnfitError,
)
from volact.publisher.administration.keys import DraftKey
from volact.publisher.api import entitlement
from volact.publisher.api.access import Caller
from volact.publisher.api.entitlement import (
    AgreementHostKeyError,
    AgreementNeededError,
    AgreementQuantityError,
    HostLimitsError,
)
from volact.publisher.api.models.base import KeyName, Name
from volact.publisher.api.models.keys import (
    BlockKey,
    IssueKeys,
    Keys,
    KeyShown,
    Kind,
    NewKeys,
    NewKeyShown,
    RaiseKey,
    RefreshedKey,
    RefreshedKeys,
    RefreshKeys,
    key_of,
    new_key_of,
)
from volact.publisher.api.models.problems import Problem
from volact.publisher.api.office import Office
from volact.publisher.api.parties import find_agreement
from volact.publisher.api.problems import STATUSES
from volact.publisher.api.route import Endpoint, TheAct, TheCaller, TheOffice
from volact.publisher.rows import listing
from volact.publisher.rows.change import Change
from volact.publisher.rows.listing import KeyFilter
from volact.publisher.rows.records import (
    AgreementMissingError,
    AgreementOrganisationError,
    KeyAmbiguousError,
    KeyMissingError,
    OrganisationBlockedError,
    OrganisationMissingError,
    ProductNotPublishedError,
)
from volact.publisher.rules.catalogue import GroupMissingError
from volact.publisher.rules.issuing import POOLED, IssuedKey
from volact.web.api.pagination import CursorUnfitError, Wanted, link, wanted
from volact.web.api.problems import RequestInvalidError

Page = Annotated[Wanted, Depends(wanted)]
KeyPath = Annotated[
    KeyName, Path(description="Its ID, or its last five symbols; the whole key is a secret and no part of an address.")
]


def list_keys(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: Annotated[Name | None, Query()] = None,
    product: Annotated[Name | None, Query()] = None,
    group: Annotated[int | None, Query(ge=1, le=65_535)] = None,
    agreement: Annotated[Name | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
    blocked: Annotated[bool | None, Query()] = None,
) -> Keys:
    """In the order in which they were issued."""
    after = page.after(int, str)
    if not caller.sees(organisation or caller.organisation):
        return Keys(items=[], next=link(request, response, None))
    wanted = KeyFilter(caller.organisation or organisation, product, group, agreement, kind, blocked)
    with office.publisher.store.look() as conn:
        rows = listing.keys(conn, wanted, after, page.limit + 1)
        hosts = listing.hosts_used(conn, [row.key_id for row in rows if row.channel not in POOLED])
    found = page.cut(rows, lambda one: (one.issued_at, one.key_id))
    return Keys(items=[key_of(one, hosts) for one in found.items], next=link(request, response, found.after))


def show_key(key: KeyPath, office: TheOffice, caller: TheCaller) -> KeyShown:
    """A key as it is now: `remaining` counts every activation that was answered."""
    return _shown(office, office.find_key(key, caller))


def refresh_keys(body: RefreshKeys, office: TheOffice, caller: TheCaller) -> RefreshedKeys:
    """Many keys at once, by what is known of each; each is answered on its own.  Here whole keys may be sent."""
    return RefreshedKeys(items=[_refreshed(office, caller, name) for name in body.keys])


def issue_keys(body: IssueKeys, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """All of them or none.  The keys are in this answer and nowhere else; the publisher keeps their hashes.

    Send an Idempotency-Key: an answer that was lost is given again for a day.
    """
    drafts = _draft(body, office, caller)  # 8 ms a key: before the transaction, which everybody waits for

    def issue(change: Change) -> NewKeys:
        new = office.publisher.issue(drafts, caller.actor)
        _check_entitled(change, caller, new[0].issued)
        return NewKeys(keys=list(map(new_key_of, new)))

    return act.once(issue, 201)


def raise_key(body: RaiseKey, key: KeyPath, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Give a key more activations, or more hosts."""
    found = office.find_key(key, caller)
    if body.activations is None and body.hosts is None:
        raise _fault("activations", "activations or hosts are needed")
    if body.hosts is not None and found.channel in POOLED:
        raise _fault("hosts", f"a {found.channel} key has no hosts")
    if caller.organisation is not None and found.channel not in POOLED:
        raise HostLimitsError()
    now = office.clock()

    def more(change: Change) -> KeyShown:
        raised = office.publisher.raise_key(found, now, caller.actor, activations=body.activations, hosts=body.hosts)
        _check_entitled(change, caller, raised)
        return _shown(office, raised)

    return act.once(more)


def block_key(body: BlockKey, key: KeyPath, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Refuse all further requests with a key.  What was activated stays; one that is blocked stays as it is."""
    found, now = office.find_key(key, caller), office.clock()

    def block(change: Change) -> KeyShown:
        office.publisher.block_key(found, body.reason, now, caller.actor)
        return _current(office, change, found)

    return act.once(block)


def unblock_key(key: KeyPath, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Allow a blocked key again; one that was superseded stays blocked."""
    found, now = office.find_key(key, caller), office.clock()

    def unblock(change: Change) -> KeyShown:
        office.publisher.unblock_key(found, now, caller.actor)
        return _current(office, change, found)

    return act.once(unblock)


def supersede_key(key: KeyPath, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Block a key that was lost or published, and issue one with what is left of its pool.  It is shown this once."""
    found, now = office.find_key(key, caller), office.clock()
    return act.once(lambda _: new_key_of(office.publisher.supersede_key(found, office.keys, now, caller.actor)), 201)


def _draft(body: IssueKeys, office: Office, caller: Caller) -> list[DraftKey]:
    organisation = body.organisation or caller.organisation
    if organisation is None:
        raise _fault("organisation", "an operator says for whom the keys are")
    if not caller.sees(organisation):
        raise OrganisationMissingError(name=organisation)
    if body.agreement is not None:
        find_agreement(office, caller, body.agreement)
    elif caller.organisation is not None:
        raise AgreementNeededError()
    channel, now = Channel(body.kind), office.clock()
    common: dict[str, Any] = {"channel": channel, "keys": office.keys, "agreement": body.agreement}
    place = (organisation, body.product, body.group, now)
    if channel in POOLED:
        if body.hosts is not None:
            raise _fault("hosts", f"a {channel} key has no hosts")
        return office.publisher.draft_pool_keys(*place, activations=body.activations, count=body.count, **common)
    if body.count != 1:
        raise _fault("count", f"{channel} keys are issued one at a time")
    if caller.organisation is not None and (body.hosts, body.activations) != (None, None):
        raise HostLimitsError()
    return [office.publisher.draft_host_key(*place, hosts=body.hosts, activations=body.activations, **common)]


def _check_entitled(change: Change, caller: Caller, key: IssuedKey) -> None:
    if caller.organisation is not None:
        entitlement.check(change.conn, key.agreement, key.group, key.channel)


def _refreshed(office: Office, caller: Caller, name: str) -> RefreshedKey:
    whole = len(name.strip()) > 5 and len(name.strip()) != 32
    shown = name.strip()[-5:] if whole else name
    try:
        key = _by_whole(office, caller, name) if whole else office.find_key(name.strip(), caller)
        return RefreshedKey(name=shown, key=_shown(office, key), problem=None)
    except VolactError as exc:
        return RefreshedKey(name=shown, key=None, problem=Problem(**STATUSES.document(exc)))


def _by_whole(office: Office, caller: Caller, text: str) -> IssuedKey:
    key = ProductKey.parse(text)
    key_id = office.finder.find([key]).get(key)
    if key_id is None:
        raise KeyMissingError(key=f"ending in {key.partial}")
    return office.find_key(key_id, caller)


def _shown(office: Office, key: IssuedKey) -> KeyShown:
    if key.channel in POOLED:
        return key_of(key)
    with office.publisher.store.look() as conn:
        return key_of(key, listing.hosts_used(conn, [key.key_id]))


def _current(office: Office, change: Change, key: IssuedKey) -> KeyShown:
    found = change.key(key.key_id)
    assert found is not None, "keys are never removed"
    return _shown(office, found)


def _fault(where: str, why: str) -> RequestInvalidError:
    return RequestInvalidError(faults=[{"where": f"body.{where}", "why": why}])


_FIND: Sequence[type[VolactError]] = (KeyMissingError, KeyAmbiguousError)
_ENTITLED: Sequence[type[VolactError]] = (
    AgreementNeededError, AgreementQuantityError, AgreementHostKeyError, HostLimitsError,
)  # fmt: skip
PARSED: Sequence[type[VolactError]] = (
    ProductKeyMalformedError, ProductKeySymbolError, ProductKeyTypoError, ProductKeyFormatError,
)  # fmt: skip
_OWNER: Sequence[type[VolactError]] = (
    OrganisationMissingError, OrganisationBlockedError, AgreementMissingError, AgreementOrganisationError,
    AgreementGroupError,
)  # fmt: skip
ENDPOINTS = (
    Endpoint("GET", "/keys", list_keys, Keys, (CursorUnfitError,)),
    Endpoint("POST", "/keys", issue_keys, NewKeys, (
        *_OWNER, *_ENTITLED, ProductNotPublishedError, GroupMissingError, LimitUnfitError, KeyCountError,
    ), status=201, once=True),
    Endpoint("POST", "/keys/refresh", refresh_keys, RefreshedKeys),
    Endpoint("GET", "/keys/{key}", show_key, KeyShown, _FIND),
    Endpoint("POST", "/keys/{key}/raise", raise_key, KeyShown, (
        *_FIND, *_ENTITLED, KeyNotRaisedError, LimitUnfitError,
    ), once=True),
    Endpoint("POST", "/keys/{key}/block", block_key, KeyShown, (*_FIND, ReasonUnfitError), once=True),
    Endpoint("POST", "/keys/{key}/unblock", unblock_key, KeyShown, (*_FIND, KeySupersededError), once=True),
    Endpoint("POST", "/keys/{key}/supersede", supersede_key, NewKeyShown, (
        *_FIND, KeySupersededError, OrganisationBlockedError, LimitUnfitError,
    ), status=201, once=True),
)  # fmt: skip
