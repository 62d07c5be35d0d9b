# SPDX-License-Identifier: Apache-2.0

"""Definitions, generic keys, organisations, product keys, host activations, revocations, the ledger."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text, UniqueConstraint

revision = "0001"
down_revision = None

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _create_catalogue()
    _create_keys()
    _create_host_activation()
    _create_revocation()
    _create_ledger()


def _create_catalogue() -> None:
    op.create_table(
        "definition",
        Column("product", Text, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("issued_at", LONG, nullable=False),
        Column("token", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "generic_key",
        Column("product", Text, primary_key=True),
        Column("edition", Text, primary_key=True),
        Column("channel", Text, primary_key=True),
        Column("product_key", Text, nullable=False),
        sqlite_strict=True,
    )


def _create_keys() -> None:
    op.create_table(
        "organisation",
        Column("name", Text, primary_key=True),
        Column("added_at", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "product_key",
        Column("key_id", Text, primary_key=True),
        Column("partial", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("product", Text, nullable=False),
        Column("product_group", Integer, nullable=False),
        Column("organisation", Text, ForeignKey("organisation.name"), nullable=False),
        Column("hosts", Integer, nullable=False),
        Column("activations", Integer, nullable=False),
        Column("issued_at", LONG, nullable=False),
        Column("blocked_at", LONG),
        Column("blocked_reason", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("product_key_by_partial", "product_key", ["partial"])


def _create_host_activation() -> None:
    op.create_table(
        "host_activation",
        Column("id", LONG, primary_key=True, autoincrement=True),
        Column("key_id", Text, ForeignKey("product_key.key_id"), nullable=False),
        Column("machine_id", LargeBinary, nullable=False),
        Column("nonce", LargeBinary, nullable=False),
        Column("kind", Text, nullable=False),
        Column("at", LONG, nullable=False),
        Column("name", Text, nullable=False),
        Column("product", Text, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("serial", Text, nullable=False),
        Column("ends_at", LONG, nullable=False),
        Column("certificate", LargeBinary, nullable=False),
        UniqueConstraint("key_id", "machine_id", "nonce"),
        UniqueConstraint("serial"),
        sqlite_strict=True,
    )


def _create_revocation() -> None:
    op.create_table(
        "revocation_epoch",
        Column("epoch", Integer, primary_key=True),
        Column("at", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "revocation",
        Column("signer", Text, primary_key=True),
        Column("revoked_at", LONG, nullable=False),
        sqlite_strict=True,
    )


def _create_ledger() -> None:
    op.create_table(
        "ledger",
        Column("seq", LONG, primary_key=True, autoincrement=False),
        Column("at", LONG, nullable=False),
        Column("act", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("key_id", Text),
        Column("data", Text, nullable=False),
        Column("previous", Text, nullable=False),
        Column("hash", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ledger_by_act", "ledger", ["act", "key_id", "at"])
