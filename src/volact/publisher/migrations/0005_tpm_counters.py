# SPDX-License-Identifier: Apache-2.0

"""Which TPM counter the licences of an activation are bound to."""

from alembic import op
from sqlalchemy import Column, LargeBinary

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("activation", Column("counter", LargeBinary))
