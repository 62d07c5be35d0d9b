# SPDX-License-Identifier: Apache-2.0
"""SQL of accounts, sessions and audit; one function for each act, one transaction in each.  It decides nothing."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from volact.sql.engine import open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import read, write
from volact.web.access.records import Account, Entry, Session, Stage
from volact.web.access.schema import ACCOUNT, AUDIT, LOGIN_LINK, SESSION, THROTTLE
from volact.web.errors import AccountMissingError, AccountTakenError

MIGRATIONS = "volact.web.migrations"
MOST_TEXT = 500  # of what an audit row repeats from a request


class WebStore:
    """Over an engine that may be shared with the room's own tables."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        upgrade(engine, MIGRATIONS)

    @classmethod
    def open(cls, database: str | os.PathLike[str]) -> Self:
        return cls(open_engine(database))

    def close(self) -> None:
        self.engine.dispose()

    # ---- accounts

    def accounts(self) -> list[Account]:
        with read(self.engine) as conn:
            return [_account(row) for row in conn.execute(select(ACCOUNT).order_by(ACCOUNT.c.name))]

    def account(self, name: str) -> Account | None:
        with read(self.engine) as conn:
            row = conn.execute(select(ACCOUNT).where(ACCOUNT.c.name == name)).first()
        return _account(row) if row else None

    def add_account(self, account: Account, entry: Entry) -> None:
        """Raises :class:`AccountTakenError`."""
        try:
            with write(self.engine) as conn:
                conn.execute(insert(ACCOUNT).values(_values(account)))
                _note(conn, entry)
        except IntegrityError:
            raise AccountTakenError(name=account.name) from None

    def change_account(self, name: str, changes: Mapping[str, Any], entry: Entry | None, *, end: bool = False) -> None:
        """``end``: ends the sessions and links of the account too.  Raises :class:`AccountMissingError`."""
        with write(self.engine) as conn:
            changed = conn.execute(update(ACCOUNT).where(ACCOUNT.c.name == name).values(**changes)).rowcount
            if not changed:
                raise AccountMissingError(name=name)
            if end:
                conn.execute(delete(SESSION).where(SESSION.c.account == name))
                conn.execute(delete(LOGIN_LINK).where(LOGIN_LINK.c.account == name))
            if entry is not None:
                _note(conn, entry)

    def delete_account(self, name: str, entry: Entry) -> None:
        with write(self.engine) as conn:
            conn.execute(delete(SESSION).where(SESSION.c.account == name))
            conn.execute(delete(LOGIN_LINK).where(LOGIN_LINK.c.account == name))
            if not conn.execute(delete(ACCOUNT).where(ACCOUNT.c.name == name)).rowcount:
                raise AccountMissingError(name=name)
            _note(conn, entry)

    def take_step(self, name: str, step: int) -> bool:
        """Takes a code's time step once: false where it, or a later one, was taken before."""
        with write(self.engine) as conn:
            found = update(ACCOUNT).where(ACCOUNT.c.name == name, ACCOUNT.c.totp_step < step)
            return bool(conn.execute(found.values(totp_step=step)).rowcount)

    def take_recovery(self, name: str, code_hash: str) -> bool:
        """Takes a recovery code once."""
        with write(self.engine) as conn:
            text = conn.execute(select(ACCOUNT.c.recovery).where(ACCOUNT.c.name == name).with_for_update()).scalar()
            left = json.loads(text) if text else []
            if code_hash not in left:
                return False
            left.remove(code_hash)
            conn.execute(update(ACCOUNT).where(ACCOUNT.c.name == name).values(recovery=json.dumps(left)))
        return True

    # ---- sessions

    def add_session(self, session: Session, replaces: str | None = None) -> None:
        """In the place of an earlier one, and of those that have ended."""
        with write(self.engine) as conn:
            gone = or_(SESSION.c.id_hash == replaces, SESSION.c.ends_at < session.started_at)
            conn.execute(delete(SESSION).where(gone))
            conn.execute(
                insert(SESSION).values(
                    id_hash=session.id_hash, account=session.account.name, stage=session.stage,
                    address=session.address, agent=session.agent, started_at=session.started_at,
                    seen_at=session.seen_at, ends_at=session.ends_at, data=json.dumps(session.data),
                )
            )  # fmt: skip
            if session.stage is Stage.FULL:
                seen = update(ACCOUNT).where(ACCOUNT.c.name == session.account.name)
                conn.execute(seen.values(last_login_at=session.started_at))

    def session(self, id_hash: str) -> Session | None:
        with read(self.engine) as conn:
            row = conn.execute(_SESSIONS.where(SESSION.c.id_hash == id_hash)).first()
        return _session(row) if row else None

    def sessions(self, now: int, account: str | None = None) -> list[Session]:
        """Those that have not ended, the latest first."""
        wanted = _SESSIONS.where(SESSION.c.ends_at >= now).order_by(SESSION.c.seen_at.desc())
        if account is not None:
            wanted = wanted.where(SESSION.c.account == account)
        with read(self.engine) as conn:
            return [_session(row) for row in conn.execute(wanted)]

    def touch_session(self, id_hash: str, now: int) -> None:
        with write(self.engine) as conn:
            conn.execute(update(SESSION).where(SESSION.c.id_hash == id_hash).values(seen_at=now))

    def keep_data(self, id_hash: str, data: Mapping[str, Any]) -> None:
        with write(self.engine) as conn:
            conn.execute(update(SESSION).where(SESSION.c.id_hash == id_hash).values(data=json.dumps(data)))

    def end_session(self, id_hash: str, entry: Entry | None = None) -> None:
        with write(self.engine) as conn:
            conn.execute(delete(SESSION).where(SESSION.c.id_hash == id_hash))
            if entry is not None:
                _note(conn, entry)

    def end_other_sessions(self, account: str, kept: str, entry: Entry) -> None:
        with write(self.engine) as conn:
            conn.execute(delete(SESSION).where(SESSION.c.account == account, SESSION.c.id_hash != kept))
            _note(conn, entry)

    # ---- login links

    def add_link(self, token_hash: str, account: str, ends_at: int, entry: Entry) -> None:
        with write(self.engine) as conn:
            if conn.execute(select(ACCOUNT.c.name).where(ACCOUNT.c.name == account)).first() is None:
                raise AccountMissingError(name=account)
            conn.execute(delete(LOGIN_LINK).where(LOGIN_LINK.c.ends_at < entry.at))
            conn.execute(insert(LOGIN_LINK).values(token_hash=token_hash, account=account, ends_at=ends_at))
            _note(conn, entry)

    def take_link(self, token_hash: str, now: int) -> Account | None:
        """The account that a link logs in, once."""
        with write(self.engine) as conn:
            found = select(LOGIN_LINK.c.account, LOGIN_LINK.c.ends_at).where(LOGIN_LINK.c.token_hash == token_hash)
            row = conn.execute(found.with_for_update()).first()
            if row is None:
                return None
            conn.execute(delete(LOGIN_LINK).where(LOGIN_LINK.c.token_hash == token_hash))
            account = conn.execute(select(ACCOUNT).where(ACCOUNT.c.name == row.account)).first()
        return _account(account) if account and row.ends_at >= now else None

    # ---- attempts

    def failures(self, subjects: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Subject → number of wrong attempts, time of the last."""
        with read(self.engine) as conn:
            return _failures(conn, subjects)

    def take_attempt(
        self, subject: str, subjects: Sequence[str], now: int, wait: Callable[[Mapping[str, tuple[int, int]]], int]
    ) -> int:
        """Counts an attempt as a wrong one before it is made, or says how many seconds it has to wait: of a burst of
        attempts no two pass between looking and counting."""
        with write(self.engine) as conn:
            seconds = wait(_failures(conn, subjects))
            if seconds <= 0:
                _count_failure(conn, subject, now)
        return seconds

    def take_attempt_back(self, subject: str) -> None:
        """It was no wrong one."""
        with write(self.engine) as conn:
            mine = update(THROTTLE).where(THROTTLE.c.subject == subject, THROTTLE.c.failures > 0)
            conn.execute(mine.values(failures=THROTTLE.c.failures - 1))

    def note_failure(self, subjects: Sequence[str], now: int, forget_before: int) -> None:
        with write(self.engine) as conn:
            conn.execute(delete(THROTTLE).where(THROTTLE.c.last_at < forget_before))
            for subject in subjects:
                _count_failure(conn, subject, now)

    def forget_failures(self, subjects: Sequence[str]) -> None:
        with write(self.engine) as conn:
            conn.execute(delete(THROTTLE).where(THROTTLE.c.subject.in_(subjects)))

    # ---- audit

    def note(self, entry: Entry) -> None:
        with write(self.engine) as conn:
            _note(conn, entry)

    def audit(
        self, *, account: str = "", act: str = "", text: str = "", limit: int = 50, offset: int = 0
    ) -> tuple[list[Entry], int]:
        """The latest first, and how many there are in all; ``text`` is looked for in subject, address and result."""
        wanted = []
        if account:
            wanted.append(AUDIT.c.account == account)
        if act:
            wanted.append(AUDIT.c.act == act)
        if text:
            columns = (AUDIT.c.subject, AUDIT.c.address, AUDIT.c.result, AUDIT.c.account)
            wanted.append(or_(*(column.icontains(text, autoescape=True) for column in columns)))
        rows = select(AUDIT).where(*wanted).order_by(AUDIT.c.id.desc()).limit(limit).offset(offset)
        with read(self.engine) as conn:
            total = conn.execute(select(func.count()).select_from(AUDIT).where(*wanted)).scalar_one()
            return [_entry(row) for row in conn.execute(rows)], total

    def audit_acts(self) -> list[str]:
        with read(self.engine) as conn:
            return list(conn.execute(select(AUDIT.c.act).distinct().order_by(AUDIT.c.act)).scalars())


_SESSIONS = select(SESSION, ACCOUNT).join(ACCOUNT, SESSION.c.account == ACCOUNT.c.name)


def _failures(conn: Connection, subjects: Sequence[str]) -> dict[str, tuple[int, int]]:
    rows = conn.execute(select(THROTTLE).where(THROTTLE.c.subject.in_(subjects)))
    return {row.subject: (row.failures, row.last_at) for row in rows}


def _count_failure(conn: Connection, subject: str, now: int) -> None:
    more = update(THROTTLE).where(THROTTLE.c.subject == subject)
    if not conn.execute(more.values(failures=THROTTLE.c.failures + 1, last_at=now)).rowcount:
        conn.execute(insert(THROTTLE).values(subject=subject, failures=1, last_at=now))


def _note(conn: Connection, entry: Entry) -> None:
    conn.execute(
        insert(AUDIT).values(
            at=entry.at, account=entry.account[:MOST_TEXT], address=entry.address[:MOST_TEXT], session=entry.session,
            act=entry.act, subject=entry.subject[:MOST_TEXT], result=entry.result[:MOST_TEXT],
        )
    )  # fmt: skip


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.at, row.account, row.address, row.session, row.act, row.subject, row.result)


def _session(row: Row[Any]) -> Session:
    return Session(
        row.id_hash, Stage(row.stage), row.address, row.agent, row.started_at, row.seen_at, row.ends_at,
        json.loads(row.data), _account(row),
    )  # fmt: skip


def _account(row: Row[Any]) -> Account:
    return Account(
        row.name, row.full_name, row.source, row.role, row.password, bool(row.must_change), row.totp, row.totp_step,
        tuple(json.loads(row.recovery)), row.added_at, row.last_login_at, row.disabled_at,
    )  # fmt: skip


def _values(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "full_name": account.full_name,
        "source": account.source,
        "role": account.role,
        "password": account.password,
        "must_change": int(account.must_change),
        "totp": account.totp,
        "totp_step": account.totp_step,
        "recovery": json.dumps(account.recovery),
        "added_at": account.added_at,
        "last_login_at": account.last_login_at,
        "disabled_at": account.disabled_at,
    }
