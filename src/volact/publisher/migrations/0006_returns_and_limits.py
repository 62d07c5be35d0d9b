# SPDX-License-Identifier: Apache-2.0

"""When an activation was given back by its machine's clock; and the limits that processes of the HTTP API share."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0006"
down_revision = "0005"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.add_column("activation", Column("proof_at", LONG))
    op.create_table(
        "api_limit",
        Column("caller", Text, primary_key=True),
        Column("due", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("api_limit_by_due", "api_limit", ["due"])
