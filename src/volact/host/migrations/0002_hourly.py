# SPDX-License-Identifier: Apache-2.0

"""Requests hour by hour, for what is drawn over time."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0002"
down_revision = "0001"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "hourly",
        Column("hour", Integer, primary_key=True),
        Column("scope_id", Integer, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("value", LONG, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
