# SPDX-License-Identifier: Apache-2.0
"""The API's description, OpenAPI 3.1: what FastAPI knows of the endpoints, and what the tables know beside it, the
problems that each can answer, by status, and who may call it.

docs/reference/openapi.json is this, checked by a test.
"""

import string
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from volact.core.errors import VolactError
from volact.publisher.api import problems
from volact.publisher.api.access import ENDPOINTS, Rule
from volact.publisher.api.problems import STATUSES
from volact.publisher.api.route import Endpoint
from volact.publisher.rules.roles import Role
from volact.web.api.idempotency import PARAMETER, REPLAYED, IdempotencyKeyReusedError, IdempotencyKeyUnfitError
from volact.web.api.problems import MEDIA_TYPE, title

VERSION = "1"
_TEXT = """\
What organisations and operators of a publisher do with a token: keys, agreements, activations, telephone and proxy
activation, the ledger. Machines and hosts do not use it: they talk to the activation service.

Errors are problem documents (RFC 9457); `code` is stable. Lists come in pages: `next` of one is `cursor` of the next,
and the Link header says the same. What makes or changes something takes an `Idempotency-Key`. Guide:
docs/guide/publisher-api.md.
"""


def describe(app: FastAPI, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    api = get_openapi(title="Volact publisher", version=VERSION, description=_TEXT, routes=app.routes)
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    for path in api["paths"].values():
        for operation in path.values():
            _complete(operation, by_name[operation["operationId"]])
    answered = {kind.code: kind for one in by_name.values() for kind in problems_of(one, ENDPOINTS[one.name])}
    api["components"]["examples"] = {code: {"value": _example(kind)} for code, kind in sorted(answered.items())}
    api["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "vlt_…", "description": "A token of this API."}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        api["components"]["schemas"].pop(name, None)
    return api


def problems_of(endpoint: Endpoint, rule: Rule) -> list[type[VolactError]]:
    """Everything that the endpoint can answer and that is no success."""
    found = [*(problems.OPEN if rule.open else problems.GUARDED), *endpoint.problems, *problems.ALWAYS]
    if endpoint.method != "GET":
        found += problems.WITH_BODY
    if endpoint.once:
        found += [IdempotencyKeyUnfitError, IdempotencyKeyReusedError]
    return sorted(set(found), key=lambda kind: kind.code)


def _complete(operation: dict[str, Any], endpoint: Endpoint) -> None:
    rule = ENDPOINTS[endpoint.name]
    operation["responses"].pop("422", None)
    operation["responses"].update(_problem_responses(problems_of(endpoint, rule)))
    success = operation["responses"][str(endpoint.status)]
    success["headers"] = {name: _header(text) for name, text in _headers(endpoint).items()}
    if endpoint.model is None:
        success["content"] = {endpoint.media_type: {"schema": {"type": "string"}}}
    if not rule.open:
        operation["security"] = [{"token": []}]
        operation["description"] = f"{operation.get('description', '')}\n\n{_who(rule)}".strip()
        operation["x-volact-roles"] = [str(role) for role in Role if rule.any_scope or role in rule.roles]
        operation["x-volact-scope"] = str(rule.scope) if rule.scope else None
    if endpoint.once:
        operation.setdefault("parameters", []).append(dict(PARAMETER))


def _who(rule: Rule) -> str:
    if rule.any_scope:
        return "For every token."
    operators = f"For operators: {', '.join(role for role in Role if role in rule.roles)}."
    return f"{operators} For an organisation's token with the scope `{rule.scope}`." if rule.scope else operators


def _problem_responses(kinds: Iterable[type[VolactError]]) -> dict[str, Any]:
    by_status: dict[int, list[type[VolactError]]] = {}
    for kind in kinds:
        by_status.setdefault(STATUSES.status(kind), []).append(kind)
    return {
        str(status): {
            "description": "\n".join(f"- `{kind.code}`: {kind.fmt}" for kind in some),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in some},
                }
            },
        }
        for status, some in sorted(by_status.items())
    }


def _example(kind: type[VolactError]) -> dict[str, Any]:
    named = [name for text in (kind.fmt, kind.remedy) for _, name, _, _ in string.Formatter().parse(text) if name]
    fields = {name.split("!")[0]: "…" for name in named}
    return {
        "type": STATUSES.type_of(kind.code),
        "title": title(kind),
        "status": STATUSES.status(kind),
        "detail": kind.fmt,
        "code": kind.code,
        "remedy": kind.remedy,
        "fields": fields,
    }


def _headers(endpoint: Endpoint) -> Mapping[str, str]:
    found = {
        "RateLimit": "What is left of the limit (draft-ietf-httpapi-ratelimit-headers).",
        "RateLimit-Policy": "The limit itself.",
    }
    if endpoint.model is not None and "next" in endpoint.model.model_fields:
        found["Link"] = "`first` and `next` (RFC 8288)."
    if endpoint.once:
        found[REPLAYED] = "`true` where this answer was given before."
    return {**found, **endpoint.headers}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}
