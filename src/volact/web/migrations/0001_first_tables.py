# SPDX-License-Identifier: Apache-2.0

"""Accounts, sessions, attempts, login links, audit."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text

revision = "0001"
down_revision = None

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _create_accounts()
    _create_sessions()
    _create_audit()


def _create_accounts() -> None:
    op.create_table(
        "web_account",
        Column("name", Text, primary_key=True),
        Column("full_name", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("password", Text),
        Column("must_change", Integer, nullable=False),
        Column("totp", LargeBinary),
        Column("totp_step", LONG, nullable=False),
        Column("recovery", Text, nullable=False),
        Column("added_at", LONG, nullable=False),
        Column("last_login_at", LONG),
        Column("disabled_at", LONG),
        sqlite_strict=True,
    )


def _create_sessions() -> None:
    op.create_table(
        "web_session",
        Column("id_hash", Text, primary_key=True),
        Column("account", Text, ForeignKey("web_account.name", ondelete="CASCADE"), nullable=False),
        Column("stage", Text, nullable=False),
        Column("address", Text, nullable=False),
        Column("agent", Text, nullable=False),
        Column("started_at", LONG, nullable=False),
        Column("seen_at", LONG, nullable=False),
        Column("ends_at", LONG, nullable=False),
        Column("data", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("web_session_by_account", "web_session", ["account"])
    op.create_table(
        "web_throttle",
        Column("subject", Text, primary_key=True),
        Column("failures", Integer, nullable=False),
        Column("last_at", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "web_login_link",
        Column("token_hash", Text, primary_key=True),
        Column("account", Text, ForeignKey("web_account.name", ondelete="CASCADE"), nullable=False),
        Column("ends_at", LONG, nullable=False),
        sqlite_strict=True,
    )


def _create_audit() -> None:
    op.create_table(
        "web_audit",
        Column("id", LONG, primary_key=True, autoincrement=True),
        Column("at", LONG, nullable=False),
        Column("account", Text, nullable=False),
        Column("address", Text, nullable=False),
        Column("session", Text, nullable=False),
        Column("act", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("result", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("web_audit_by_account", "web_audit", ["account", "id"])
