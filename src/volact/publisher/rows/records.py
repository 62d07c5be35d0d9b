# SPDX-License-Identifier: Apache-2.0
"""What the publisher's store gives and takes: its rows as values, and the errors of what they cannot be."""

from collections.abc import Mapping
from dataclasses import dataclass

from volact.core.errors import ConfigError
from volact.core.product_key import Channel
from volact.publisher.rules.issuing import IssuedKey, Kind


class DatabaseTakenError(ConfigError):
    code = "publisher-database-taken"
    fmt = "there is a publisher in database {database} already"
    remedy = "make the new one in an empty database; to move a publisher, copy its folder and restore its database"


class OrganisationTakenError(ConfigError):
    code = "organisation-taken"
    fmt = "organisation {name} was added before"
    remedy = "use it as it is, or add the other one under a name that tells them apart"


class OrganisationBlockedError(ConfigError):
    code = "organisation-blocked"
    fmt = "organisation {name} is blocked"
    remedy = "its keys and hosts were revoked; add the organisation under another name if it was a mistake"


class AgreementTakenError(ConfigError):
    code = "agreement-taken"
    fmt = "agreement {name} was added before"
    remedy = "use it as it is, change its end with `volact publisher agreement change`, or take another name"


class AgreementMissingError(ConfigError):
    code = "agreement-missing"
    fmt = "there is no agreement {name}"
    remedy = "add it with `volact publisher agreement add NAME`; `volact publisher agreement list` shows all"


class AgreementOrganisationError(ConfigError):
    code = "agreement-other-organisation"
    fmt = "agreement {name} is with {organisation}"
    remedy = "issue the key to that organisation, or under another agreement"


class OrganisationMissingError(ConfigError):
    code = "organisation-missing"
    fmt = "there is no organisation {name}"
    remedy = "add it with `volact publisher organisation add NAME`; `volact publisher organisation list` shows all"


class ProductNotPublishedError(ConfigError):
    code = "product-not-published"
    fmt = "this publisher has no product {product}"
    remedy = "add it with `volact publisher product add FILE.toml`; `volact publisher product list` shows all"


class VersionMissingError(ConfigError):
    code = "product-version-missing"
    fmt = "product {product} has no version {version}"
    remedy = "`volact publisher product show {product}` tells the newest one"


class KeyMissingError(ConfigError):
    code = "key-not-issued"
    fmt = "no key {key} was issued here"
    remedy = "give the whole key, its last five symbols or its key ID; `volact publisher key list` shows all"


class KeyAmbiguousError(ConfigError):
    code = "key-ambiguous"
    fmt = "{number} keys end in {key}"
    remedy = "give the whole key, or its key ID from `volact publisher key list --json`"


class CertificateMissingError(ConfigError):
    code = "certificate-missing"
    fmt = "no certificate {serial} was made here"
    remedy = "list the hosts to find its serial; a host that was activated by telephone has made its certificate itself"


@dataclass(frozen=True, slots=True)
class Signed:
    """A product definition as it was signed."""

    product: str
    version: int
    issued_at: int
    token: str


@dataclass(frozen=True, slots=True)
class Organisation:
    name: str
    added_at: int
    keys: int
    blocked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """``quantities``: licences that were bought, by product group."""

    name: str
    organisation: str
    starts_at: int
    ends_at: int | None
    added_at: int
    quantities: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """How the service finds the key in a request: by its ``lookup``, or else by what can be read from the key, which
    leaves few to compare by their slow ID."""

    key_id: str
    lookup: bytes | None
    partial: str
    channel: Channel
    group: int


@dataclass(frozen=True, slots=True)
class HostActivation:
    """A certificate that was made for a host, as lists show it."""

    key_id: str
    partial: str
    organisation: str
    machine: bytes
    name: str
    product: str
    kind: Kind
    at: int
    ends_at: int
    serial: str


@dataclass(frozen=True, slots=True)
class Intent:
    """An act on a host that was decided and is to be certified, with everything that is written of it."""

    kind: Kind
    key: IssuedKey
    machine: bytes
    nonce: bytes
    name: str
    product: str
    groups: frozenset[int]
    fingerprint: Mapping[str, str]
    serial: int
    at: int
    ends_at: int
