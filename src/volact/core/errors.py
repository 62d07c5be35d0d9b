# SPDX-License-Identifier: Apache-2.0
"""Errors: each has one stable code, typed fields, one sentence and one remedy.

    VolactError
    ├── InputError          what was typed, or read from a file, is malformed: nothing was changed
    ├── ConfigError         a setting or a folder's contents do not fit
    ├── TrustError          bytes that should prove something do not: wrong signer, wrong role, changed, expired
    ├── RefusedError        an issuer answered with a signed refusal (the refusal itself is a value, see ``refusal``)
    ├── TransportError      no verified answer came back: network, DNS, a server's unsigned error
    └── StoreError          the database or disk would not do what was asked

Rooms define their own subclasses beside the code that raises them; each sets ``code``, ``fmt`` and ``remedy``.
Every subclass that has a code registers itself in :data:`REGISTRY`, which the documentation test and the edges
(exit code, HTTP status, Connect code) read, so that no code exists without a page.
"""

from typing import Any, ClassVar

REGISTRY: dict[str, type["VolactError"]] = {}


class VolactError(Exception):
    """Base of everything Volact raises on purpose.

    Subclasses are constructed with keyword arguments that fill ``fmt``; the arguments stay readable as ``fields``
    and as attributes (``exc.group``), so programs never parse the sentence.
    """

    code: ClassVar[str] = ""
    fmt: ClassVar[str] = ""
    remedy: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code", "")
        if code:
            known = REGISTRY.get(code)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise RuntimeError(f"error code {code!r} is defined by {known} and {cls}")
            REGISTRY[code] = cls

    def __init__(self, **fields: Any) -> None:
        self.fields: dict[str, Any] = fields
        super().__init__(self.fmt.format(**fields))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def hint(self) -> str:
        """The remedy with its fields filled in."""
        return self.remedy.format(**self.fields)

    def to_dict(self) -> dict[str, Any]:
        """The error as ``--json`` and problem documents show it."""
        return {"code": self.code, "message": str(self), "remedy": self.hint, "fields": self.fields}


class InputError(VolactError):
    """Malformed input; nothing was changed."""


class ConfigError(VolactError):
    """A setting or a folder's contents do not fit."""


class TrustError(VolactError):
    """Bytes that should prove something do not."""


class TransportError(VolactError):
    """No verified answer came back."""


class StoreError(VolactError):
    """The database or disk would not do what was asked."""


class MalformedError(InputError):
    """The one error of the strict parsers of untrusted bytes (JSON, JWS, sealed envelopes, certificates)."""

    code = "malformed"
    fmt = "{what} is malformed: {why}"
    remedy = "get the file or message again from where it came; if it persists, report it with the sender's version"
