# SPDX-License-Identifier: Apache-2.0
"""What the wizard remembers between steps: choices and what was done, never a key or a password.

It is kept as JSON in the session on the server; what does not fit is as good as nothing, and the wizard begins anew.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

KMS_HOST, DIRECTORY = "kms-host", "directory"
METHODS = (KMS_HOST, DIRECTORY)


@dataclass(frozen=True, slots=True)
class SetupState:
    """``target``: a machine of the fleet by name, empty for this one.  ``product``, ``root``: the definition that was
    given; ``partial``, ``group``: of the key that was installed.  ``done``: the steps behind us."""

    method: str = ""
    target: str = ""
    product: str = ""
    root: str = ""
    partial: str = ""
    group: int = 0
    organisation: str = ""
    object_name: str = ""
    domain: str = ""
    server: str = ""
    base: str = ""
    ca_file: str = ""
    user: str = ""
    password_file: str = ""
    publisher: str = ""
    proof: str = ""
    done: tuple[str, ...] = ()

    @classmethod
    def load(cls, stored: object) -> Self:
        if not isinstance(stored, dict):
            return cls()
        kinds = {field.name: type(field.default) for field in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in stored.items() if name in kinds}
        done = values.pop("done", ())
        if any(type(value) is not kinds[name] for name, value in values.items()):
            return cls()
        if not isinstance(done, list | tuple) or not all(isinstance(step, str) for step in done):
            return cls()
        return cls(**values, done=tuple(done))

    def dump(self) -> dict[str, Any]:
        return asdict(self) | {"done": list(self.done)}

    def with_connection(self, values: Mapping[str, str]) -> Self:
        """The same with another directory to reach."""
        return self.load(self.dump() | dict(values))

    def with_done(self, step: str, **values: Any) -> Self:
        """After a step went well; those behind it count as open again where it was done before."""
        kept = tuple(one for one in self.done if one != step)
        return replace(self, **values, done=(*kept, step))
