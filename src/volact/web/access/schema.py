# SPDX-License-Identifier: Apache-2.0
"""Accounts, sessions and the audit of a web site, in whatever database its room has.  What creates the tables is
``volact.web.migrations``; a test compares the two.  Times are Unix seconds, JSON is text, secrets are hashes or
encrypted.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text

METADATA = MetaData()

Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers are long already

# ``source``: who checks the password: ``local``, or the name of a login backend.  ``totp``: the authenticator's secret,
# encrypted; ``totp_step``: the last time step whose code was taken; ``recovery``: hashes of the codes that are left.
ACCOUNT = Table(
    "web_account",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("full_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("password", Text),
    Column("must_change", Integer, nullable=False),
    Column("totp", LargeBinary),
    Column("totp_step", Long, nullable=False),
    Column("recovery", Text, nullable=False),
    Column("added_at", Long, nullable=False),
    Column("last_login_at", Long),
    Column("disabled_at", Long),
    sqlite_strict=True,
)

# ``id_hash``: SHA-256 of what the browser holds.  ``stage``: how far the login has come.  ``data``: what pages keep.
SESSION = Table(
    "web_session",
    METADATA,
    Column("id_hash", Text, primary_key=True),
    Column("account", Text, ForeignKey("web_account.name", ondelete="CASCADE"), nullable=False),
    Column("stage", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("started_at", Long, nullable=False),
    Column("seen_at", Long, nullable=False),
    Column("ends_at", Long, nullable=False),
    Column("data", Text, nullable=False),
    Index("web_session_by_account", "account"),
    sqlite_strict=True,
)

# Wrong attempts to log in, by account and by address.
THROTTLE = Table(
    "web_throttle",
    METADATA,
    Column("subject", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", Long, nullable=False),
    sqlite_strict=True,
)

LOGIN_LINK = Table(
    "web_login_link",
    METADATA,
    Column("token_hash", Text, primary_key=True),
    Column("account", Text, ForeignKey("web_account.name", ondelete="CASCADE"), nullable=False),
    Column("ends_at", Long, nullable=False),
    sqlite_strict=True,
)

# Who did what.  Rows are only ever added; ``session`` is the beginning of its hash.
AUDIT = Table(
    "web_audit",
    METADATA,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("at", Long, nullable=False),
    Column("account", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("result", Text, nullable=False),
    Index("web_audit_by_account", "account", "id"),
    sqlite_strict=True,
)
