# SPDX-License-Identifier: Apache-2.0
"""Which machines an act is for.  Pure.

What only asks (refresh, collecting requests, backups into the vault) is for every machine unless it is told otherwise.
What changes machines or their rows is for none of them unless it is told: by names, by a filter (of a tag, a group), or
by the word ``all``.  So nothing is done to a whole fleet by leaving something out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volact.core.errors import InputError

MOST_TOLD = 20  # names


class WholeFleetError(InputError):
    code = "selection-missing"
    fmt = "this would be done to every machine"
    remedy = "name machines or give a filter, of a tag for instance; where every machine is meant, say so by --all"


@dataclass(frozen=True, slots=True)
class Selection:
    """Those names, or all, that fit the filter.  ``all``: it is meant that nothing narrows them."""

    names: Sequence[str] = ()
    filter: str = ""
    all: bool = False

    @property
    def narrow(self) -> bool:
        return bool(self.names or self.filter.strip())

    def check(self) -> "Selection":
        """For what changes something; raises :class:`WholeFleetError`."""
        if not self.narrow and not self.all:
            raise WholeFleetError()
        return self

    def to_json(self) -> dict[str, Any]:
        """As it is written on a job; a thousand names are told by their tasks."""
        return {"filter": self.filter, "names": list(self.names[:MOST_TOLD])}
