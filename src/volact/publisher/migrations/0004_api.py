# SPDX-License-Identifier: Apache-2.0

"""Tokens of the HTTP API, and the answers that were given to requests with an idempotency key."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Text, UniqueConstraint

revision = "0004"
down_revision = "0003"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_token",
        Column("id", Text, primary_key=True),
        Column("digest", LargeBinary, nullable=False),
        Column("label", Text, nullable=False),
        Column("organisation", Text),
        Column("role", Text),
        Column("scopes", Text, nullable=False),
        Column("made_at", LONG, nullable=False),
        Column("made_by", Text, nullable=False),
        Column("expires_at", LONG, nullable=False),
        Column("last_used_at", LONG),
        Column("revoked_at", LONG),
        UniqueConstraint("digest"),
        sqlite_strict=True,
    )
    op.create_table(
        "api_answer",
        Column("token", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("request", LargeBinary, nullable=False),
        Column("at", LONG, nullable=False),
        Column("sealed", LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("api_answer_by_time", "api_answer", ["at"])
