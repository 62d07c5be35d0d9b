# SPDX-License-Identifier: Apache-2.0

"""Forests that KMS host keys have activated."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text, UniqueConstraint

revision = "0003"
down_revision = "0002"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "forest_activation",
        Column("id", LONG, primary_key=True, autoincrement=True),
        Column("key_id", Text, ForeignKey("product_key.key_id"), nullable=False),
        Column("identity", Text, nullable=False),
        Column("object_id", Text, nullable=False),
        Column("machine_id", LargeBinary, nullable=False),
        Column("at", LONG, nullable=False),
        Column("ends_at", LONG, nullable=False),
        Column("claim", Text, nullable=False),
        UniqueConstraint("key_id", "object_id"),
        sqlite_strict=True,
    )
