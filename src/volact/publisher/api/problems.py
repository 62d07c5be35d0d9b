# SPDX-License-Identifier: Apache-2.0
"""Which HTTP status each of the publisher's errors has, and the page of each code.  One table; the rest is by family
(``volact.web.api.problems``)."""

from typing import Annotated

from fastapi import Path

from volact.core.definition import DefinitionError
from volact.core.errors import REGISTRY, VolactError
from volact.core.policy import PolicyFigureError
from volact.publisher.administration.errors import HostMissingError, NoSuchGroupError
from volact.publisher.answering.phone import CallerUnknownError, GuessesError
from volact.publisher.api.models.problems import ProblemType, ProblemTypes
from volact.publisher.api.route import Endpoint
from volact.publisher.rows.ledger import LedgerBrokenError
from volact.publisher.rows.records import (
    AgreementMissingError,
    CertificateMissingError,
    KeyMissingError,
    OrganisationMissingError,
    ProductNotPublishedError,
    VersionMissingError,
)
from volact.publisher.rules.catalogue import GroupMissingError
from volact.sql.errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseDiskError,
    DatabaseReadOnlyError,
    DatabaseUnavailableError,
    DiskFullError,
)
from volact.web.api.limits import RateLimitedError
from volact.web.api.problems import RequestInvalidError, Statuses, title
from volact.web.api.tokens import (
    RoleMissingError,
    ScopeMissingError,
    TokenEndedError,
    TokenMissingError,
    TokenNeededError,
    TokenRevokedError,
    TokenUnknownError,
)
from volact.web.errors import InternalError, RequestTooLargeError
from volact.wire.server import IssuerUnknownError

BASE = "/api/v1"

# An error stays what it is where a request names something that is not there beside what is in its path: 404 too.
STATUSES = Statuses.of(
    f"{BASE}/problems",
    {
        TokenNeededError: 401,
        TokenUnknownError: 401,
        TokenEndedError: 401,
        TokenRevokedError: 401,
        ScopeMissingError: 403,
        RoleMissingError: 403,
        ProductNotPublishedError: 404,
        VersionMissingError: 404,
        OrganisationMissingError: 404,
        AgreementMissingError: 404,
        KeyMissingError: 404,
        GroupMissingError: 404,
        NoSuchGroupError: 404,
        HostMissingError: 404,
        CallerUnknownError: 404,
        TokenMissingError: 404,
        CertificateMissingError: 404,
        IssuerUnknownError: 404,
        DefinitionError: 422,
        PolicyFigureError: 422,
        LedgerBrokenError: 409,
        GuessesError: 429,
        RateLimitedError: 429,
    },
)

DATABASE = (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseDiskError,
    DatabaseReadOnlyError,
    DatabaseUnavailableError,
    DiskFullError,
)
# What any endpoint can answer: with and without a token.
OPEN = (RequestInvalidError, RateLimitedError, TokenNeededError, TokenUnknownError, TokenEndedError, TokenRevokedError)
GUARDED = (*OPEN, RoleMissingError, ScopeMissingError)
ALWAYS = (InternalError, *DATABASE)
WITH_BODY = (RequestTooLargeError,)


class ProblemMissingError(KeyMissingError):
    code = "problem-missing"
    fmt = "there is no problem {code}"
    remedy = "list them all with the API's problems"


def list_problems() -> ProblemTypes:
    """Every code of this API and what it means."""
    return ProblemTypes(items=[_type(kind) for _, kind in sorted(REGISTRY.items())])


def show_problem(code: Annotated[str, Path(max_length=100, pattern=r"^[a-z0-9-]+$")]) -> ProblemType:
    """What a problem's `type` leads to."""
    kind = REGISTRY.get(code)
    if kind is None:
        raise ProblemMissingError(code=code)
    return _type(kind)


def _type(kind: type[VolactError]) -> ProblemType:
    return ProblemType(
        code=kind.code,
        type=STATUSES.type_of(kind.code),
        title=title(kind),
        status=STATUSES.status(kind),
        detail=kind.fmt,
        remedy=kind.remedy,
        documentation=f"docs/reference/errors.md#{kind.code}",
    )


ENDPOINTS = (
    Endpoint("GET", "/problems", list_problems, ProblemTypes),
    Endpoint("GET", "/problems/{code}", show_problem, ProblemType, (ProblemMissingError,)),
)
