# SPDX-License-Identifier: Apache-2.0

"""Agreements, and the activation of machines by MAK and retail keys."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text, text

revision = "0002"
down_revision = "0001"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _create_agreements()
    _extend_keys()
    _create_activations()


def _create_agreements() -> None:
    op.create_table(
        "agreement",
        Column("name", Text, primary_key=True),
        Column("organisation", Text, ForeignKey("organisation.name"), nullable=False),
        Column("starts_at", LONG, nullable=False),
        Column("ends_at", LONG),
        Column("added_at", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "agreement_quantity",
        Column("agreement", Text, ForeignKey("agreement.name"), primary_key=True),
        Column("product_group", Integer, primary_key=True, autoincrement=False),
        Column("quantity", Integer, nullable=False),
        sqlite_strict=True,
    )


def _extend_keys() -> None:
    """In plain SQL: SQLite adds a reference to a table only together with its column."""
    for column in (
        "agreement TEXT REFERENCES agreement(name)",
        "used INTEGER NOT NULL DEFAULT 0",
        f"lookup {_bytes()}",
        "superseded_by TEXT",
    ):
        op.execute(f"ALTER TABLE product_key ADD COLUMN {column}")
    op.execute("ALTER TABLE organisation ADD COLUMN blocked_at " + ("BIGINT" if _postgresql() else "INTEGER"))
    op.create_index("product_key_by_lookup", "product_key", ["lookup"])


def _create_activations() -> None:
    op.create_table(
        "activation",
        Column("id", LONG, primary_key=True, autoincrement=False),
        Column("key_id", Text, ForeignKey("product_key.key_id"), nullable=False),
        Column("machine_id", LargeBinary, nullable=False),
        Column("product", Text, nullable=False),
        Column("edition", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("nonce", LargeBinary, nullable=False),
        Column("first_at", LONG, nullable=False),
        Column("last_at", LONG, nullable=False),
        Column("times", Integer, nullable=False),
        Column("used", Integer, nullable=False),
        Column("returned_at", LONG),
        Column("credited", Integer),
        sqlite_strict=True,
    )
    op.create_index("activation_by_machine", "activation", ["key_id", "machine_id"])
    returned = text("returned_at IS NOT NULL")
    op.create_index(
        "activation_returned", "activation", ["key_id", "returned_at"],
        sqlite_where=returned, postgresql_where=returned,
    )  # fmt: skip
    op.create_table(
        "activation_trait",
        Column("key_id", Text, primary_key=True),
        Column("trait", LargeBinary, primary_key=True),
        Column("activation_id", LONG, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "activation_request",
        Column("nonce", LargeBinary, primary_key=True),
        Column("machine_id", LargeBinary, primary_key=True),
        Column("key_id", Text, primary_key=True),
        Column("activation_id", LONG, nullable=False),
        Column("at", LONG, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _bytes() -> str:
    return "BYTEA" if _postgresql() else "BLOB"
