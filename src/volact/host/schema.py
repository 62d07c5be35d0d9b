# SPDX-License-Identifier: Apache-2.0
"""The KMS host's tables, for Core statements.  What creates them is ``migrations/``; a test compares the two.

Times are Unix seconds, days are UTC days since 1970 (``core.count.day_of``), JSON is text.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData()

Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers are long already

# A publisher's product group, what a count is about.  Scope 0 is the host itself, for what belongs to no group.
# ``collapse`` is the policy's collapse_identical_hardware: its machines are then told apart by fingerprint.
SCOPE = Table(
    "scope",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("root", Text, nullable=False),
    Column("product_group", Integer, nullable=False),
    Column("window_days", Integer, nullable=False),
    Column("collapse", Integer, nullable=False),
    UniqueConstraint("root", "product_group"),
    sqlite_strict=True,
)

# One row for each thing counted.  ``identity`` is what tells them apart: the machine ID, or the fingerprint where the
# scope collapses.  ``machine_id`` is null where it is the identity, so that the index holds collapsing scopes only; in
# those a machine ID is at most once the latest of a fingerprint, and whoever changes hardware counts once.  No index on
# the last day: it would halve the writes at a million rows, and the histogram makes it needless.
MACHINE = Table(
    "machine",
    METADATA,
    Column("scope_id", Integer, ForeignKey("scope.id"), primary_key=True),
    Column("identity", LargeBinary, primary_key=True),
    Column("machine_id", LargeBinary),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("last_seen_day", Integer, nullable=False),
    Column("last_seen", Long, nullable=False),
    Column("first_seen", Long, nullable=False),
    Column("requests", Long, nullable=False),
    Column("request_iat", Long, nullable=False),
    Column("name", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("edition", Text, nullable=False),
    Column("state", Text, nullable=False),
    Index("machine_by_machine_id", "scope_id", "machine_id", unique=True, sqlite_where=text("machine_id IS NOT NULL")),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The histogram of last-seen days.  Only triggers on ``machine`` write it, so no statement can forget it.
SEEN_DAY = Table(
    "seen_day",
    METADATA,
    Column("scope_id", Integer, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("machines", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The fingerprints of a machine ID, and the machine IDs of a fingerprint, that have had more than one.  Written only
# when one replaces another; ``times`` is how often it did, ``proved_at`` when that last proved a clone.
FINGERPRINT_SEEN = Table(
    "fingerprint_seen",
    METADATA,
    Column("scope_id", Integer, primary_key=True),
    Column("machine_id", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("first_seen", Long, nullable=False),
    Column("last_seen", Long, nullable=False),
    Column("times", Integer, nullable=False),
    Column("proved_at", Long),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# What the count was at the end of each day: the histogram moves on and cannot tell.
DAILY_COUNT = Table(
    "daily_count",
    METADATA,
    Column("scope_id", Integer, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("machines", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Cumulative since the host was set up.
COUNTER = Table(
    "counter",
    METADATA,
    Column("scope_id", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Long, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The same counters hour by hour (Unix hours, UTC), without those that are sums of others: what happened when.
HOURLY = Table(
    "hourly",
    METADATA,
    Column("hour", Integer, primary_key=True),
    Column("scope_id", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Long, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Appended to, and cut off at its old end; numbers are never used twice, so a reader can go on where it was.
EVENT = Table(
    "event",
    METADATA,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("at", Long, nullable=False),
    Column("level", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("scope_id", Integer, nullable=False),
    Column("machine_id", LargeBinary),
    Column("data", Text, nullable=False),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

SETTING = Table(
    "setting",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
