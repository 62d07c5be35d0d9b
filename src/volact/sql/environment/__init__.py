# SPDX-License-Identifier: Apache-2.0
"""Where Alembic runs the migrations of every room; ``env.py`` is run by Alembic, never imported."""
