# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/openapi.json: the description that the publisher's HTTP API serves of itself.

python tools/make_openapi.py
"""

import json
from pathlib import Path
from types import SimpleNamespace

from volact.publisher.api.application import ENDPOINTS, build
from volact.publisher.api.description import describe

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "openapi.json"


def main() -> None:
    description = describe(build(SimpleNamespace()), ENDPOINTS)  # type: ignore[arg-type]  # it calls nobody
    PAGE.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
