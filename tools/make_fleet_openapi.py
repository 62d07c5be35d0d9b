#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/fleet-openapi.json, the description of the fleet tool's HTTP API, from its code.

python tools/make_fleet_openapi.py [--check]
"""

import json
import sys
import tempfile
from pathlib import Path

from volact.fleet.api import Fleet
from volact.fleet.rest.application import build, description

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "fleet-openapi.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Fleet.init(Path(folder) / "fleet") as fleet:
        text = json.dumps(description(build(fleet, automation=False)), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET} is not what the code says: run tools/make_fleet_openapi.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
