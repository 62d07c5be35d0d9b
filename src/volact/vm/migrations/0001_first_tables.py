# SPDX-License-Identifier: Apache-2.0

"""Guests, counters, events, daily numbers of guests, settings."""

from alembic import op
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Text

revision = "0001"
down_revision = None

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _create_guest()
    _create_records()


def _create_guest() -> None:
    op.create_table(
        "guest",
        Column("root", Text, primary_key=True),
        Column("product", Text, primary_key=True),
        Column("machine_id", LargeBinary, primary_key=True),
        Column("edition", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("os", Text, nullable=False),
        Column("first_seen", LONG, nullable=False),
        Column("last_seen", LONG, nullable=False),
        Column("last_licensed", LONG),
        Column("licensed_until", LONG),
        Column("refused", Text, nullable=False),
        Column("requests", LONG, nullable=False),
        Index("guest_by_edition", "root", "product", "edition", "last_licensed"),
        Index("guest_by_channel", "channel", "first_seen"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "daily_guests",
        Column("root", Text, primary_key=True),
        Column("product", Text, primary_key=True),
        Column("edition", Text, primary_key=True),
        Column("day", Integer, primary_key=True),
        Column("guests", Integer, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_records() -> None:
    op.create_table(
        "counter",
        Column("name", Text, primary_key=True),
        Column("value", LONG, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        Column("id", LONG, primary_key=True, autoincrement=True),
        Column("at", LONG, nullable=False),
        Column("level", Text, nullable=False),
        Column("code", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("machine_id", LargeBinary),
        Column("data", Text, nullable=False),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "setting",
        Column("key", Text, primary_key=True),
        Column("value", Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
