# SPDX-License-Identifier: Apache-2.0

"""Scopes, machines and their histogram, fingerprints, counters, events, settings."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text, UniqueConstraint, text

revision = "0001"
down_revision = None

LONG = BigInteger().with_variant(Integer, "sqlite")

TRIGGERS = (
    """
    CREATE TRIGGER machine_inserted AFTER INSERT ON machine BEGIN
        INSERT INTO seen_day (scope_id, day, machines) VALUES (NEW.scope_id, NEW.last_seen_day, 1)
        ON CONFLICT (scope_id, day) DO UPDATE SET machines = machines + 1;
    END
    """,
    """
    CREATE TRIGGER machine_seen AFTER UPDATE OF scope_id, last_seen_day ON machine
    WHEN OLD.last_seen_day <> NEW.last_seen_day OR OLD.scope_id <> NEW.scope_id BEGIN
        UPDATE seen_day SET machines = machines - 1 WHERE scope_id = OLD.scope_id AND day = OLD.last_seen_day;
        DELETE FROM seen_day WHERE scope_id = OLD.scope_id AND day = OLD.last_seen_day AND machines = 0;
        INSERT INTO seen_day (scope_id, day, machines) VALUES (NEW.scope_id, NEW.last_seen_day, 1)
        ON CONFLICT (scope_id, day) DO UPDATE SET machines = machines + 1;
    END
    """,
    """
    CREATE TRIGGER machine_deleted AFTER DELETE ON machine BEGIN
        UPDATE seen_day SET machines = machines - 1 WHERE scope_id = OLD.scope_id AND day = OLD.last_seen_day;
        DELETE FROM seen_day WHERE scope_id = OLD.scope_id AND day = OLD.last_seen_day AND machines = 0;
    END
    """,
)


def upgrade() -> None:
    _create_scope()
    _create_machine()
    _create_histories()
    _create_records()
    for trigger in TRIGGERS:
        op.execute(trigger)


def _create_scope() -> None:
    scope = op.create_table(
        "scope",
        Column("id", Integer, primary_key=True),
        Column("root", Text, nullable=False),
        Column("product_group", Integer, nullable=False),
        Column("window_days", Integer, nullable=False),
        Column("collapse", Integer, nullable=False),
        UniqueConstraint("root", "product_group"),
        sqlite_strict=True,
    )
    op.bulk_insert(scope, [{"id": 0, "root": "", "product_group": 0, "window_days": 30, "collapse": 0}])


def _create_machine() -> None:
    op.create_table(
        "machine",
        Column("scope_id", Integer, ForeignKey("scope.id"), primary_key=True),
        Column("identity", LargeBinary, primary_key=True),
        Column("machine_id", LargeBinary),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("last_seen_day", Integer, nullable=False),
        Column("last_seen", LONG, nullable=False),
        Column("first_seen", LONG, nullable=False),
        Column("requests", LONG, nullable=False),
        Column("request_iat", LONG, nullable=False),
        Column("name", Text, nullable=False),
        Column("product", Text, nullable=False),
        Column("edition", Text, nullable=False),
        Column("state", Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "machine_by_machine_id",
        "machine",
        ["scope_id", "machine_id"],
        unique=True,
        sqlite_where=text("machine_id IS NOT NULL"),
    )
    op.create_table(
        "seen_day",
        Column("scope_id", Integer, primary_key=True),
        Column("day", Integer, primary_key=True),
        Column("machines", Integer, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_histories() -> None:
    op.create_table(
        "fingerprint_seen",
        Column("scope_id", Integer, primary_key=True),
        Column("machine_id", LargeBinary, primary_key=True),
        Column("fingerprint", LargeBinary, primary_key=True),
        Column("first_seen", LONG, nullable=False),
        Column("last_seen", LONG, nullable=False),
        Column("times", Integer, nullable=False),
        Column("proved_at", LONG),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "daily_count",
        Column("scope_id", Integer, primary_key=True),
        Column("day", Integer, primary_key=True),
        Column("machines", Integer, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_records() -> None:
    op.create_table(
        "counter",
        Column("scope_id", Integer, primary_key=True),
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
        Column("scope_id", Integer, nullable=False),
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
