# SPDX-License-Identifier: Apache-2.0
"""Accounts and logging in: the steps of a login, who may take them how often, and what administrators do to accounts.

A login goes password → authenticator → (new password) → (authenticator is set up) → in.  Each step that succeeds gives
the session a new ID.  What wrong attempts cost is in ``attempts``.  Who checks a password is a :class:`Backend`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from volact.core.errors import InputError, VolactError
from volact.web.access import credentials
from volact.web.access.attempts import FORGET_SECONDS, login_subjects, network, take_attempt
from volact.web.access.records import LOCAL, Account, Entry, Session, Stage
from volact.web.access.roles import ADMINISTER, STANDARD, Roles
from volact.web.access.store import WebStore
from volact.web.errors import (
    AccountForeignError,
    AccountMissingError,
    AccountNameError,
    LastAdministratorError,
    LoginCodeError,
    LoginFailedError,
    LoginLinkError,
    LoginRefusedError,
)

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
LOGIN_SECONDS = 10 * 60  # for the steps between password and page
LINK_SECONDS = 15 * 60
SEEN_EVERY = 60  # a session's last sight is written no oftener
BY_LINK: Final = "_by_link"  # of a session that began so: it may set a password without the one that was forgotten

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a login backend vouches for; ``groups`` are mapped to a role."""

    name: str
    full_name: str
    groups: tuple[str, ...]


class Backend(Protocol):
    """Checks passwords elsewhere.  ``None``: it does not know the pair; a ``TransportError``: it cannot be asked."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    def check(self, name: str, password: str) -> Identity | None: ...

    def role(self, identity: Identity) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """From where a request comes; the audit says so."""

    address: str
    agent: str = ""


CONSOLE = Caller("command line")


@dataclass(frozen=True, slots=True)
class Login:
    """A step that succeeded: what the browser holds from now on."""

    token: str = field(repr=False)
    session: Session


@dataclass(frozen=True, slots=True)
class Accounts:
    """``key``: the site's own, see ``credentials``; ``None`` on a command line that never logs anybody in.
    ``totp_required``: whoever has a password here has an authenticator too."""

    store: WebStore
    clock: Callable[[], int]
    key: bytes | None = field(default=None, repr=False)
    roles: Roles = STANDARD
    totp_required: bool = True
    backends: Sequence[Backend] = ()
    title: str = "Volact"

    # ---- logging in

    def log_in(self, name: str, password: str, caller: Caller) -> Login:
        """The first step.  Raises :class:`LoginFailedError`, ``LoginDelayedError``, :class:`LoginRefusedError`."""
        name, now = name.strip().lower()[:64], self.clock()
        subject, address = subjects = login_subjects(name, caller.address)
        take_attempt(self.store, subject, subjects, now)
        try:
            account = self._authenticate(name, password, caller)
        except LoginFailedError:
            self.store.note_failure([address], now, now - FORGET_SECONDS)
            self._note(name, caller, "login", "", LoginFailedError.code)
            raise
        except VolactError as exc:
            self.store.take_attempt_back(subject)
            if isinstance(exc, InputError | LoginRefusedError):
                self._note(name, caller, "login", "", exc.code)
            raise
        return self._advance(account, caller, passed=Stage.CODE if account.totp is None else None)

    def give_code(self, session: Session, code: str, caller: Caller) -> Login:
        """The authenticator's code, or a recovery code, each once.  Raises :class:`LoginCodeError`."""
        account, now = session.account, self.clock()
        subject = f"code:{account.name}"
        take_attempt(self.store, subject, (subject,), now)
        if not self._take_code(account, code, now):
            self._note(account.name, caller, "login", "code", LoginCodeError.code)
            raise LoginCodeError()
        self.store.forget_failures([subject])
        return self._advance(account, caller, passed=Stage.CODE, replaces=session)

    def use_link(self, token: str, caller: Caller) -> Login:
        """A one-time login link stands for password and code.  Raises :class:`LoginLinkError`."""
        now, subject = self.clock(), f"link:{network(caller.address)}"
        take_attempt(self.store, subject, (subject,), now)
        account = self.store.take_link(credentials.token_hash(token), now)
        if account is None or not account.enabled:
            self._note("", caller, "login", "link", LoginLinkError.code)
            raise LoginLinkError()
        self.store.take_attempt_back(subject)
        return self._start(account, Stage.FULL, caller, None, {BY_LINK: True})

    def vouched(self, source: str, identity: Identity, role: str | None, caller: Caller) -> Login:
        """A login that somebody else did in full (OpenID Connect)."""
        account = self._foreign(source, identity, role, caller)
        return self._start(account, Stage.FULL, caller, None)

    def find(self, token: str, *, attended: bool = True) -> Session | None:
        """The session that a browser's token stands for, where it is alive; what a page asks by itself, with nobody
        before it, does not keep it so."""
        session, now = self.store.session(credentials.token_hash(token)), self.clock()
        if session is None or not session.account.enabled:
            return None
        if now > session.ends_at or now - session.seen_at > IDLE_SECONDS:
            self.store.end_session(session.id_hash)
            return None
        if attended and now - session.seen_at >= SEEN_EVERY:
            self.store.touch_session(session.id_hash, now)
        return session

    def log_out(self, session: Session, caller: Caller) -> None:
        entry = self._entry(session.account.name, caller, "logout", "", "done", session.short)
        self.store.end_session(session.id_hash, entry)

    # ---- one's own account

    def set_own_password(self, session: Session, old: str | None, new: str, caller: Caller) -> Login:
        """``old`` is ``None`` where the login itself asked for a new password, or was by a link."""
        account = self.local(session.account.name)
        if old is not None:
            self._check_old(account, old, caller)
        credentials.check_password(account.name, new)
        entry = self._entry(account.name, caller, "password", account.name, "done")
        changes = {"password": credentials.hash_password(new), "must_change": 0}
        self.store.change_account(account.name, changes, entry, end=True)
        kept = {name: value for name, value in session.data.items() if name != BY_LINK}
        replaced = replace(session, data=kept)
        return self._advance(self._known(account.name), caller, passed=Stage.CODE, replaces=replaced)

    def enrol(self, session: Session, secret: str, code: str, caller: Caller) -> tuple[Login, list[str]]:
        """Sets up an authenticator that has shown a right code; returns the recovery codes, shown once.  Raises
        :class:`AccountForeignError` where the second factor is somebody else's."""
        account, now = self.check_own_factor(session.account), self.clock()
        step = credentials.totp_step(secret, code, now)
        if step is None:
            raise LoginCodeError()
        codes = credentials.new_recovery_codes()
        assert self.key is not None
        changes = {
            "totp": credentials.encrypt(self.key, account.name, secret),
            "totp_step": step,
            "recovery": json.dumps([credentials.recovery_hash(code) for code in codes]),
        }
        self.store.change_account(account.name, changes, self._entry(account.name, caller, "enrol", "", "done"))
        return self._advance(self._known(account.name), caller, passed=Stage.CODE, replaces=session), codes

    def check_own_factor(self, account: Account) -> Account:
        """An authenticator that no login ever asks for would only seem to guard the account."""
        if account.vouched:
            raise AccountForeignError(name=account.name, source=account.source)
        return account

    # ---- what administrators do; ``actor`` is an account, or a user at the command line

    def add(
        self, name: str, role: str, actor: str, caller: Caller = CONSOLE, *, full_name: str = "", password: str | None
    ) -> Account:
        """With a password that has to be changed at the first login, or with none: then a login link is its way in."""
        name = check_name(name)
        self.roles.check(role)
        if password is not None:
            credentials.check_password(name, password)
        account = Account(
            name, full_name.strip()[:200], LOCAL, role, credentials.hash_password(password) if password else None,
            True, None, 0, (), self.clock(), None, None,
        )  # fmt: skip
        self.store.add_account(account, self._entry(actor, caller, "account-added", f"{name} as {role}", "done"))
        return account

    def set_role(self, name: str, role: str, actor: str, caller: Caller = CONSOLE) -> None:
        self.roles.check(role)
        account = self.local(name)
        self._keep_administrator(account, role)
        entry = self._entry(actor, caller, "account-role", f"{name} to {role}", "done")
        self.store.change_account(name, {"role": role}, entry, end=True)

    def set_password(self, name: str, password: str, actor: str, caller: Caller = CONSOLE) -> None:
        """One that has to be changed at the next login; ends the account's sessions."""
        self.local(name)
        credentials.check_password(name, password)
        entry = self._entry(actor, caller, "account-password", name, "done")
        changes = {"password": credentials.hash_password(password), "must_change": 1}
        self.store.change_account(name, changes, entry, end=True)
        self.store.forget_failures([f"account:{name}", f"code:{name}", f"password:{name}"])

    def reset_totp(self, name: str, actor: str, caller: Caller = CONSOLE) -> None:
        """The next login sets up another authenticator."""
        self.check_own_factor(self._known(name))
        entry = self._entry(actor, caller, "account-totp-reset", name, "done")
        self.store.change_account(name, {"totp": None, "totp_step": 0, "recovery": "[]"}, entry, end=True)
        self.store.forget_failures([f"code:{name}"])

    def disable(self, name: str, actor: str, caller: Caller = CONSOLE) -> None:
        self._keep_administrator(self._known(name), None)
        entry = self._entry(actor, caller, "account-disabled", name, "done")
        self.store.change_account(name, {"disabled_at": self.clock()}, entry, end=True)

    def enable(self, name: str, actor: str, caller: Caller = CONSOLE) -> None:
        entry = self._entry(actor, caller, "account-enabled", name, "done")
        self.store.change_account(name, {"disabled_at": None}, entry)

    def remove(self, name: str, actor: str, caller: Caller = CONSOLE) -> None:
        self._keep_administrator(self._known(name), None)
        self.store.delete_account(name, self._entry(actor, caller, "account-removed", name, "done"))

    def end_session(self, id_hash: str, account: str, actor: str, caller: Caller) -> None:
        entry = self._entry(actor, caller, "session-ended", f"{account} {id_hash[:12]}", "done")
        self.store.end_session(id_hash, entry)

    def make_link(self, name: str, actor: str, caller: Caller = CONSOLE, seconds: int = LINK_SECONDS) -> str:
        """The token of a link ``/login/link/TOKEN`` that logs in once, without password and code.  Not for accounts
        that are kept elsewhere: whoever was shut out there would come in by it."""
        self.local(name)
        token, now = credentials.new_token(), self.clock()
        entry = self._entry(actor, caller, "login-link", name, "done")
        self.store.add_link(credentials.token_hash(token), name, now + seconds, entry)
        return token

    def local(self, name: str) -> Account:
        """An account whose password is kept here."""
        account = self._known(name)
        if account.source != LOCAL:
            raise AccountForeignError(name=name, source=account.source)
        return account

    # ---- private

    def _authenticate(self, name: str, password: str, caller: Caller) -> Account:
        account = self.store.account(name)
        if account is None or account.source != LOCAL:
            return self._ask_backends(name, password, caller, account)
        if not credentials.password_fits(account.password, password) or not account.enabled:
            raise LoginFailedError()
        self.store.forget_failures(login_subjects(name, caller.address))
        if account.password and credentials.needs_rehash(account.password):
            changed = {"password": credentials.hash_password(password)}
            self.store.change_account(name, changed, None)
        return account

    def _ask_backends(self, name: str, password: str, caller: Caller, account: Account | None) -> Account:
        for backend in self.backends:
            if account is not None and account.source != backend.name:
                continue
            identity = backend.check(name, password) if _NAME.fullmatch(name) and password else None
            if identity is not None:
                self.store.forget_failures(login_subjects(name, caller.address))
                return self._foreign(backend.name, identity, backend.role(identity), caller)
        if not self.backends:
            credentials.password_fits(None, password)
        raise LoginFailedError()

    def _foreign(self, source: str, identity: Identity, role: str | None, caller: Caller) -> Account:
        """The row of somebody who is known elsewhere, made at the first login, its role renewed at each."""
        name = check_name(identity.name.lower())
        account = self.store.account(name)
        if account is not None and (account.source != source or not account.enabled):
            raise LoginFailedError()
        if role is None:
            if account is not None:  # whoever lost the role has lost what it opened, too
                entry = self._entry(name, caller, "session-ended", name, LoginRefusedError.code)
                self.store.end_other_sessions(name, "", entry)
            raise LoginRefusedError(account=name)
        self.roles.check(role)
        if account is None:
            account = Account(
                name, identity.full_name[:200], source, role, None, False, None, 0, (), self.clock(), None, None
            )
            self.store.add_account(account, self._entry(name, caller, "account-added", f"{name} as {role}", "done"))
        elif account.role != role:
            entry = self._entry(name, caller, "account-role", f"{name} to {role}", "done")
            self.store.change_account(name, {"role": role}, entry, end=True)
        return replace(account, role=role)

    def _advance(
        self, account: Account, caller: Caller, *, passed: Stage | None, replaces: Session | None = None
    ) -> Login:
        """A session at the next stage that the account needs."""
        return self._start(account, self._next_stage(account, passed), caller, replaces)

    def _next_stage(self, account: Account, passed: Stage | None) -> Stage:
        if passed is None:
            return Stage.CODE
        if account.must_change and account.source == LOCAL:
            return Stage.PASSWORD
        if self.totp_required and account.totp is None:
            return Stage.ENROL
        return Stage.FULL

    def _start(
        self, account: Account, stage: Stage, caller: Caller, replaces: Session | None, data: Mapping[str, Any] = {}
    ) -> Login:
        token, now = credentials.new_token(), self.clock()
        ends_at = now + (LONGEST_SECONDS if stage is Stage.FULL else LOGIN_SECONDS)
        kept = {**(replaces.data if replaces else {}), **data}
        session = Session(
            credentials.token_hash(token), stage, caller.address, caller.agent[:200], now, now, ends_at, kept, account
        )
        self.store.add_session(session, replaces.id_hash if replaces else None)
        if stage is Stage.FULL and not (replaces and replaces.stage is Stage.FULL):
            self.store.note(self._entry(account.name, caller, "login", "", "done", session.short))
        return Login(token, session)

    def _take_code(self, account: Account, code: str, now: int) -> bool:
        assert self.key is not None
        secret = credentials.decrypt(self.key, account.name, account.totp) if account.totp else None
        step = credentials.totp_step(secret, code, now) if secret else None
        if step is not None:
            return self.store.take_step(account.name, step)
        return self.store.take_recovery(account.name, credentials.recovery_hash(code))

    def _check_old(self, account: Account, old: str, caller: Caller) -> None:
        """Whoever got hold of a session has not got the password by it."""
        subject = f"password:{account.name}"
        take_attempt(self.store, subject, (subject,), self.clock())
        if not credentials.password_fits(account.password, old):
            self._note(account.name, caller, "password", "", LoginFailedError.code)
            raise LoginFailedError()
        self.store.forget_failures([subject])

    def _known(self, name: str) -> Account:
        account = self.store.account(name)
        if account is None:
            raise AccountMissingError(name=name[:80])
        return account

    def _keep_administrator(self, account: Account, role: str | None) -> None:
        """Nobody takes the last way to administer away, by mistake or not."""
        if role is not None and self.roles.allows(role, ADMINISTER):
            return
        others = [other for other in self.store.accounts() if other.name != account.name and other.enabled]
        administers = account.enabled and self.roles.allows(account.role, ADMINISTER)
        if administers and not any(self.roles.allows(other.role, ADMINISTER) for other in others):
            raise LastAdministratorError(name=account.name)

    def _note(self, account: str, caller: Caller, act: str, subject: str, result: str) -> None:
        self.store.note(self._entry(account, caller, act, subject, result))

    def _entry(self, account: str, caller: Caller, act: str, subject: str, result: str, session: str = "") -> Entry:
        return Entry(self.clock(), account, caller.address, session, act, subject, result)


def check_name(name: str) -> str:
    """The name as it is kept, in lower case: :class:`AccountNameError`."""
    lower = name.strip().lower()
    if not _NAME.fullmatch(lower):
        raise AccountNameError(name=name[:80])
    return lower
