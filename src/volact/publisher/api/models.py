# SPDX-License-Identifier: Apache-2.0
"""The API's vocabulary: what requests hold and what answers show.  Names are those of the command line's ``--json``.

Requests are strict: unknown members, numbers in quotes and texts with control characters are refused.  Times are
RFC 3339 in UTC outside and Unix seconds inside.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from volact.core.definition import Edition, ProductDefinition
from volact.core.exchange import FORMAT, REQUEST
from volact.core.returning import MAX_PROOF
from volact.publisher.administration import MAX_REASON, MOST_KEYS, MOST_LIMIT, NewKey, Revoked
from volact.publisher.api.access import Role, Scope
from volact.publisher.catalogue import MAX_FILE
from volact.publisher.folder import MAX_NAME
from volact.publisher.issuing import POOLED, IssuedKey
from volact.publisher.ledger import Row
from volact.publisher.listing import HeldActivation, HeldForest, Use
from volact.publisher.records import Agreement, HostActivation, Organisation, Signed
from volact.web.tokens import MOST_LABEL, Token

MOST_GROUP = 65_535
MOST_PROXIED = 200  # installation IDs or requests of one call: some seconds of work
MOST_REFRESHED = 200
MOST_DIGITS = 400  # of an installation ID, with what people type between them
MOST_API_KEYS = 1000  # of one call, 8 s of work; the command line makes more at once
LATEST_YEAR = 2200

Kind = Literal["kms-host", "vm-host", "mak", "retail"]
RoleName = Literal["viewer", "phone", "operator", "administrator"]
ScopeName = Literal[
    "products:read", "organisation:read", "agreements:read", "keys:read", "keys:issue", "keys:raise", "keys:block",
    "keys:supersede", "activations:read", "returns:write", "exchange:answer", "phone:confirm", "ledger:read",
    "tokens:manage",
]  # fmt: skip


def show_time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is a text")  # noqa: TRY004 - pydantic's way to say it
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("a time needs its zone, Z for UTC")
    if not 1970 <= at.year <= LATEST_YEAR:
        raise ValueError(f"a time is between 1970 and {LATEST_YEAR}")
    return max(0, int(at.timestamp()))


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it is not a line of printable characters without spaces at its ends")
    return text


_TIME = {"type": "string", "format": "date-time", "examples": ["2027-03-01T00:00:00Z"]}
Time = Annotated[int, PlainSerializer(show_time), WithJsonSchema(_TIME, mode="serialization")]
TimeIn = Annotated[int, BeforeValidator(read_time), WithJsonSchema(_TIME)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)]
Reason = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_printable)]
GroupNumber = Annotated[int, Field(ge=1, le=MOST_GROUP, examples=[102])]
Figure = Annotated[int, Field(ge=1, le=MOST_LIMIT)]
KeyId = Annotated[str, Field(examples=["5d1f3c0a9b8e7d6c5b4a39281706f5e4"])]
Partial = Annotated[str, Field(description="The key's last five symbols.", examples=["33GJK"])]
# A whole key is a secret, and an address is logged everywhere.
KeyName = Annotated[str, Field(pattern=r"^([0-9a-f]{32}|[0-9A-Za-z]{5})$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


# ---- what is asked


class AddVersion(Body):
    toml: Annotated[str, Field(min_length=1, max_length=MAX_FILE, description="The product's TOML file, as text.")]


class AddOrganisation(Body):
    organisation: Name


class AddAgreement(Body):
    agreement: Name
    organisation: Name
    starts_at: TimeIn | None = Field(None, description="Now, where it is left out.")
    ends_at: TimeIn | None = None
    quantities: Annotated[
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], Figure],
        Field(min_length=1, max_length=200, description="Licences by product group's number.", examples=[{"102": 100}]),
    ]


class ChangeAgreement(Body):
    ends_at: TimeIn | None = Field(description="When it ends; null: it does not.")


class IssueKeys(Body):
    """An organisation's token issues keys under its own agreements, as far as their quantities go."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "mak",
                    "product": "acme-cad",
                    "group": "102",
                    "organisation": "Example Ltd",
                    "agreement": "EA-2027",
                    "activations": 50,
                }
            ]
        }
    )

    kind: Kind
    product: Name
    group: Name = Field(description="A product group, by name or number.")
    organisation: Name | None = Field(None, description="For operators; an organisation's token issues to its own.")
    agreement: Name | None = None
    activations: Figure | None = Field(
        None,
        description="Of each host (left out: the policy's), of a MAK in all (the agreement's quantity), of a retail "
        "key (1).",
    )
    hosts: Figure | None = Field(None, description="Of a host key; left out: the product's policy.")
    count: Annotated[int, Field(ge=1, le=min(MOST_API_KEYS, MOST_KEYS))] = 1


class RaiseKey(Body):
    activations: Figure | None = Field(None, description="The new number in all, not what is added.")
    hosts: Figure | None = None


class BlockKey(Body):
    reason: Reason = ""


class RefreshKeys(Body):
    keys: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=60)]],
        Field(min_length=1, max_length=MOST_REFRESHED, description="Each whole, by its last five symbols, or its ID."),
    ]


class TakeReturn(Body):
    proof: Annotated[str, Field(min_length=1, max_length=MAX_PROOF, description="What is in the .volreturn file.")]


class ExchangeRequest(Body):
    """A ``.volreq`` file as it is."""

    format: Literal["volact-request"] = REQUEST  # type: ignore[assignment]
    v: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    root: Annotated[str, Field(min_length=1, max_length=80)]
    product: Annotated[str, Field(min_length=1, max_length=63)]
    issuer: Annotated[str, Field(min_length=1, max_length=64)]
    sealed: Annotated[str, Field(min_length=1, max_length=90_000)]


class LookUpCall(Body):
    installation_id: Annotated[str, Field(min_length=1, max_length=MOST_DIGITS)]


class ConfirmCall(LookUpCall):
    key: Annotated[str, Field(min_length=1, max_length=60, description="The caller's key, or its last five symbols.")]
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON), AfterValidator(_printable)]


class ProxiedMachine(Body):
    """One machine: digits with the key, or a sealed request, in which the key is."""

    id: Annotated[str, Field(min_length=1, max_length=100, description="The caller's own name for it.")]
    installation_id: Annotated[str, Field(min_length=1, max_length=MOST_DIGITS)] | None = None
    key: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    request: ExchangeRequest | None = None


class ConfirmProxied(Body):
    machines: Annotated[list[ProxiedMachine], Field(min_length=1, max_length=MOST_PROXIED)]
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON), AfterValidator(_printable)]


class Revoke(Body):
    what: Literal["host", "issuer", "organisation"]
    name: Annotated[
        Name,
        Field(description="A host's name or 8 or more digits of its machine ID; a key's thumbprint; an organisation."),
    ]
    since: TimeIn | None = Field(None, description="What was signed from then on is void; left out: from now on.")
    reason: Reason = ""


class VerifyLedger(Body):
    size: Annotated[int, Field(ge=1, le=2**53)] | None = Field(None, description="Of an earlier checkpoint.")
    head: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class MakeToken(Body):
    label: Annotated[str, Field(min_length=1, max_length=MOST_LABEL), AfterValidator(_printable)]
    organisation: Name | None = Field(None, description="For operators; an organisation's token makes its own.")
    scopes: Annotated[list[ScopeName], Field(max_length=len(Scope))] = []
    role: RoleName | None = Field(None, description="Of an operator's token, which has no scopes.")
    ends_at: TimeIn | None = Field(None, description="Left out: in a year.")


# ---- what is shown


class Problem(Shown):
    """RFC 9457.  Programs compare ``code`` and read ``fields``; people read ``detail`` and ``remedy``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    fields: dict[str, Any]


class ProblemType(Shown):
    code: str
    type: str
    title: str
    status: int
    detail: str = Field(description="The sentence; words in braces are fields.")
    remedy: str
    documentation: str = Field(description="Its section in the reference of errors.")


class ProblemTypes(Shown):
    items: list[ProblemType]


class Whoami(Shown):
    token_id: str
    label: str
    organisation: str | None
    role: str | None
    scopes: list[str]
    ends_at: Time
    may: list[str] = Field(description="The operations of this API that the token is admitted to.")


class RevokedSigner(Shown):
    signer: str
    since: Time


class RevocationState(Shown):
    epoch: int
    began_at: Time
    revoked: list[RevokedSigner]
    status: str = Field(description="Signed: what `volact host status-update` takes.")


class ProductShown(Shown):
    product: str
    name: str
    version: int
    editions: list[str]
    signed_at: Time


class VersionShown(Shown):
    product: str
    version: int
    signed_at: Time


class Group(Shown):
    number: int
    name: str
    parent: int | None


class GroupShown(Group):
    products: list[str]
    below: list[int] = Field(description="What a host key of this group serves as well.")


class EditionShown(Shown):
    id: str
    name: str
    kind: str
    group: int
    threshold: int
    keys: dict[str, str] = Field(description="Generic keys by channel; they are public.")
    policy: dict[str, Any]


class DefinitionShown(Shown):
    product: str
    name: str
    version: int
    publisher: str
    root: str
    url: str | None
    signed_at: Time
    groups: list[Group]
    editions: list[EditionShown]


class OrganisationShown(Shown):
    organisation: str
    added_at: Time
    keys: int
    blocked_at: Time | None


class AgreementShown(Shown):
    agreement: str
    organisation: str
    starts_at: Time
    ends_at: Time | None
    added_at: Time
    quantities: dict[str, int]


class UseShown(Shown):
    agreement: str
    organisation: str
    group: int
    bought: int
    keys: int
    activations: int = Field(description="What its MAK and retail keys allow; of blocked ones, what they have used.")
    used: int


class KeyShown(Shown):
    key_id: KeyId
    partial: Partial
    kind: str
    product: str
    group: int
    organisation: str
    agreement: str | None
    hosts: int
    hosts_used: int | None = Field(None, description="Of a host key.")
    activations: int = Field(description="Of each host for a host key, else the size of the pool.")
    used: int | None = Field(description="Of a MAK or retail key.")
    remaining: int | None
    superseded_by: str | None
    issued_at: Time
    blocked_at: Time | None
    blocked_reason: str


class NewKeyShown(KeyShown):
    key: str = Field(description="The key itself, shown this once.", examples=["9NR7Y-PNRJ3-TCRCR-WP494-Y7WA6"])


class NewKeys(Shown):
    keys: list[NewKeyShown]


class RefreshedKey(Shown):
    name: str = Field(description="What was asked for; of a whole key, its last five symbols.")
    key: KeyShown | None
    problem: Problem | None


class RefreshedKeys(Shown):
    items: list[RefreshedKey]


class ActivationShown(Shown):
    id: int
    key_id: str
    partial: str
    organisation: str
    machine: str
    name: str
    product: str
    edition: str
    activations: int = Field(description="What it took of the pool.")
    times: int
    first_at: Time
    last_at: Time
    returned_at: Time | None
    credited: bool | None


class HostShown(Shown):
    id: int
    key_id: str
    partial: str
    organisation: str
    machine: str
    name: str
    product: str
    kind: str
    at: Time
    ends_at: Time
    serial: str


class ForestShown(Shown):
    id: int
    object_id: str
    key_id: str
    partial: str
    organisation: str
    identity: str = Field(description="What makes two forests the same one.")
    issued_at: Time
    ends_at: Time
    claim: dict[str, Any] = Field(description="What the activation object says, or what was confirmed by telephone.")


class ReturnTaken(Shown):
    machine: str
    key_id: str
    credited: bool | None
    used: int
    remaining: int


class RefusalShown(Shown):
    code: str
    fields: dict[str, str | int]


class ExchangeAnswer(Shown):
    """``answer`` is the ``.volans`` file, to be carried back; of a refusal too."""

    answer: dict[str, Any]
    outcome: str = Field(description="activated, reactivated, renewed, repeated or refused.")
    machine: str
    name: str
    product: str
    organisation: str | None
    ends_at: Time | None
    refusal: RefusalShown | None


class CallShown(Shown):
    """``activations`` and ``remaining``: of a pool, or of the places of a host key."""

    caller: str = Field(description="machine, kms-host, vm-host or forest.")
    organisation: str
    product: str
    product_name: str
    edition: str | None = Field(description="Of a machine.")
    edition_name: str | None
    kind: str = Field(description="The key's.")
    key_id: str
    activations: int
    remaining: int
    blocked: bool
    asked_on: str = Field(description="The day, UTC.")
    held: bool = Field(description="Whether this caller has one of them already.")


class CallConfirmed(Shown):
    confirmation_id: str
    groups: list[str]
    kind: str = Field(description="activated, reactivated, renewed or repeated.")
    organisation: str
    product: str
    edition: str | None
    key_id: str
    partial: str
    remaining: int | None = Field(description="Of a pool.")
    ends_at: Time | None = Field(description="Of a host's certificate or a forest's object; null: perpetual.")


class ProxiedAnswer(Shown):
    """Exactly one of the last three is there."""

    id: str
    confirmation: CallConfirmed | None = None
    answer: ExchangeAnswer | None = None
    problem: Problem | None = None


class ProxiedAnswers(Shown):
    items: list[ProxiedAnswer]


class RevokedShown(Shown):
    revoked: list[str]
    since: Time
    epoch: int


class LedgerRow(Shown):
    seq: int
    at: Time
    act: str
    actor: str
    key_id: str | None
    data: str = Field(description="JSON as it is hashed.")
    previous: str
    hash: str


class CheckpointShown(Shown):
    size: int
    head: str


class LedgerVerified(Shown):
    rows: int
    head: str
    compared: bool = Field(description="Whether an earlier checkpoint was found in it.")


class TokenShown(Shown):
    id: str
    label: str
    organisation: str | None
    role: str | None
    scopes: list[str]
    made_at: Time
    made_by: str
    ends_at: Time
    last_used_at: Time | None
    revoked_at: Time | None


class NewToken(TokenShown):
    token: str = Field(description="The token itself, shown this once.")


Item = TypeVar("Item", bound=Shown)


class Listed(Shown):
    next: str | None = Field(description="`cursor` of the next page; null on the last one.")


class Products(Listed):
    items: Sequence[ProductShown]


class Versions(Listed):
    items: Sequence[VersionShown]


class Groups(Listed):
    items: Sequence[GroupShown]


class Organisations(Listed):
    items: Sequence[OrganisationShown]


class Agreements(Listed):
    items: Sequence[AgreementShown]


class Usage(Listed):
    items: Sequence[UseShown]


class Keys(Listed):
    items: Sequence[KeyShown]


class Activations(Listed):
    items: Sequence[ActivationShown]


class Hosts(Listed):
    items: Sequence[HostShown]


class Forests(Listed):
    items: Sequence[ForestShown]


class Ledger(Listed):
    items: Sequence[LedgerRow]


class TokensListed(Listed):
    items: Sequence[TokenShown]


# ---- from rows


def product_of(definition: ProductDefinition) -> ProductShown:
    return ProductShown(
        product=definition.product,
        name=definition.name,
        version=definition.version,
        editions=[edition.id for edition in definition.editions],
        signed_at=definition.issued_at,
    )


def version_of(signed: Signed) -> VersionShown:
    return VersionShown(product=signed.product, version=signed.version, signed_at=signed.issued_at)


def definition_of(definition: ProductDefinition) -> DefinitionShown:
    return DefinitionShown(
        product=definition.product,
        name=definition.name,
        version=definition.version,
        publisher=definition.publisher,
        root=definition.root,
        url=definition.url,
        signed_at=definition.issued_at,
        groups=[Group(number=one.number, name=one.name, parent=one.parent) for one in definition.groups],
        editions=list(map(_edition, definition.editions)),
    )


def organisation_of(one: Organisation) -> OrganisationShown:
    return OrganisationShown(organisation=one.name, added_at=one.added_at, keys=one.keys, blocked_at=one.blocked_at)


def agreement_of(one: Agreement) -> AgreementShown:
    return AgreementShown(
        agreement=one.name,
        organisation=one.organisation,
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        added_at=one.added_at,
        quantities={str(group): quantity for group, quantity in sorted(one.quantities.items())},
    )


def use_of(use: Use) -> UseShown:
    return UseShown(
        agreement=use.agreement,
        organisation=use.organisation,
        group=use.group,
        bought=use.bought,
        keys=use.keys,
        activations=use.issued,
        used=use.used,
    )


def key_of(key: IssuedKey, hosts: Mapping[str, int] | None = None) -> KeyShown:
    """``hosts``: how many hosts each key has been used on, where that was looked up."""
    return KeyShown(**_key(key), hosts_used=_hosts_used(key, hosts))


def new_key_of(new: NewKey) -> NewKeyShown:
    return NewKeyShown(**_key(new.issued), hosts_used=_hosts_used(new.issued, {}), key=str(new.key))


def activation_of(held: HeldActivation) -> ActivationShown:
    one = held.activation
    return ActivationShown(
        id=one.id,
        key_id=one.key_id,
        partial=held.partial,
        organisation=held.organisation,
        machine=one.machine.hex(),
        name=one.name,
        product=one.product,
        edition=one.edition,
        activations=one.used,
        times=one.times,
        first_at=one.first_at,
        last_at=one.last_at,
        returned_at=one.returned_at,
        credited=None if one.credited is None else bool(one.credited),
    )


def host_of(id: int, act: HostActivation) -> HostShown:
    return HostShown(
        id=id,
        key_id=act.key_id,
        partial=act.partial,
        organisation=act.organisation,
        machine=act.machine.hex(),
        name=act.name,
        product=act.product,
        kind=str(act.kind),
        at=act.at,
        ends_at=act.ends_at,
        serial=act.serial,
    )


def forest_of(held: HeldForest) -> ForestShown:
    return ForestShown(**{name: getattr(held, name) for name in HeldForest.__slots__})


def revoked_of(revoked: Revoked) -> RevokedShown:
    return RevokedShown(revoked=list(revoked.signers), since=revoked.since, epoch=revoked.epoch)


def row_of(row: Row) -> LedgerRow:
    return LedgerRow(**{name: getattr(row, name) for name in Row.__slots__})


def token_of(token: Token) -> TokenShown:
    return TokenShown(**_token(token))


def new_token_of(token: Token, secret: str) -> NewToken:
    return NewToken(**_token(token), token=secret)


def _edition(edition: Edition) -> EditionShown:
    return EditionShown(
        id=edition.id,
        name=edition.name,
        kind=str(edition.kind),
        group=edition.group,
        threshold=edition.policy.threshold,
        keys={str(channel): str(key) for channel, key in edition.keys.items()},
        policy=dict(edition.policy.to_claim()),
    )


def _key(key: IssuedKey) -> dict[str, Any]:
    pooled = key.channel in POOLED
    return {
        "key_id": key.key_id,
        "partial": key.partial,
        "kind": str(key.channel),
        "product": key.product,
        "group": key.group,
        "organisation": key.organisation,
        "agreement": key.agreement,
        "hosts": key.hosts,
        "activations": key.activations,
        "used": key.used if pooled else None,
        "remaining": key.remaining if pooled else None,
        "superseded_by": key.superseded_by,
        "issued_at": key.issued_at,
        "blocked_at": key.blocked_at,
        "blocked_reason": key.blocked_reason,
    }


def _hosts_used(key: IssuedKey, hosts: Mapping[str, int] | None) -> int | None:
    return None if key.channel in POOLED or hosts is None else hosts.get(key.key_id, 0)


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "label": token.label,
        "organisation": token.organisation,
        "role": token.role,
        "scopes": list(token.scopes),
        "made_at": token.made_at,
        "made_by": token.made_by,
        "ends_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }


assert set(RoleName.__args__) == set(Role), "roles are those of the table"  # type: ignore[attr-defined]
assert set(ScopeName.__args__) == set(Scope), "scopes are those of the table"  # type: ignore[attr-defined]
