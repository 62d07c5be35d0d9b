# SPDX-License-Identifier: Apache-2.0
"""This computer as the client shows it: traits and name, and the fingerprint that one publisher may see.

Not the machine's identity: that is its key, which the store keeps.  Spec: docs/spec/fingerprint.md.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from volact.core.fingerprint import Fingerprint, Trait


@dataclass(frozen=True, slots=True)
class LocalMachine:
    """``traits`` and ``name`` are asked at most once: reading hardware takes milliseconds.

    ``root``: of the file tree whose ``sys`` shows the firmware.
    """

    traits: Callable[[], Mapping[Trait, str]]
    name: Callable[[], str]
    root: Path = Path("/")
    _seen: dict[str, Fingerprint] = field(default_factory=dict, repr=False)
    _raw: list[Mapping[Trait, str]] = field(default_factory=list, repr=False)

    @classmethod
    def of_system(cls) -> "LocalMachine":
        return cls(_collect, socket.gethostname)

    def fingerprint(self, root: str) -> Fingerprint:
        """Salted with the publisher's root, so that two publishers cannot compare what they see."""
        if root not in self._seen:
            self._seen[root] = Fingerprint.of(self._traits(), bytes.fromhex(root.removeprefix("sha256:")))
        return self._seen[root]

    def forget(self) -> None:
        """Look at the hardware anew the next time."""
        self._seen.clear()
        self._raw.clear()

    def _traits(self) -> Mapping[Trait, str]:
        if not self._raw:
            self._raw.append(self.traits())
        return self._raw[0]


def _collect() -> Mapping[Trait, str]:
    from volact.client import platform

    return platform.here().collect()
