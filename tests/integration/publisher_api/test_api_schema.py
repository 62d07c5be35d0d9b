# SPDX-License-Identifier: Apache-2.0
"""Schemathesis over the whole description, as an administrator, an organisation and nobody: whatever is sent, nothing
breaks, and what is answered is what is described."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

from volact.publisher.api.access import Role

CALLERS = ("administrator", "organisation", "nobody")
EXAMPLES = 6
NAMES = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "use_after_free",
)  # fmt: skip


@pytest.mark.parametrize("caller", CALLERS)
def test_nothing_that_is_sent_breaks_the_api(api, other, caller) -> None:
    headers = headers_of(api, other, caller)
    schema = schemathesis.openapi.from_dict(api.description, config=SchemathesisConfig.from_dict({}))
    checks = [check for check in CHECKS.get_all() if check.__name__ in NAMES]
    for result in schema.get_all_operations():
        run(api, result.ok(), headers, checks)
    api.site.publisher.store.check_ledger()
