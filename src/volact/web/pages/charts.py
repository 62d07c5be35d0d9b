# SPDX-License-Identifier: Apache-2.0
"""Charts as data: the browser draws them by one static script, and whoever cannot see them reads the same table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Tone = Literal["main", "good", "warn", "bad", "calm", "other"]


@dataclass(frozen=True, slots=True)
class Series:
    """``values``: one for each label, ``None`` for a gap.  ``dashed``: a limit rather than a measurement."""

    name: str
    values: Sequence[float | None]
    tone: Tone = "main"
    dashed: bool = False
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """``links``: for each label, where the rows behind it are."""

    title: str
    kind: Literal["line", "bar", "doughnut"]
    labels: Sequence[str]
    series: Sequence[Series]
    unit: str = ""
    links: Sequence[str] = ()
    stacked: bool = False

    def to_json(self) -> dict[str, Any]:
        """What the script draws."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "links": list(self.links),
            "unit": self.unit,
            "stacked": self.stacked,
            "series": [
                {"name": s.name, "values": list(s.values), "tone": s.tone, "dashed": s.dashed, "filled": s.filled}
                for s in self.series
            ],
        }
