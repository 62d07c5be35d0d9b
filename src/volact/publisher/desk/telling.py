# SPDX-License-Identifier: Apache-2.0
"""A row of the ledger in an operator's words: names in the place of numbers, long figures by their beginnings.  The
rows themselves, whole, are in the ledger's export.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volact.core.policy import DAY
from volact.publisher.desk.state import KIND_NAMES
from volact.publisher.rows.ledger import Row
from volact.web.pages.renderer import day, when

LONG = 40  # symbols; machine IDs, fingerprints and serial numbers have as many or more
SHOWN = 16  # of them, as in the lists of machines
LABELS = {"channel": "kind", "partial": "key", "units": "used"}
BRIEF = ("organisation", "agreement", "label", "maker", "name", "product", "reason", "code")  # what the overview tells


@dataclass(frozen=True, slots=True)
class Teller:
    """``groups``, ``products``, ``keys``: names by number and by product, and last symbols by key ID."""

    groups: Mapping[int, str]
    products: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)

    def told(self, row: Row) -> list[tuple[str, Any]]:
        """What a row says, name and value; one that was tampered with is shown as it is."""
        data = _data(row)
        if data is None:
            return [("data", row.data)]
        return [
            (LABELS.get(name, name.replace("_", " ")), self._value(name, value))
            for name, value in data.items()
            if not self._needless(name, value, row)
        ]

    def brief(self, row: Row) -> str:
        """Whom or what an act was about, in a few words."""
        data = _data(row) or {}
        told = [str(self._value(name, data[name])) for name in BRIEF if data.get(name)]
        return ", ".join(text if len(text) < LONG else text[: LONG - 1] + "…" for text in told[:3])

    def key(self, row: Row) -> str:
        return self.keys.get(row.key_id or "", "")

    def _needless(self, name: str, value: Any, row: Row) -> bool:
        if value in (None, "", {}, []):
            return True
        if name == "activation":
            return True  # the number of a row of another table
        return (name == "partial" and bool(self.key(row))) or (name == "hosts" and value == 0)

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, int) and name in ("starts_at", "ends_at") and value % DAY == 0:
            return day(value)
        if isinstance(value, int) and name.endswith(("_at", "since", "until")) and value >= 0:
            return when(value)
        if name == "product_group":
            return self._group(value)
        if name == "product":
            return self.products.get(str(value), str(value))
        if name == "channel":
            return KIND_NAMES.get(str(value), str(value))
        if name == "by" and str(value) in self.keys:
            return f"…{self.keys[str(value)]}"
        if name == "groups" and isinstance(value, list):
            return ", ".join(self._group(one) for one in value)
        if name == "quantities" and isinstance(value, dict):
            return ", ".join(f"{self._group(group)} {number}" for group, number in value.items())
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return ", ".join(value)
        return _plain(value)

    def _group(self, value: Any) -> str:
        number = int(value) if str(value).isdecimal() else 0
        return self.groups.get(number, str(value))


def keys_of(rows: Sequence[Row]) -> set[str]:
    """The IDs of the keys that rows are about."""
    named = {str(data["by"]) for data in map(_data, rows) if data and data.get("by")}
    return named | {row.key_id for row in rows if row.key_id}


def _data(row: Row) -> dict[str, Any] | None:
    try:
        data = json.loads(row.data)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    head, _, digits = text.rpartition(":")
    is_long = len(digits) >= LONG and all(symbol in "0123456789abcdefABCDEF" for symbol in digits)
    return f"{head}:{digits[:SHOWN]}…".removeprefix(":") if is_long else text
