# SPDX-License-Identifier: Apache-2.0
"""Run by Alembic inside :func:`volact.sql.migrate.upgrade`, which passes the connection with its open transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
