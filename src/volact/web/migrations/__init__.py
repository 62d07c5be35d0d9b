# SPDX-License-Identifier: Apache-2.0
"""Numbered steps of the ``web_`` tables (see ``volact.sql.migrate``)."""
