# SPDX-License-Identifier: Apache-2.0

"""Which programs run schedules."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0002"
down_revision = "0001"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "runners",
        Column("program", Text, primary_key=True),
        Column("computer", Text, primary_key=True),
        Column("seen_at", LONG, nullable=False),
        sqlite_strict=True,
    )
