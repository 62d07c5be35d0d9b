# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's numbered migrations, run by :func:`volact.sql.migrate.upgrade`; see there for their rules."""
