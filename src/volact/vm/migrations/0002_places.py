# SPDX-License-Identifier: Apache-2.0

"""The places that guests take, apart for each edition."""

from alembic import op
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Text

revision = "0002"
down_revision = "0001"

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "guest_place",
        Column("root", Text, primary_key=True),
        Column("product", Text, primary_key=True),
        Column("edition", Text, primary_key=True),
        Column("machine_id", LargeBinary, primary_key=True),
        Column("last_licensed", LONG, nullable=False),
        Index("guest_place_by_time", "root", "product", "edition", "last_licensed"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO guest_place (root, product, edition, machine_id, last_licensed) "
        "SELECT root, product, edition, machine_id, last_licensed FROM guest WHERE last_licensed IS NOT NULL"
    )
    op.drop_index("guest_by_edition", "guest")
