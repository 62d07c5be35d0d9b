# SPDX-License-Identifier: Apache-2.0
"""Durable tables: opening a database, transactions, migrations, named errors.  No tables of its own.

SQLite (one file, several processes of one machine) is the default; a PostgreSQL URL opens the same way.  Components
keep their tables in their own folder and come here for the rest.  Imports ``core``.
"""
