# SPDX-License-Identifier: Apache-2.0
"""The rows of a web site as values: accounts, sessions, audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

LOCAL: Final = "local"
OIDC: Final = "oidc"


class Stage(StrEnum):
    """How far a login has come; pages are open at ``FULL`` only."""

    CODE = "code"  # the password was right, the authenticator is asked
    PASSWORD = "password"  # noqa: S105 - a new one must be chosen
    ENROL = "enrol"  # an authenticator must be set up
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Account:
    """``source``: who checks the password: this site, or a login backend by its name.  ``recovery``: hashes of
    recovery codes that are left."""

    name: str
    full_name: str
    source: str
    role: str
    password: str | None
    must_change: bool
    totp: bytes | None
    totp_step: int
    recovery: tuple[str, ...]
    added_at: int
    last_login_at: int | None
    disabled_at: int | None

    @property
    def enabled(self) -> bool:
        return self.disabled_at is None

    @property
    def local(self) -> bool:
        return self.source == LOCAL

    @property
    def vouched(self) -> bool:
        """The whole login is somebody else's, the second factor too.  A directory's account is none of these: its
        password is typed here, and so is the code."""
        return self.source == OIDC


@dataclass(frozen=True, slots=True)
class Session:
    id_hash: str
    stage: Stage
    address: str
    agent: str
    started_at: int
    seen_at: int
    ends_at: int
    data: Mapping[str, Any]
    account: Account

    @property
    def short(self) -> str:
        """How the audit and lists name it."""
        return self.id_hash[:12]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the audit."""

    at: int
    account: str
    address: str
    session: str
    act: str
    subject: str
    result: str
