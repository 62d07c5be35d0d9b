# SPDX-License-Identifier: Apache-2.0
"""Schemathesis over the whole description, as an administrator, as an organisation and as nobody: whatever is sent,
nothing breaks, and what is answered is what is described."""

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

DESCRIPTION = Path(__file__).resolve().parents[3] / "docs" / "reference" / "openapi.json"
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
CHECKED = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance",
)  # fmt: skip
# What the generator puts here is sent as it is; everything else is of the caller.
KEPT_HEADERS = {"idempotency-key", "if-match", "content-type"}


def test_the_description_in_the_reference_is_the_one_that_is_served(api) -> None:
    written = json.loads(DESCRIPTION.read_text())
    assert written == api.description, "run tools/make_openapi.py"
    assert api.description["openapi"].startswith("3.1")


@pytest.mark.parametrize("caller", ["administrator", "organisation", "nobody"])
def test_nothing_that_is_sent_breaks_the_api(api, other, caller) -> None:
    token = {"administrator": api.operator(), "organisation": api.organisation(), "nobody": None}[caller]
    api.site.publisher.issue_pool_keys(
        "Example Ltd", "acme-cad", "102", api.site.clock(), "tester", channel="mak", keys=api.site.keys, activations=5
    )
    schema = schemathesis.openapi.from_dict(api.description)
    checks = [CHECKS.get_one(name) for name in CHECKED]
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        for mode in MODES if token else MODES[:1]:  # who has no token is turned away before anything is read
            try_operation(api, found.ok(), mode, token, checks)
    api.site.publisher.store.check_ledger()


def try_operation(api, operation: Any, mode: GenerationMode, token: str | None, checks: list[Any]) -> None:
    @settings(max_examples=4, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def try_case(case: Any) -> None:
        if operation.definition.raw["operationId"] == "revoke_token" and case.path_parameters.get("id") in own:
            return
        case.validate_response(send(api, case, token), checks=checks)

    own = {one["id"] for one in api.get("/tokens", api.operator())["items"]}
    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        try_case()  # of an endpoint without parameters there is nothing to send that does not fit


def send(api, case: Any, token: str | None) -> httpx.Response:
    given = case.as_transport_kwargs(base_url="http://publisher.test")
    headers = {name: value for name, value in dict(given["headers"]).items() if name.lower() in KEPT_HEADERS}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    encoded = {name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()}
    sent = {name: given[name] for name in ("params", "json", "data") if given.get(name) is not None}
    if "data" in sent:
        sent["content"] = sent.pop("data")
    return api.client.request(given["method"], given["url"], headers=encoded, **sent)
